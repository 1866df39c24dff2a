"""The only place where an error of the policy server becomes an HTTP status and a body.

What the station's own table says holds here too; this adds the server's own errors, and the answer of `/act`
that still says what a robot should do: hold.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import Response

from robot_bridge.conventions import F32
from robot_bridge.errors import PolicyError, RobotBridgeError
from robot_bridge.protocol import PROBLEM_TYPE, Problem
from robot_bridge.station import problems

HELD_STATUS: Final = HTTPStatus.SERVICE_UNAVAILABLE


class InstructionChanged(PolicyError):
    """An episode has one instruction; another one is another episode."""

    code = "instruction_changed"
    sentence = "the episode that runs was begun with {expected}, found {found}. Call /reset before another."


def instruction_changed(error: InstructionChanged) -> Response:
    """409: the caller forgot a `/reset`."""
    status = HTTPStatus.CONFLICT
    problem = problems.problem_of(error).model_copy(update={"status": status, "title": status.phrase})
    return _answer(problem, {})


def held(error: RobotBridgeError, action: F32) -> Response:
    """503: no action was decided. The problem carries the hold action [7], for whoever drives an arm now."""
    update = {"status": HELD_STATUS, "title": HELD_STATUS.phrase}
    problem = problems.problem_of(error).model_copy(update=update)
    return _answer(problem, {"action": [float(number) for number in action]})


def install(app: FastAPI) -> None:
    """Let every error of ours, and every request that cannot be read, leave as a problem."""
    problems.install(app)

    @app.exception_handler(InstructionChanged)
    def changed(_: Request, error: InstructionChanged) -> Response:
        return instruction_changed(error)


def _answer(problem: Problem, more: dict[str, list[float]]) -> Response:
    content = json.dumps({**problem.model_dump(), **more})
    return Response(content, status_code=problem.status, media_type=PROBLEM_TYPE)
