"""Refusals whose status depends on more than their code, and an OpenAPI document that tells of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_bridge.errors import CameraStale, RobotBridgeError, StationRefused
from robot_bridge.protocol import PROBLEM_TYPE, Problem
from robot_bridge.station.doors import CALLS
from robot_bridge.station.problems import answer_problem
from tests.robot_bridge.station.wire import a_wire


class CameraDreams(CameraStale):
    code = "camera_dreams"
    sentence = "camera {camera} dreams."


class TooTired(StationRefused):
    code = "too_tired"
    retryable = True


class TooProud(StationRefused):
    code = "too_proud"


class Inexplicable(RobotBridgeError):
    code = "inexplicable"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CameraDreams(camera="primary"), 503),  # that of the class it is derived from
        (TooTired(detail="later"), 503),
        (TooProud(detail="no"), 409),
        (Inexplicable(detail="?"), 500),
    ],
    ids=lambda value: getattr(value, "code", value),
)
def test_an_error_that_the_table_does_not_know_gets_the_status_of_its_kind(error, status):
    answer = answer_problem(error)
    body = Problem.model_validate_json(answer.body)
    assert (answer.status_code, body.status, body.code) == (status, status, error.code)
    assert answer.headers["content-type"] == PROBLEM_TYPE


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict:
    root: Path = tmp_path_factory.mktemp("openapi")
    with a_wire(root / "spool") as wire:
        return wire.http.get("/openapi.json").json()


def test_every_call_tells_that_it_may_be_refused_and_how(document):
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            for kind in ("4XX", "5XX"):
                content = call["responses"][kind]["content"]
                assert list(content) == [PROBLEM_TYPE], (method, path)
            assert "422" not in call["responses"], (method, path)
    schemas = document["components"]["schemas"]
    assert set(schemas["Problem"]["required"]) == {"type", "title", "status", "detail", "code"}
    assert "HTTPValidationError" not in schemas


def test_every_reference_of_the_document_leads_somewhere(document):
    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return here + [ref for value in node.values() for ref in references(value)]
        return [ref for value in node for ref in references(value)] if isinstance(node, list) else []

    found = references(document)
    assert found
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_the_calls_of_the_document_are_those_that_the_doors_know(document):
    served = {(m.upper(), path) for path, calls in document["paths"].items() for m in calls}
    known = {(method, path) for method, path, _ in CALLS if path != "/openapi.json"}

    def shape(path: str) -> str:
        return "/".join("*" if part[:1] in {"{", "["} else part for part in path.split("/"))

    assert {(method, shape(path)) for method, path in served} == {
        (method, shape(path.replace("[^/]+", "{x}"))) for method, path in known
    }


def test_the_answers_of_the_document_are_those_of_the_protocol(document):
    def answer(method: str, path: str, status: str) -> str:
        content = document["paths"][path][method]["responses"][status]["content"]
        return content["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]

    assert answer("post", "/v1/episodes/{episode_id}/start", "202") == "EpisodeStateAnswer"
    assert answer("post", "/v1/episodes/{episode_id}/finish", "200").startswith("Manifest")
    assert answer("get", "/v1/status", "200") == "StatusAnswer"
    assert answer("post", "/v1/leases", "201") == "LeaseAnswer"
    blob = document["paths"]["/v1/episodes/{episode_id}/blobs/{sha256}"]["get"]["responses"]
    assert list(blob["200"]["content"]) == list(blob["206"]["content"]) == ["application/octet-stream"]
