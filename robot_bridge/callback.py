"""The policy as the robot side calls it: reset a session, then observation in, a chunk of actions out.

The same two calls serve a station that runs callback episodes and the gateway that AutoEval talks to:

    POST {endpoint}/v1/policy/reset    PolicyResetRequest -> PolicyReadyAnswer
    POST {endpoint}/v1/policy/act      PolicyActRequest   -> PolicyActAnswer

Both can be repeated: the same (session, t) is answered with the same actions, and never decided twice.
Refusals are problems (RFC 9457) with the codes of `PolicyError`, `BadObservation` and `BadRequest`.
"""

from __future__ import annotations

from typing import Protocol

from pydantic import ConfigDict, Field

from robot_bridge.episode import PolicyRef
from robot_bridge.protocol import CHUNK_MAX, STEPS_MAX, Answer, Command, EpisodeId, ObservationAnswer


class PolicyResetRequest(Command):
    """A new session of the newest policy. `seed` fixes what it draws; `control_hz` is of the robot."""

    session: EpisodeId
    task_id: str = Field(min_length=1, max_length=100)
    instruction: str = Field(min_length=1, max_length=500)
    control_hz: float = Field(gt=0)
    seed: int = Field(ge=0, lt=2**63)


class PolicyReadyAnswer(Answer):
    """Which policy this session is pinned to, and how many actions it decides at once."""

    session: str
    policy: PolicyRef
    chunk: int = Field(ge=1, le=CHUNK_MAX)


class PolicyActRequest(Command):
    """Observation t of a session; t is the number of actions executed so far."""

    session: EpisodeId
    t: int = Field(ge=0, lt=STEPS_MAX)
    observation: ObservationAnswer


class PolicyActAnswer(Answer):
    """Actions [k][7] in bridge_v2 for steps t .. t+k-1, to be executed open loop."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=True)  # the pipeline judges numbers

    session: str
    t: int
    actions: list[list[float]] = Field(min_length=1, max_length=CHUNK_MAX)
    infer_ms: float = Field(ge=0, allow_inf_nan=False)


class PolicyLink(Protocol):
    """One policy, however it is reached. Safe to call from any thread; repeating a call does no harm."""

    def reset(self, request: PolicyResetRequest) -> PolicyReadyAnswer:
        """Raises:
        PolicyUnreachable, PolicyFailed: no session was begun.
        """
        ...

    def act(self, request: PolicyActRequest) -> PolicyActAnswer:
        """Raises:
        PolicyUnreachable, PolicyFailed: nothing was decided; ask again or hold.
        UnknownSession: reset first.
        BadObservation: the picture is not one.
        """
        ...
