"""What one station does, call by call: lease, reset, steps exactly once, finish, spool. No HTTP here.

One motion lock orders everything that moves the robot or ends an episode. The emergency stop and heartbeats
do not wait for it: a stop is a file that the running call looks at before every action.

    (none) ──create──> ready ──steps──> running ──finish──> spooled ──acknowledge──> forgotten
                         └── lease lost, e-stop, fault ──> spooled as aborted_* (or dropped, without a step)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

from robot_bridge.conventions import F32, checked_action
from robot_bridge.drivers.driver import DriverDescription, RobotDriver
from robot_bridge.episode import Manifest, ManifestLabel, Outcome
from robot_bridge.errors import (
    DriverError,
    EpisodeState,
    SpoolFull,
    StationRefused,
    UnknownEpisode,
    UnknownOutcome,
)
from robot_bridge.protocol import EpisodeReadyAnswer, EpisodeRequest, StepAnswer, StepsAnswer, StepsRequest
from robot_bridge.safety import SafetyPipeline
from robot_bridge.station.admission import limits_of, require_new, require_next, require_same, task_of
from robot_bridge.station.estop import EStopLatch
from robot_bridge.station.leases import LeaseDesk
from robot_bridge.station.recording import Circumstances, Recording
from robot_bridge.station.spool import Spool

log = logging.getLogger(__name__)

SPOOL_LIMIT_BYTES: Final = 4 * 1024**3  # about three thousand episodes of 40 steps


class StationSession:
    """Everything a station knows beside HTTP. All methods may be called from any thread."""

    def __init__(
        self,
        driver: RobotDriver,
        spool: Spool,
        *,
        station_id: str,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        spool_limit: int = SPOOL_LIMIT_BYTES,
    ) -> None:
        self.station_id = station_id
        self.spool = spool
        self.clock = clock
        self.leases = LeaseDesk(spool.root, clock=clock)
        self.estop = EStopLatch(spool.root)
        self._driver = driver
        self._now = now
        self._spool_limit = spool_limit
        self._motion = threading.Lock()
        self._recording: Recording | None = None

    @property
    def description(self) -> DriverDescription:
        """What the driver says of itself."""
        return self._driver.description

    @property
    def moving(self) -> bool:
        """Whether a reset or a step runs at this moment."""
        return self._motion.locked()

    @property
    def recording(self) -> Recording | None:
        """The open episode, for looking at."""
        return self._recording

    def create(self, request: EpisodeRequest, fence: int | None) -> EpisodeReadyAnswer:
        """Reset the scene and open an episode; the same request again answers the same.

        Raises:
            StationRefused, UnknownTask, DriverError: nothing new is open afterwards.
        """
        with self._motion:
            self._settle()
            self.estop.require_clear()
            held = self.leases.require(fence, call="episodes")
            if self._is_open_already(request):
                return self._opened().ready()
            require_new(self.spool, request.episode_id)
            self._require_room()
            pipeline = SafetyPipeline(limits_of(self._driver.description, request))
            self._recording = self._reset(request, pipeline=pipeline, fence=held)
            return self._recording.ready()

    def step(self, episode_id: str, request: StepsRequest, fence: int | None) -> StepsAnswer:
        """Execute actions, or answer again what was answered to them; never both.

        Raises:
            BadAction: one of them is not seven finite numbers; none was executed.
            StepOutOfOrder, StepStale, IdempotencyMismatch, BadRequest: none was executed.
            EStopped, DriverError: the rest was not executed; the episode is aborted.
            UnknownOutcome: an earlier call died while the arm moved; the episode is aborted.
        """
        with self._motion:
            self._require_known_outcome(episode_id, request.t)
            self._settle()
            self.estop.require_clear()
            self.leases.require(fence, call="steps")
            recording = self._open(episode_id, request.t)
            replayed = recording.replay(request)
            if replayed is not None:
                return replayed
            require_next(recording, request, station_time=self.clock())
            actions = [checked_action(action) for action in request.actions]
            steps = self._execute(recording, actions, infer_ms=request.infer_ms, fence=fence)
            answer = StepsAnswer(episode_id=episode_id, next_step=recording.count, steps=steps)
            recording.remember(request, answer)
            return answer

    def finish(self, episode_id: str, reason: Outcome, fence: int | None) -> Manifest:
        """Judge the episode, put it into the spool and say what is in it. Finishing twice answers the same.

        Raises:
            EpisodeState: it has no step yet, or is not here any more.
        """
        with self._motion:
            self._settle()
            if self.spool.holds(episode_id):
                return self.spool.manifest(episode_id)
            self.leases.require(fence, call="finish")
            recording = self._open(episode_id, None)
            if recording.count == 0:
                raise EpisodeState(episode_id=episode_id, found="without a step", expected="begun")
            return self._end(reason)

    def stop(self, reason: str) -> dict[str, str]:
        """Latch the emergency stop without waiting for anything that moves; gives its time and reason."""
        latched = self.estop.latch(reason, self._now())
        log.warning("emergency stop latched reason=%s", latched["reason"])
        self.settle()
        return latched

    def acknowledge(self, episode_id: str, manifest_sha256: str) -> None:
        """Forget a spooled episode; see `Spool.acknowledge`."""
        with self._motion:
            self.spool.acknowledge(episode_id, manifest_sha256)

    def settle(self) -> None:
        """Abort the open episode when lease or emergency stop ended it; a running call does it itself."""
        if self._motion.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._motion.release()

    def close(self) -> None:
        """Keep what was recorded, then let go of driver and spool."""
        with self._motion:
            if self._recording is not None:
                self._abort("aborted_lease")
            self._driver.close()
            self.spool.close()

    def _reset(self, request: EpisodeRequest, *, pipeline: SafetyPipeline, fence: int) -> Recording:
        started_at = self._now()
        description = self._driver.description
        task = task_of(description, request.task_id)
        self.spool.open(request.episode_id, request.model_dump(mode="json", include={"task_id", "seed"}))
        try:
            first = self._driver.reset(request.task_id, seed=request.seed)
        except DriverError:
            self.spool.drop_open()
            raise
        circumstances = Circumstances(
            station_id=self.station_id,
            instruction=task.instruction if request.instruction is None else request.instruction,
            transform_id=f"{description.software_digest[:16]}/limits@{pipeline.limits.digest()[:16]}",
            control_hz=description.control_hz,
            fence=fence,
            started_at=started_at,
            metadata={"robot_model": description.robot_model, "renderer": description.camera.renderer},
        )
        log.info("episode opened episode=%s task=%s", request.episode_id, request.task_id)
        return Recording(
            request, circumstances=circumstances, pipeline=pipeline, first=first, target=self._driver.target
        )

    def _execute(
        self, recording: Recording, actions: list[F32], *, infer_ms: float, fence: int | None
    ) -> list[StepAnswer]:
        steps: list[StepAnswer] = []
        for action in actions:
            try:
                self.estop.require_clear()
                self.leases.require(fence, call="steps")
            except StationRefused:
                self._settle()
                raise
            command = recording.pipeline.apply(recording.target, action)
            recording.in_flight = recording.count
            try:
                outcome = self._driver.step(command.target, command.gripper)
                steps.append(recording.add(action, command=command, outcome=outcome, infer_ms=infer_ms))
            except DriverError:
                self._abort("aborted_hw")
                raise
            recording.in_flight = None
        return steps

    def _end(self, outcome: Outcome) -> Manifest:
        recording, now = self._opened(), self._now()
        labels: tuple[ManifestLabel, ...] = ()
        if outcome == "completed":
            judge = self._driver.description.robot_model
            success = self._driver.success()
            labels = (ManifestLabel(success=success, source="sim_predicate", judge=judge, at=now),)
        episode = recording.episode(outcome, labels=labels, ended_at=now)
        self.spool.put(episode)
        self._recording = None
        log.info(
            "episode spooled episode=%s task=%s outcome=%s steps=%d success=%s",
            *(recording.request.episode_id, recording.request.task_id, outcome, recording.count),
            labels[0].success if labels else None,
        )
        return episode.manifest

    def _abort(self, outcome: Outcome) -> None:
        if self._opened().count > 0:
            self._end(outcome)
        else:
            self.spool.drop_open()
            self._recording = None

    def _settle(self) -> None:
        if self.estop.read() is not None:
            self.leases.revoke()
        if self._recording is None:
            return
        lease = self.leases.state()
        if self.estop.read() is not None:
            self._abort("aborted_estop")
        elif self._recording.in_flight is not None:
            self._abort("aborted_hw")
        elif lease is None or lease.fence != self._recording.circumstances.fence:
            self._abort("aborted_lease")

    def _opened(self) -> Recording:
        if self._recording is None:
            raise UnknownEpisode(episode_id="(none is open)")
        return self._recording

    def _open(self, episode_id: str, t: int | None) -> Recording:
        if self._recording is not None and self._recording.request.episode_id == episode_id:
            return self._recording
        if self.spool.is_lost(episode_id):
            raise UnknownOutcome(episode_id=episode_id, found="(last)" if t is None else t)
        if self.spool.holds(episode_id) or self.spool.acked_digest(episode_id) is not None:
            raise EpisodeState(episode_id=episode_id, found="finished", expected="open")
        raise UnknownEpisode(episode_id=episode_id)

    def _is_open_already(self, request: EpisodeRequest) -> bool:
        recording = self._recording
        if recording is None:
            return False
        if recording.request.episode_id != request.episode_id:
            if recording.count > 0:
                found, expected = "running", "finished before another one starts"
                raise EpisodeState(episode_id=recording.request.episode_id, found=found, expected=expected)
            self._abort("aborted_lease")
            return False
        require_same(recording, request)
        return True

    def _require_room(self) -> None:
        _, used = self.spool.size()
        if used >= self._spool_limit:
            raise SpoolFull(found=used, expected=self._spool_limit)

    def _require_known_outcome(self, episode_id: str, t: int) -> None:
        recording = self._recording
        if recording is not None and recording.in_flight is not None:
            self._abort("aborted_hw")
            raise UnknownOutcome(episode_id=episode_id, found=t)
