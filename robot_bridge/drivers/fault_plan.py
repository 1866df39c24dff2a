"""What can go wrong with a robot, as words, and how often it should: the plan that `FaultyDriver` follows.

dead_camera     no new picture; from one second on the driver says CameraStale itself
frozen_camera   the old picture for ever, with fresh numbers and times
black_camera    new pictures with nothing on them
motor_overload  a current far above the limit and an error register, then MotorFault until a reboot
lost_object     nobody can say whether the task succeeded; a reset asks for somebody's hand
ik_failure      the arm refuses the target and keeps its old one
latency_spike   the call takes long
disconnect      the arm moves, then the line is dead: DriverDisconnected
crash           the arm moves, then the process dies
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from robot_bridge.errors import RobotBridgeError

FaultKind: TypeAlias = Literal[
    "dead_camera",
    "frozen_camera",
    "black_camera",
    "motor_overload",
    "lost_object",
    "ik_failure",
    "latency_spike",
    "disconnect",
    "crash",
]

FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
STEP_ONLY: Final[frozenset[FaultKind]] = frozenset({"ik_failure"})  # a reset has no target that could fail


class FaultPlanInvalid(RobotBridgeError):
    """A plan that cannot be followed."""

    code = "fault_plan_invalid"
    sentence = "fault plan: {thing} must be {expected}, found {found}. Nothing was injected."


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """How often what goes wrong; the same seed and calls bring the same faults.

    Attributes:
        per_step, per_reset: probability of each kind that one call starts it; what is left out never does.
            At most one kind starts per call.
        spike_s: seconds that a latency spike takes.
        reset_reboots: a reset clears an overloaded motor, so that nobody has to stand by.

    Raises:
        FaultPlanInvalid: an unknown kind, or probabilities that are none.
    """

    seed: int = 0
    per_step: Mapping[FaultKind, float] = field(default_factory=dict)
    per_reset: Mapping[FaultKind, float] = field(default_factory=dict)
    spike_s: float = 1.5
    reset_reboots: bool = False

    def __post_init__(self) -> None:
        for thing, chances in (("per_step", self.per_step), ("per_reset", self.per_reset)):
            unknown = sorted(set(chances) - set(FAULT_KINDS))
            if unknown:
                raise FaultPlanInvalid(thing=thing, expected=f"kinds of {FAULT_KINDS}", found=unknown)
            if any(not 0.0 <= chance <= 1.0 for chance in chances.values()) or sum(chances.values()) > 1.0:
                found = dict(chances)
                raise FaultPlanInvalid(
                    thing=thing, expected="probabilities that sum to 1 at most", found=found
                )
        if STEP_ONLY & set(self.per_reset):
            raise FaultPlanInvalid(thing="per_reset", expected="kinds a reset can have", found="ik_failure")
        if self.spike_s < 0.0:
            raise FaultPlanInvalid(thing="spike_s", expected="at least 0", found=self.spike_s)


def every_fault(
    *, seed: int, per_step: float, per_reset: float, without: frozenset[FaultKind] = frozenset()
) -> FaultPlan:
    """All kinds but some, equally likely; `per_step`, `per_reset`: the chance of any fault in one call."""
    at_step = [kind for kind in FAULT_KINDS if kind not in without]
    at_reset = [kind for kind in at_step if kind not in STEP_ONLY]
    return FaultPlan(
        seed=seed,
        per_step={kind: per_step / len(at_step) for kind in at_step},
        per_reset={kind: per_reset / len(at_reset) for kind in at_reset},
        reset_reboots=True,
    )
