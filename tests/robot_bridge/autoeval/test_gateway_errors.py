"""The gateway's refusals: one code and one status each, and nothing in them that AutoEval must not know."""

from __future__ import annotations

import json
import string

import pytest

from robot_bridge.autoeval import gateway_errors
from robot_bridge.autoeval.gateway_errors import (
    STATUS,
    BodyTooSlow,
    GatewayRefused,
    RequestInFlight,
    ResetFirst,
    answer_problem,
    status_of,
)
from robot_bridge.autoeval.recorder import RecordingFailed
from robot_bridge.errors import BadRequest, PolicyFailed, PolicyUnreachable, RobotBridgeError
from robot_bridge.protocol import Problem

REFUSALS = GatewayRefused.__subclasses__()


def all_errors(root: type[RobotBridgeError] = RobotBridgeError) -> list[type[RobotBridgeError]]:
    return [root, *(error for child in root.__subclasses__() for error in all_errors(child))]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.__name__)
def test_every_refusal_is_drawn_in_the_tree_and_says_what_it_is_about(refusal):
    assert refusal.__name__ in str(gateway_errors.__doc__)
    assert [name for _, name, _, _ in string.Formatter().parse(refusal.sentence) if name]
    assert refusal.sentence.endswith(".")
    assert refusal.status >= 400


def test_no_code_is_in_use_elsewhere():
    codes = [error.code for error in all_errors() if error.__module__.startswith("robot_bridge.")]
    ours = [refusal.code for refusal in REFUSALS]
    assert [code for code in ours if codes.count(code) != 1] == []


def test_errors_of_others_that_can_reach_autoeval_are_errors_that_exist():
    assert set(STATUS) <= {error.code for error in all_errors()}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ResetFirst(job_id="j"), 409),
        (RequestInFlight(job_id="j"), 429),
        (BodyTooSlow(limit_s=10), 408),
        (BadRequest(thing="t", reason="r"), 422),
        (PolicyFailed(url="u", reason="r"), 503),
    ],
    ids=lambda part: getattr(part, "code", part),
)
def test_the_answer_is_a_problem_that_says_what_was_refused(error, status):
    answer = answer_problem(error)
    problem = Problem.model_validate_json(bytes(answer.body))
    assert answer.status_code == problem.status == status_of(error) == status
    assert answer.media_type == "application/problem+json"
    assert (problem.code, problem.retryable) == (error.code, error.retryable)


def test_only_a_request_that_overtook_another_is_told_when_to_come_again():
    assert answer_problem(RequestInFlight(job_id="j")).headers["Retry-After"] == "1"
    assert "Retry-After" not in answer_problem(ResetFirst(job_id="j")).headers


@pytest.mark.parametrize(
    "error",
    [
        PolicyUnreachable(url="http://10.0.0.7:8000", call="act", waited_s=2, reason="refused"),
        PolicyFailed(url="http://10.0.0.7:8000", reason="File /home/lab/secret.py"),
        RecordingFailed(job_id="j", path="/home/lab/spool", reason="No space left"),
    ],
    ids=lambda error: error.code,
)
def test_what_went_wrong_at_home_is_said_in_the_log_and_not_to_the_internet(error, caplog):
    body = bytes(answer_problem(error).body)
    for secret in (b"10.0.0.7", b"/home/lab"):
        assert secret not in body
    assert json.loads(body)["status"] == 503
    assert str(error) in caplog.text
