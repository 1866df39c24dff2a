"""What only the policy server refuses: its own error, and an answer of `/act` that still says hold.

Statuses and bodies are those of `robot_bridge.station.problems`.
"""

from __future__ import annotations

import json
from http import HTTPStatus

from fastapi.responses import Response

from robot_bridge.conventions import F32
from robot_bridge.errors import PolicyError, RobotBridgeError
from robot_bridge.protocol import PROBLEM_TYPE
from robot_bridge.station.problems import problem_of


class InstructionChanged(PolicyError):
    """An episode has one instruction; another one is another episode."""

    code = "instruction_changed"
    sentence = "the episode that runs was begun with {expected}, found {found}. Call /reset before another."


def held(error: RobotBridgeError, action: F32) -> Response:
    """503: no action was decided. The problem carries the hold action [7], for whoever drives an arm now."""
    problem = problem_of(error, HTTPStatus.SERVICE_UNAVAILABLE)
    content = json.dumps({**problem.model_dump(), "action": [float(number) for number in action]})
    return Response(content, status_code=problem.status, media_type=PROBLEM_TYPE)
