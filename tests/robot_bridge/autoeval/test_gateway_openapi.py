"""The gateway's OpenAPI is true: what it documents is what is answered to anything made from it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from robot_bridge.autoeval.gateway import Gateway
from tests.robot_bridge.autoeval.gateway_builders import (
    CAPABILITY,
    Caller,
    FakePolicy,
    a_body,
    a_gateway,
    a_job,
    a_test_call,
    a_tree,
)
from tests.robot_bridge.builders import Clock

# Not asked for: that all which the schema allows is accepted; no schema can say what base64 must hold.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
CALLS = ["POST /j/{capability}/act", "POST /j/{capability}/reset", "GET /j/{capability}/health"]


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    gateway = a_gateway(tmp_path, Clock())
    gateway.open(a_job(), FakePolicy())
    return gateway


def act_schema(gateway: Gateway, part: str) -> dict:  # type: ignore[type-arg]
    act = gateway.app.openapi()["paths"]["/j/{capability}/act"]["post"]
    place = act["requestBody"] if part == "request" else act["responses"]["200"]
    schema: dict = place["content"]["application/json"]["schema"]  # type: ignore[type-arg]
    return schema


@pytest.mark.parametrize(
    ("call", "mode"),
    [
        *((call, GenerationMode.POSITIVE) for call in CALLS),
        (CALLS[0], GenerationMode.NEGATIVE),  # the others have no body that could be wrong
    ],
    ids=lambda part: part.value if isinstance(part, GenerationMode) else part.rsplit("/", 1)[1],
)
@pytest.mark.parametrize("known", [False, True], ids=["stranger", "autoeval"])
def test_whatever_is_made_from_it_is_answered_as_it_says(gateway, call, known, mode):
    schema = schemathesis.openapi.from_asgi("/openapi.json", gateway.app)
    (operation,) = [found.ok() for found in schema.get_all_operations() if found.ok().label == call]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: schemathesis.Case) -> None:
        if known:
            case.path_parameters = {"capability": CAPABILITY}
        case.validate_response(case.call(), checks=CHECKS)

    ask()


def test_it_names_autoevals_three_calls_and_no_other(gateway):
    paths = gateway.app.openapi()["paths"]
    assert sorted(f"{method.upper()} {path}" for path, calls in paths.items() for method in calls) == sorted(
        CALLS
    )


def test_it_is_served_without_a_capability_in_it(gateway):
    answer = Caller(gateway).client.get("/openapi.json")
    assert answer.status_code == 200
    assert CAPABILITY not in answer.text


@pytest.mark.parametrize(
    "body", [a_body(), a_body(encoded=True), a_test_call(), a_body(unnorm_key="x")], ids=range(4)
)
def test_what_autoeval_sends_fits_it(gateway, body):
    jsonschema_rs.validate(act_schema(gateway, "request"), json.loads(body))


@pytest.mark.parametrize(
    "changes",
    [
        {"more": 1},
        {"instruction": ""},
        {"image": []},
        {"image": {**a_tree()["image"], "dtype": "|O"}},
        {"image": {**a_tree()["image"], "shape": [256, 256]}},
        {"proprio": {**a_tree()["proprio"], "shape": [7]}},
        {"proprio": None},
    ],
    ids=range(7),
)
def test_what_does_not_fit_it_is_refused(gateway, changes):
    body = a_body(**changes)
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(act_schema(gateway, "request"), json.loads(body))
    caller = Caller(gateway)
    caller.reset()
    assert caller.act(body).status_code == 422


@pytest.mark.parametrize("encoded", [False, True])
def test_what_is_answered_fits_it(gateway, encoded):
    caller = Caller(gateway)
    caller.reset()
    jsonschema_rs.validate(act_schema(gateway, "answer"), caller.act(encoded=encoded).json())
