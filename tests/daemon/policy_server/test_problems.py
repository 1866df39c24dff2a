"""Errors become statuses here, and a robot that was not told what to do is told to hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from daemon.policy_server.problems import InstructionChanged, held
from robot_bridge.errors import (
    BadObservation,
    IdempotencyMismatch,
    PolicyFailed,
    RobotBridgeError,
    UnknownSession,
)
from robot_bridge.protocol import PROBLEM_TYPE, Problem
from robot_bridge.station import problems
from robot_bridge.transport import error_of_problem

ERRORS = [
    (BadObservation(thing="picture", expected="a JPEG", found="ink"), 422),
    (IdempotencyMismatch(thing="session s"), 422),
    (UnknownSession(session="s"), 409),
    (PolicyFailed(url="nano", reason="it is tired"), 503),
    (InstructionChanged(expected="'a'", found="'b'"), 409),
]


@pytest.mark.parametrize(("error", "status"), ERRORS, ids=lambda part: getattr(part, "code", str(part)))
def test_an_error_leaves_as_a_problem_that_says_what_to_do(error: RobotBridgeError, status: int) -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    def refuses() -> None:
        raise error

    answer = TestClient(app).get("/")
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, PROBLEM_TYPE)
    problem = Problem.model_validate_json(answer.content)
    assert (problem.status, problem.code, problem.detail) == (status, error.code, str(error))


def test_a_held_action_travels_with_the_problem_that_caused_it() -> None:
    error = UnknownSession(session="s")  # 409 elsewhere; an arm that waits for an action needs a 503
    answer = held(error, np.array([0, 0, 0, 0, 0, 0, 0.25], np.float32))
    body = json.loads(bytes(answer.body))
    assert (answer.status_code, body["status"], body["title"]) == (503, 503, "Service Unavailable")
    assert (body["code"], body["action"]) == ("unknown_session", [0.0] * 6 + [0.25])
    assert answer.media_type == PROBLEM_TYPE


def test_a_reader_of_problems_does_not_stumble_over_the_action() -> None:
    answer = held(PolicyFailed(url="nano", reason="it is tired"), np.zeros(7, np.float32))
    error = error_of_problem(Problem.model_validate_json(bytes(answer.body)))
    assert isinstance(error, PolicyFailed)
    assert "it is tired" in str(error)
