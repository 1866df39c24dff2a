"""What a station reads a body as: one thing, or nothing."""

from __future__ import annotations

import json

import pytest

from robot_bridge.station.plain_json import PlainJsonRoute
from tests.robot_bridge.builders import a_request, forward
from tests.robot_bridge.station.wire import JSON, Wire, a_wire, problem

STEP = '"actions": [[0.01, 0, 0, 0, 0, 0, 1]]'


@pytest.fixture
def wire(tmp_path):
    with a_wire(tmp_path) as wire:
        wire.lease()
        assert wire.create().status_code == 200
        yield wire


def send(wire: Wire, path: str, body: str | bytes):
    return wire.http.post(path, content=body, headers={"Fence": wire.fence, **JSON})


@pytest.mark.parametrize(
    "body",
    [
        '{"t": 0, "t": 0, %s}',
        '{"t": 5, "t": 0, %s}',
        '{%s, "t": 0, "actions": [[0.05, 0, 0, 0, 0, 0, 1]]}',
        '{"t": 0, "\\u0074": 0, %s}',  # the same name, written differently
    ],
    ids=range(4),
)
def test_a_field_that_comes_twice_moves_nothing(wire, body):
    answer = send(wire, "/v1/episodes/e1/steps", body % STEP)
    found = problem(answer)
    assert (answer.status_code, found.code) == (422, "bad_request")
    assert "came more than once" in found.detail
    assert wire.session.recording.count == 0


def test_a_field_that_comes_twice_further_down_is_refused_too(wire):
    wire.step(0, forward())
    wire.post("/v1/episodes/e1/finish", {"reason": "completed"})
    tree = json.dumps(a_request(episode_id="e2", metadata={"a": "1"}).model_dump(mode="json"))
    answer = send(wire, "/v1/episodes", tree.replace('{"a": "1"}', '{"a": "1", "a": "2"}'))
    assert answer.status_code == 422
    assert "field 'a' came more than once" in problem(answer).detail
    assert send(wire, "/v1/episodes", tree).status_code == 200


@pytest.mark.parametrize(
    "metadata",
    [b'{"a": "\\ud800"}', b'{"\\uDFFF": "a"}', b'{"a": "\xed\xa0\x80"}', b'{"a": "\xff"}'],
    ids=["value", "name", "bytes of one", "no UTF-8"],
)
def test_a_character_that_no_manifest_can_hold_opens_no_episode(wire, metadata):
    wire.step(0, forward())
    wire.post("/v1/episodes/e1/finish", {"reason": "completed"})
    tree = json.dumps(a_request(episode_id="e2").model_dump(mode="json")).encode()
    answer = send(wire, "/v1/episodes", tree.replace(b'"metadata": {}', b'"metadata": ' + metadata))
    assert (answer.status_code, problem(answer).code) == (422, "bad_request")
    assert wire.session.recording is None


def test_whole_characters_are_kept_however_they_are_written(wire):
    wire.step(0, forward())
    wire.post("/v1/episodes/e1/finish", {"reason": "completed"})
    tree = json.dumps(a_request(episode_id="e2").model_dump(mode="json"))
    body = tree.replace('"metadata": {}', '"metadata": {"a": "\\ud83e\\udd7e", "b": "é"}')
    assert send(wire, "/v1/episodes", body).status_code == 200
    assert wire.session.recording.request.metadata == {"a": "\U0001f97e", "b": "é"}


@pytest.mark.parametrize("number", ["true", '"0"', "0.0"])
def test_a_number_is_a_number_and_nothing_like_it(wire, number):
    answer = send(wire, "/v1/episodes/e1/steps", f'{{"t": {number}, {STEP}}}')
    assert (answer.status_code, problem(answer).code) == (422, "bad_request")
    assert wire.session.recording.count == 0


@pytest.mark.parametrize("number", ["true", '"0.01"', "null"])
def test_an_action_holds_numbers_and_nothing_like_them(wire, number):
    body = f'{{"t": 0, "actions": [[{number}, 0, 0, 0, 0, 0, 1]]}}'
    answer = send(wire, "/v1/episodes/e1/steps", body)
    assert (answer.status_code, problem(answer).code) == (422, "bad_request")
    assert wire.session.recording.count == 0


@pytest.mark.parametrize("body", ["", "{", "[" * 10_000, "nothing", "9" * 5000])
def test_what_is_no_json_is_a_bad_request(wire, body):
    answer = send(wire, "/v1/episodes/e1/steps", body)
    assert (answer.status_code, problem(answer).code) == (422, "bad_request")


def test_every_call_that_reads_a_body_reads_it_so(wire):
    routes = [
        route for route in _routes(wire.http.app.routes) if getattr(route, "body_field", None) is not None
    ]
    assert len(routes) > 10
    loose = {route.path for route in routes if not isinstance(route, PlainJsonRoute)}
    assert loose == set()


def _routes(routes):
    for route in routes:
        below = getattr(getattr(route, "original_router", None), "routes", None)
        yield from (_routes(below) if below is not None else [route])
