"""AutoEval's three calls, byte for byte, and what a stranger gets to see: nothing."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from robot_bridge.autoeval.wire import MAX_BODY_BYTES, encode_array
from tests.robot_bridge.autoeval.gateway_builders import (
    CAPABILITY,
    OTHER_CAPABILITY,
    Caller,
    FakePolicy,
    a_body,
    a_job,
    a_proprio,
    a_test_call,
    decided,
    refusal,
)


def test_reset_is_answered_200_with_json(autoeval):
    answer = autoeval.reset()
    assert (answer.status_code, answer.json()) == (200, {"status": "reset"})
    assert answer.headers["content-type"] == "application/json"


def test_an_action_is_a_json_list_of_seven_numbers(autoeval):
    autoeval.reset()
    answer = autoeval.act()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == decided("job-1-0", 0)


def test_an_encoded_question_is_answered_with_a_json_string(autoeval):
    autoeval.reset()
    reply = autoeval.act(encoded=True).json()
    assert isinstance(reply, str)
    assert json.loads(reply) == decided("job-1-0", 0)


def test_the_form_may_change_from_call_to_call(autoeval):
    autoeval.reset()
    replies = [autoeval.act(encoded=encoded).json() for encoded in (False, True, False)]
    assert [type(reply) for reply in replies] == [list, str, list]


def test_health_says_that_the_job_is_open(autoeval):
    assert (autoeval.health().status_code, autoeval.health().json()) == (200, {"status": "healthy"})


def test_a_body_of_reset_is_not_looked_at(autoeval):
    answer = autoeval.client.post(f"{autoeval.path}/reset", content=b"\xff{not json")
    assert answer.status_code == 200


@pytest.mark.parametrize("reset_first", [False, True])
def test_the_connection_test_is_answered_and_never_recorded(gateway, policy, autoeval, reset_first):
    if reset_first:
        autoeval.reset()
    for _ in range(3):
        answer = autoeval.act(a_test_call())
        assert (answer.status_code, np.shape(answer.json())) == (200, (7,))
        assert answer.json()[:6] == [0.0] * 6
    assert policy.asked == []
    gateway.close("job-1")
    assert gateway.attempts("job-1") == []


def test_the_connection_test_begins_nothing(gateway, autoeval):
    autoeval.act(a_test_call())
    assert not gateway.begun("job-1")
    assert refusal(autoeval.act()) == (409, "reset_first")


def test_the_connection_test_has_an_encoded_form_too(autoeval):
    body = json.dumps({"encoded": a_test_call().decode()}).encode()
    assert np.shape(json.loads(autoeval.act(body).json())) == (7,)


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (b"", (422, "bad_request")),
        (b"not json", (422, "bad_request")),
        (b"[" * 100_000, (422, "bad_request")),
        (a_body(more=1), (422, "bad_request")),
        (a_body(proprio=encode_array(a_proprio(x=0.7))), (422, "bad_observation")),
        (a_body(image=encode_array(np.zeros((224, 224, 3), np.uint8))), (422, "bad_observation")),
        (a_body(instruction="close the drawer"), (422, "wrong_instruction")),
        (a_body(instruction="Open the drawer"), (422, "wrong_instruction")),
        (a_body(instruction="test connection"), (422, "wrong_instruction")),
        (b" " * (MAX_BODY_BYTES + 1), (413, "too_large")),
    ],
    ids=lambda part: ascii(part)[-30:] if isinstance(part, bytes) else part[1],
)
def test_a_body_that_is_not_this_jobs_is_refused_and_the_attempt_goes_on(
    gateway, policy, autoeval, body, refused
):
    autoeval.reset()
    assert refusal(autoeval.act(body)) == refused
    assert policy.asked == []
    assert autoeval.acts(1) == [decided("job-1-0", 0)]
    gateway.close("job-1")
    assert [attempt.steps for attempt in gateway.attempts("job-1")] == [1]


def test_the_largest_body_that_is_read_is_a_mebibyte(autoeval):
    autoeval.reset()
    body = a_body()
    assert autoeval.act(body + b" " * (MAX_BODY_BYTES - len(body))).status_code == 200


CALLS = [("POST", "act"), ("POST", "reset"), ("GET", "health")]


@pytest.mark.parametrize(("method", "call"), CALLS)
def test_a_path_that_never_was_and_one_that_is_closed_get_the_very_same_answer(gateway, policy, method, call):
    gateway.open(a_job(job_id="job-2", capability=OTHER_CAPABILITY), FakePolicy())
    gateway.close("job-2")
    client = Caller(gateway).client
    bodies = [a_body(), b"", b"nonsense", b" " * (MAX_BODY_BYTES + 1), a_test_call()]
    answers = [
        client.request(method, f"/j/{capability}/{call}", content=body)
        for capability in (
            OTHER_CAPABILITY,
            "f" * 32,
            "x",
            CAPABILITY[:-1],
            CAPABILITY.upper(),
            "é",
            "%00",
            "%ff",
        )
        for body in bodies
    ]
    assert {refusal(answer) for answer in answers} == {(404, "unknown_capability")}
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers.items())) for answer in answers}) == 1
    assert policy.asked == policy.resets == []


def test_two_jobs_are_answered_each_under_its_own_path_with_its_own_policy(gateway, policy, autoeval):
    other = FakePolicy()
    gateway.open(a_job(job_id="job-2", capability=OTHER_CAPABILITY, instruction="close the drawer"), other)
    neighbour = Caller(gateway, OTHER_CAPABILITY)
    autoeval.reset()
    neighbour.reset()
    neighbour.reset()
    assert autoeval.act().json() == decided("job-1-0", 0)
    assert neighbour.act(instruction="close the drawer").json() == decided("job-2-1", 0)
    assert refusal(neighbour.act()) == (422, "wrong_instruction")
    assert [request.session for request in other.resets] == ["job-2-0", "job-2-1"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/j/{CAPABILITY}/act", 405),
        ("DELETE", f"/j/{CAPABILITY}/reset", 405),
        ("POST", f"/j/{CAPABILITY}/health", 405),
        ("POST", f"/j/{CAPABILITY}/act/", 404),
        ("POST", f"/j/{CAPABILITY}", 404),
        ("POST", f"/{CAPABILITY}/act", 404),
        ("POST", f"/j/{CAPABILITY}/x/act", 404),
        ("POST", "/act", 404),
        ("GET", "/", 404),
        ("GET", "/docs", 404),
    ],
)
def test_any_other_call_is_refused_without_repeating_the_path(autoeval, method, path, status):
    answer = autoeval.client.request(method, path, follow_redirects=False)
    assert refusal(answer) == (status, "unknown_gateway_call")
    assert CAPABILITY not in answer.text
    assert ("allow" in answer.headers) is (status == 405)


def test_no_log_line_and_no_refusal_holds_a_capability(gateway, policy, autoeval, caplog):
    for logger in ("httpx", "httpx2", "httpcore", "httpcore2", "asyncio"):
        caplog.set_level(logging.CRITICAL, logger=logger)  # the client's own lines, which know its URLs
    caplog.set_level(logging.DEBUG)
    policy.fault = RuntimeError("out of memory")
    autoeval.reset()
    answers = [autoeval.act() for _ in range(7)]
    answers += [autoeval.act(b"x"), autoeval.act(instruction="no"), autoeval.act(b" " * 2**21)]
    gateway.open(a_job(), policy)
    gateway.close("job-1")
    answers += [autoeval.act(), autoeval.reset(), autoeval.health()]
    assert len(caplog.records) > 8
    assert CAPABILITY not in caplog.text
    assert [answer for answer in answers if CAPABILITY in answer.text] == []
    assert "job=job-1" in caplog.text


def test_the_blank_picture_of_a_covered_camera_is_a_step_like_any_other(gateway, policy, autoeval):
    autoeval.reset()
    blank = encode_array(np.zeros((256, 256, 3), np.uint8))
    assert autoeval.act(image=blank).status_code == 200
    assert len(policy.asked) == 1
