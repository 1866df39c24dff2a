"""A policy whose decisions can be told from each other, in process, behind the contract of `PolicyLink`."""

from __future__ import annotations

from collections.abc import Callable

from robot_bridge.callback import PolicyActAnswer, PolicyActRequest, PolicyReadyAnswer, PolicyResetRequest
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import RobotBridgeError


def a_reset(session: str = "session-1", **changes: object) -> PolicyResetRequest:
    fields = {"task_id": "open_drawer", "instruction": "open the drawer", "control_hz": 5.0, "seed": 3}
    return PolicyResetRequest(session=session, **{**fields, **changes})


def numbered(step: int) -> list[float]:
    """The action that `ScriptedPolicy` decides for a step; exact in float32."""
    return [step / 1024.0, 0.0, 0.0, 0.0, 0.0, 0.0, float(step % 2)]


class ScriptedPolicy:
    """Answers `numbered` actions; raises `fault` while one is set; `twist` may spoil an answer."""

    def __init__(self, chunk: int = 3) -> None:
        self.chunk = chunk
        self.policy = PolicyRef(name="scripted", version="7")
        self.resets: list[PolicyResetRequest] = []
        self.asked: list[PolicyActRequest] = []
        self.fault: RobotBridgeError | None = None
        self.twist: Callable[[PolicyActAnswer], PolicyActAnswer] = lambda answer: answer

    def reset(self, request: PolicyResetRequest) -> PolicyReadyAnswer:
        self.resets.append(request)
        if self.fault is not None:
            raise self.fault
        return PolicyReadyAnswer(session=request.session, policy=self.policy, chunk=self.chunk)

    def act(self, request: PolicyActRequest) -> PolicyActAnswer:
        self.asked.append(request)
        if self.fault is not None:
            raise self.fault
        actions = [numbered(step) for step in range(request.t, request.t + self.chunk)]
        answer = PolicyActAnswer(session=request.session, t=request.t, actions=actions, infer_ms=12.5)
        return self.twist(answer)
