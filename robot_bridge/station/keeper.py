"""The arm as a station keeps it: watched, rested, faults remembered, parked when nobody needs it.

Everything that reaches the driver goes through here, one call at a time: the caller holds the motion lock.
Leases, episodes and the emergency stop are not here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from robot_bridge.conventions import Pose
from robot_bridge.description import CameraStatus
from robot_bridge.drivers.driver import (
    ArmModel,
    DriverDescription,
    Looking,
    MotionStopped,
    MotorReading,
    RobotDriver,
    Sample,
    StepOutcome,
)
from robot_bridge.errors import DriverDisconnected, DriverError, MotorFault, NeedsHuman
from robot_bridge.protocol import Maintenance
from robot_bridge.station.human import HumanCall
from robot_bridge.station.parts import Station
from robot_bridge.station.rest import RestBook
from robot_bridge.station.viewfinder import Viewfinder
from robot_bridge.watches import CameraWatch, TrackingWatch, require_well

log = logging.getLogger(__name__)


class ArmKeeper:
    """One driver and what is known of it.

    Attributes:
        fault: why the arm cannot be used before maintenance; None when it can.
        needs_homing: somebody stopped or served the arm: only a reset may move it next.
        out: the arm left its park, or sleep, pose.
        readings: the motors as they were polled last.
        view: what the camera shows people.
        episode_id: whose fault it is, for the journal.
    """

    def __init__(self, driver: RobotDriver, station: Station) -> None:
        policy, root = station.policy, station.spool.root
        self.description: DriverDescription = driver.description
        self.arm: ArmModel | None = driver.arm
        self.human = HumanCall(root)
        self.rest = RestBook(root, work_s=policy.work_s, rest_s=policy.rest_s, now=station.now)
        self.fault: DriverError | None = None
        self.needs_homing = False
        self.out = False
        self.readings: tuple[MotorReading, ...] = ()
        self.episode_id: str | None = None
        self._driver = driver
        self._policy, self._journal = policy, station.journal
        self._clock, self._now = station.clock, station.now
        self._polled_at: float | None = None
        self._waited = self.human.reason() is not None
        period_s = 1.0 / self.description.control_hz
        self.view = Viewfinder(self.description.camera, clock=station.clock, now=station.now)
        self._camera = CameraWatch(self.description.camera, period_s=period_s)
        self._tracking = TrackingWatch(self.description.tracking_max_m)

    @property
    def target(self) -> Pose:
        """The pose that the arm holds."""
        return self._driver.target

    @property
    def camera(self) -> CameraStatus:
        """The newest picture."""
        return self._camera.status()

    def require_fit(self) -> None:
        """Raises:
        MotorFault, DriverDisconnected: maintenance is needed first.
        WaitingHuman: somebody is.
        Resting: the motors rest.
        """
        if self.fault is not None:
            raise type(self.fault)(**self.fault.parts)
        self.human.require_none()
        self.rest.require_awake()

    def reset(self, task_id: str, *, seed: int) -> Sample:
        """Arrange a scene and bring the arm home.

        Raises:
            UnknownTask, DriverError: it did not come to that; faults are remembered, a human is called.
        """
        try:
            self.out = True
            with self._working():
                sample = self._driver.reset(task_id, seed=seed)
            self.view.show(sample)
            self._camera.clear()
            self._tracking.clear()
            self._camera.check(sample)
        except DriverError as error:
            self.note(error)
            raise
        self.needs_homing = False
        self.rest.save()
        return sample

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        """Move for one control period, and look at camera and tracking.

        Raises:
            MotorFault, CameraStale, DriverDisconnected: see `RobotDriver.step`; `note` it.
        """
        with self._working():
            outcome = self._driver.step(target, gripper)
        self.view.show(outcome.sample)
        self._camera.check(outcome.sample)
        self._tracking.check(outcome.sample, outcome.target)
        return outcome

    def hold(self) -> Pose | None:
        """Stop where the arm is; gives that pose, or None: a driver that cannot is a remembered fault."""
        try:
            self._driver.hold()
            return self._driver.target
        except DriverError as error:
            self.note(error)
            return None

    def park(self) -> None:
        """Bring the arm to a pose that is safe to leave, when it is not there and all is well with it."""
        if not self.out or self.fault is not None or self.rest.asleep:
            return
        try:
            with self._working():
                self._driver.park()
        except DriverError as error:
            self.note(error)
            return
        self.out = False
        self._journal.append("parked")
        log.info("arm parked")

    def look(self) -> None:
        """Look through the camera if somebody wants to; trouble is no fault, as nothing depends on it."""
        if not isinstance(self._driver, Looking) or not self.view.wants_look():
            return
        try:
            sample = self._driver.look()
        except DriverError as error:
            if self.view.looked(trouble=str(error)):
                log.warning("camera not looked through code=%s error=%s", error.code, error)
            return
        self.view.looked()
        if sample is not None:
            self.view.show(sample)

    def success(self) -> bool | None:
        """The driver's verdict on the task at this moment; None also when it cannot tell."""
        try:
            return self._driver.success()
        except DriverError as error:
            self.note(error)
            return None

    def poll(self) -> None:
        """Read the motors when their status got old; one that is not well is a remembered fault."""
        now = self._clock()
        if self._polled_at is not None and now - self._polled_at < self._policy.motor_poll_s:
            return
        self._polled_at = now
        try:
            self.readings = self._driver.motors()
            if not self.rest.asleep:
                require_well(self.readings)
        except DriverError as error:
            self.note(error)

    def maintain(self, action: Maintenance) -> None:
        """What an operator at the robot's side asks for. Rebooting or waking ends a fault, if all is well.

        Raises:
            MotorFault, DriverDisconnected: something still is not.
        """
        calls = {
            "reboot_motors": self._driver.reboot_motors,
            "sleep": self._driver.sleep,
            "wake": self._driver.wake,
        }
        try:
            calls[action]()
        except DriverError as error:
            self.note(error)
            raise
        self._journal.append("maintenance", action=action)
        log.warning("arm maintained action=%s", action)
        self.needs_homing = True
        if action == "sleep":
            self.out = False
            self.rest.sleep(by_policy=False)
            return
        if action == "wake":
            self.rest.wake()
        self.fault, self._polled_at = None, None
        self.poll()
        if self.fault is not None:
            raise self.fault

    def ask_human(self, reason: str) -> None:
        """Wait for somebody from now on."""
        self.human.ask(reason, self._now())
        self._waited = True
        self._journal.append("human_needed", episode_id=self.episode_id, reason=reason)
        log.warning("human needed reason=%s", reason)

    def human_done(self, note: str) -> None:
        """Somebody says that it is done."""
        if self.human.done():
            self._was_done(note)

    def notice_human(self) -> None:
        """See whether it was said in the station's folder."""
        if self._waited and self.human.reason() is None:
            self._was_done("said in the station's folder")

    def rest_when_due(self) -> None:
        """Let the motors rest after their work, and wake them after their rest; between episodes only."""
        if self.fault is not None or self.human.reason() is not None:
            return
        try:
            if self.rest.due:
                self._driver.sleep()
                self.out = False
                self.rest.sleep(by_policy=True)
                self._journal.append(
                    "resting", worked_s=round(self.rest.worked_s), rest_s=self._policy.rest_s
                )
            elif self.rest.over:
                self._driver.wake()
                self.rest.wake()
                self._journal.append("rested")
        except DriverError as error:
            self.note(error)

    def close(self) -> None:
        """Let go of the driver."""
        self.rest.save()
        self._driver.close()

    def _was_done(self, note: str) -> None:
        self._waited, self.needs_homing = False, True
        self._journal.append("human_done", note=note)
        log.warning("human done note=%s", note)

    @contextmanager
    def _working(self) -> Iterator[None]:
        started = self._clock()
        try:
            yield
        finally:
            self.rest.worked(self._clock() - started)

    def note(self, error: DriverError) -> None:
        """Remember what a driver's error means for the time after it."""
        if isinstance(error, MotionStopped):
            self.needs_homing = True
            self._journal.append("motion_stopped", episode_id=self.episode_id, reason=str(error))
        elif isinstance(error, NeedsHuman):
            self.ask_human(str(error.parts.get("reason", error)))
        elif isinstance(error, MotorFault | DriverDisconnected):
            if self.fault is None:
                self._journal.append("motor_fault", episode_id=self.episode_id, fault=str(error))
            self.fault = error
        else:  # the camera, or a renderer
            self._journal.append("camera_fault", episode_id=self.episode_id, fault=str(error))
        log.warning("driver failed code=%s episode=%s error=%s", error.code, self.episode_id, error)
