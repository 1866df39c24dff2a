"""What is done to a station beside episodes: scene resets, and what only somebody at the robot may ask."""

from __future__ import annotations

import logging

from robot_bridge.drivers.driver import MotionStopped
from robot_bridge.errors import (
    BadRequest,
    DriverDisconnected,
    DriverError,
    EpisodeState,
    MotorFault,
    NeedsHuman,
    UnknownTask,
)
from robot_bridge.protocol import Maintenance, ResetAnswer, ResetRequest
from robot_bridge.station.core import StationCore

log = logging.getLogger(__name__)


class Operations:
    """Each call takes the motion lock. Who may call is decided at the door."""

    def __init__(self, core: StationCore) -> None:
        self._core = core

    def reset(self, request: ResetRequest, fence: int | None) -> ResetAnswer:
        """Arrange a scene and bring the arm home, trying several times; then somebody is asked to.

        Raises:
            UnknownTask, StationRefused: nothing moved.
            MotorFault, DriverDisconnected: maintenance is needed.
            NeedsHuman: the station waits for somebody now.
            EStopped: somebody stopped it.
        """
        core = self._core
        with core.motion:
            core.settle_now()
            core.estop.require_clear()
            core.leases.require(fence, call="resets")
            core.keeper.description.task(request.task_id)
            core.make_way()
            core.keeper.require_fit()
            with core.going_home():
                attempts = self._arrange(request)
            core.settle_now()  # the arm holds when a stop came on its way home
            core.estop.require_clear()
            core.station.journal.append("scene_reset", task=request.task_id, attempts=attempts)
            return ResetAnswer(task_id=request.task_id, attempts=attempts)

    def clear_estop(self, nonce: str) -> None:
        """Let the arm move again, after a reset. Clearing what is not latched does nothing.

        Raises:
            BadRequest: the nonce is not the one in estop.json.
        """
        core = self._core
        if core.estop.read() is None:
            return
        if not core.estop.matches(nonce):
            raise BadRequest(thing="nonce", reason="it is not the one in the station's estop.json")
        with core.motion:
            core.settle_now()  # what the stop ended has ended, the lease too
            core.estop.clear()
            core.settle_now()

    def human_done(self, note: str) -> None:
        """Go on after a human was needed; says nothing when nobody was."""
        with self._core.motion:
            self._core.keeper.human_done(note)
            self._core.settle_now()

    def maintain(self, action: Maintenance) -> None:
        """Reboot motors, let them sleep, or wake them.

        Raises:
            EpisodeState: an episode is open.
            EStopped: parking and waking move the arm.
            MotorFault, DriverDisconnected: it did not help.
        """
        core = self._core
        with core.motion:
            core.settle_now()
            if core.recording is not None:
                expected = "finished before maintenance"
                raise EpisodeState(episode_id=core.recording.episode_id, found="open", expected=expected)
            if action != "reboot_motors":
                core.estop.require_clear()
            core.keeper.maintain(action)

    def _arrange(self, request: ResetRequest) -> int:
        """Try, at most as often as was asked for; gives how often it took."""
        core, failure = self._core, ""
        for attempt in range(1, request.max_attempts + 1):
            core.estop.require_clear()
            try:
                core.keeper.reset(request.task_id, seed=request.seed)
            except (UnknownTask, NeedsHuman, MotorFault, DriverDisconnected, MotionStopped):
                core.estop.require_clear()  # that is why it stopped, where it did
                raise
            except DriverError as error:
                failure = str(error)
                log.warning("reset failed task=%s attempt=%d reason=%s", request.task_id, attempt, failure)
            else:
                return attempt
        core.keeper.ask_human(failure)
        raise NeedsHuman(reason=failure)
