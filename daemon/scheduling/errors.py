"""What can go wrong with schedules, hours and deadlines.

SchedulingError (DaemonError)
├── ScheduleNameTaken        another schedule has the name
├── ScheduleBusy             its last iteration is not over
├── PreconditionRequired     a change without If-Match
├── PreconditionFailed       a change of a version that is not the newest
├── PhaseOverdue             a phase that ran past its deadline
└── HumanAwaited             a robot that waited for somebody, and nobody came
"""

from daemon.errors import DaemonError


class SchedulingError(DaemonError):
    code = "scheduling_error"


class ScheduleNameTaken(SchedulingError):
    code = "schedule_name_taken"

    def __init__(self, *, name: str) -> None:
        super().__init__(
            f"there is a schedule {name} already, and it asks for something else. "
            "Change it, or take another name."
        )


class ScheduleBusy(SchedulingError):
    """One iteration of a schedule at a time."""

    code = "schedule_busy"
    retryable = True

    def __init__(self, *, name: str, number: int) -> None:
        super().__init__(
            f"iteration {number} of schedule {name} is not over, and it may have one at a time. "
            "Wait for its end, or cancel it."
        )


class PreconditionRequired(SchedulingError):
    code = "precondition_required"

    def __init__(self, *, what: str) -> None:
        super().__init__(
            f"{what} is changed only with the header If-Match. "
            "Read it, and send back the ETag that came with it."
        )


class PreconditionFailed(SchedulingError):
    code = "precondition_failed"

    def __init__(self, *, what: str, sent: str, current: str) -> None:
        super().__init__(
            f"{what} was changed by somebody else: If-Match names {sent}, the newest is {current}. "
            "Read it again, and decide again."
        )


class PhaseOverdue(SchedulingError):
    """It is not tried again: the next attempt would be as slow."""

    code = "phase_overdue"

    def __init__(self, *, phase: str, limit_s: float) -> None:
        super().__init__(
            f"phase {phase} ran past its deadline of {limit_s:g} s, all attempts together. Raise "
            f"deadlines.{phase}_s in the spec, or ask the phase for less. A retry of the iteration begins "
            "the time anew."
        )


class HumanAwaited(SchedulingError):
    """It is not tried again by itself: nobody has been at the robot."""

    code = "human_awaited"

    def __init__(self, *, robot: str, reason: str, limit_s: float) -> None:
        super().__init__(
            f"{robot} has waited {limit_s:g} s for somebody to come: {reason}. Go to the robot and do what "
            "it asks for, then retry the iteration; or raise GYMNASTD_HUMAN_WAIT_S."
        )
