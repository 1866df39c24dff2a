"""The bring-up check of a robot: the list of items, in order, and the rules when to go on.

Nothing moves before somebody agreed. What a driver raises ends all motion: the arm is held where it is, what
comes afterwards is skipped, and only what needs no arm is still looked at. A number that is not good enough
ends its own item only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from robot_bridge.check import moving, still
from robot_bridge.check.still import Found, NotHere
from robot_bridge.check.trial import CheckFailed, Trial
from robot_bridge.check.verdicts import MARKS, CheckReport, Item, Number, Verdict
from robot_bridge.drivers.driver import RobotDriver
from robot_bridge.errors import NeedsHuman, RobotBridgeError, UnknownTask

log = logging.getLogger(__name__)

Look: TypeAlias = Callable[[Trial], Found]

STILL: Final[tuple[tuple[str, Look], ...]] = (
    ("description", still.description),
    ("limits", still.limits),
    ("task boxes", still.boxes),
    ("motors", still.motors),
    ("first look", still.first_look),
)
MUST_BE_WELL: Final = ("description", "limits", "task boxes", "motors")  # before anything moves
MOVING: Final[tuple[tuple[str, Look], ...]] = (
    ("home", moving.home),
    ("step latency", moving.latency),
    *((f"move {name}", moving.motion(axis)) for axis, name in enumerate(moving.AXES)),
    ("rotation convention", moving.rotation_convention),
    ("gripper", moving.gripper),
    ("hold", moving.hold),
    ("emergency stop", moving.emergency_stop),
)
SEEN: Final[tuple[tuple[str, Look], ...]] = (  # judged over what the motions showed
    ("camera fresh", moving.camera_fresh),
    ("camera picture", moving.camera_picture),
    ("camera live", moving.camera_live),
    ("camera rate", moving.camera_rate),
    ("currents", moving.currents),
    ("verdict", moving.verdict),
    ("motors after motion", still.motors),
)
PARK: Final = ("park", moving.park)
QUESTION: Final = (
    "The arm will go home and then move by at most 1 cm and 5 degrees. Is its workspace free, and its power "
    "switch within reach?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPlan:
    """What is wanted: `dry_run` moves nothing; `task_id` None takes the first task."""

    dry_run: bool = False
    task_id: str | None = None
    seed: int = 0
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def run_check(
    driver: RobotDriver,
    *,
    clock: Callable[[], float],
    ask: Callable[[str], bool],
    report: Callable[[str], None],
    plan: CheckPlan | None = None,
) -> CheckReport:
    """Go through the list on one robot. The driver stays open.

    Args:
        clock: monotonic seconds, for latencies.
        ask: puts a question to somebody at the robot; True means yes.
        report: gets one line per item as it ends.

    Raises:
        UnknownTask: the plan names a task that this robot does not have.
    """
    run = _Run(driver, clock=clock, ask=ask, report=report, plan=plan or CheckPlan())
    return run.go()


class _Run:
    """One check under way."""

    def __init__(
        self,
        driver: RobotDriver,
        *,
        clock: Callable[[], float],
        ask: Callable[[str], bool],
        report: Callable[[str], None],
        plan: CheckPlan,
    ) -> None:
        self._ask, self._report, self._plan = ask, report, plan
        self._trial = _trial(driver, plan=plan, clock=clock)
        self._items: list[Item] = []
        self._broken: str | None = None  # why nothing may move any more

    def go(self) -> CheckReport:
        started_at = self._plan.now()
        for name, look in STILL:
            self._look(name, look)
        allowed = self._may_move()
        for name, look in MOVING:
            self._move(name, look)
        for name, look in SEEN:
            self._judge(name, look)
        self._move(*PARK)
        said = self._trial.description
        return CheckReport(
            robot_model=said.robot_model,
            software_digest=said.software_digest,
            renderer=said.camera.renderer,
            started_at=started_at,
            ended_at=self._plan.now(),
            dry_run=self._plan.dry_run,
            allowed_to_move=allowed,
            items=tuple(self._items),
        )

    def _may_move(self) -> bool:
        if self._plan.dry_run:
            self._broken = "a dry run moves nothing"
        elif any(item.verdict == "failed" and item.name in MUST_BE_WELL for item in self._items):
            self._broken = "what the robot says of itself must be in order first"
        elif not self._ask(QUESTION):
            self._broken = "nobody agreed to motion"
        return self._broken is None

    def _move(self, name: str, look: Look) -> None:
        if self._broken is not None:
            self._note(name, "skipped", found=self._broken)
            return
        if not self._look(name, self._with_a_hand(look)):
            self._broken = f"{name} failed: nothing moves any more"
            self._hold()

    def _judge(self, name: str, look: Look) -> None:
        """An item that needs samples, not motion: also after a fault, if there are any."""
        if self._trial.samples or (look is still.motors and self._broken is not None and not self._idle()):
            self._look(name, look)
        else:
            self._note(name, "skipped", found=self._broken or "the arm did not come home")

    def _idle(self) -> bool:
        return not any(item.name == "home" and item.verdict != "skipped" for item in self._items)

    def _look(self, name: str, look: Look) -> bool:
        """Look at one item; False when the robot itself refused, so that it must be left alone."""
        try:
            found, numbers = look(self._trial)
        except NotHere as absent:
            self._note(name, "skipped", found=absent.found)
        except CheckFailed as failed:
            self._note(name, "failed", found=failed.found, numbers=failed.numbers)
        except RobotBridgeError as refused:
            self._note(name, "failed", found=f"{refused} [{refused.code}]")
            return False
        else:
            self._note(name, "passed", found=found, numbers=numbers)
        return True

    def _with_a_hand(self, look: Look) -> Look:
        """The item, tried once more when the robot asks for somebody and somebody says that it is done."""

        def item(trial: Trial) -> Found:
            try:
                return look(trial)
            except NeedsHuman as wanted:
                if not self._ask(f"{wanted} Is it done?"):
                    raise
                return look(trial)

        return item

    def _hold(self) -> None:
        try:
            self._trial.driver.hold()
        except RobotBridgeError as refused:
            log.warning("arm could not be held after a failed item reason=%s", refused)

    def _note(
        self, name: str, verdict: Verdict, *, found: str, numbers: dict[str, Number] | None = None
    ) -> None:
        self._items.append(Item(name=name, verdict=verdict, found=found, numbers=numbers or {}))
        self._report(f"{MARKS[verdict]:<8} {name}: {found}")


def _trial(driver: RobotDriver, *, plan: CheckPlan, clock: Callable[[], float]) -> Trial:
    tasks = {task.task_id: task for task in driver.description.tasks}
    if not tasks:
        raise UnknownTask(task_id=plan.task_id or "(first)", known="none")
    wanted = next(iter(tasks)) if plan.task_id is None else plan.task_id
    if wanted not in tasks:
        raise UnknownTask(task_id=wanted, known=", ".join(sorted(tasks)))
    return Trial(driver, task=tasks[wanted], seed=plan.seed, clock=clock)
