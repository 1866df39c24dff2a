"""What one station does, call by call: lease, reset, steps exactly once, finish, spool. No HTTP here.

One motion lock orders everything that moves the robot or ends an episode. The emergency stop and heartbeats
do not wait for it: a stop is a file that the running call looks at before every action.

    (none) ──create──> ready ──steps, or start──> running <──> held ──finish──> spooled ──ack──> forgotten
                         └── lease lost, e-stop, fault ──> spooled as aborted_* (or dropped, without a step)

What the arm needs beside episodes is in `keeper`, one episode's life in `runner`, who may call in
`admission`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from robot_bridge.callback import PolicyLink
from robot_bridge.drivers.driver import MotionStopped, RobotDriver
from robot_bridge.episode import Manifest, Outcome
from robot_bridge.errors import (
    EpisodeState,
    FenceStale,
    LeaseRequired,
    SpoolFull,
    UnknownEpisode,
    UnknownOutcome,
)
from robot_bridge.protocol import (
    EpisodeReadyAnswer,
    EpisodeRequest,
    EpisodeStateAnswer,
    StepsAnswer,
    StepsRequest,
)
from robot_bridge.station.admission import (
    check_mode,
    require_mode,
    require_new,
    require_next,
    require_open,
    require_same,
)
from robot_bridge.station.callback_run import CallbackRun
from robot_bridge.station.core import StationCore
from robot_bridge.station.parts import Station
from robot_bridge.station.recording import UNKNOWN_STEP, Recording


class StationSession(StationCore):
    """The calls of a client. All methods may be called from any thread."""

    def __init__(
        self, driver: RobotDriver, station: Station, *, connect: Callable[[str], PolicyLink]
    ) -> None:
        super().__init__(driver, station)
        self._connect = connect
        self._run: CallbackRun | None = None

    def create(self, request: EpisodeRequest, fence: int | None) -> EpisodeReadyAnswer:
        """Reset the scene and open an episode; the same request again answers the same.

        Raises:
            StationRefused, UnknownTask, DriverError: nothing new is open afterwards.
        """
        with self.motion:
            self.settle_now()
            self.estop.require_clear()
            held = self.leases.require(fence, call="episodes")
            if self._is_open_already(request):
                return self.runner.opened().ready()
            require_new(self.spool, request.episode_id)
            check_mode(self.station.policy, request)
            self.keeper.require_fit()
            self._require_room()
            with self.going_home(), suppress(MotionStopped):  # what stopped it is refused below
                self.runner.open(request, fence=held)
            self.settle_now()  # a stop, or the end of the lease, may have come while the arm went home
            self.estop.require_clear()
            self.leases.require(fence, call="episodes")
            return self.runner.opened().ready()

    def step(self, episode_id: str, request: StepsRequest, fence: int | None) -> StepsAnswer:
        """Execute actions, or answer again what was answered to them; never both.

        Raises:
            BadAction: one of them is not seven finite numbers; none was executed.
            StepOutOfOrder, StepStale, IdempotencyMismatch, BadRequest: none was executed.
            EStopped, DriverError: the rest was not executed; the episode is aborted.
            UnknownOutcome: nobody knows whether it moved the arm; the episode is aborted.
        """
        with self.motion:
            self.settle_now()
            self._require_known(episode_id, request.t)
            self.estop.require_clear()
            self.leases.require(fence, call="steps")
            recording = self._open(episode_id)
            require_mode(recording, "stepped")
            replayed = recording.replay(request)
            if replayed is not None:
                return replayed
            return self._advance(recording, request, partial(self._require_driven, recording, fence))

    def begin_run(self, episode_id: str, fence: int | None) -> EpisodeStateAnswer:
        """Let a callback episode run to its end on a thread of its own; twice starts it once.

        Raises:
            EpisodeState: it is a stepped one.
            StationRefused: it was not started.
        """
        with self.motion:
            self.settle_now()
            if self.runner.recording is None or self.runner.recording.episode_id != episode_id:
                return self.progress(episode_id)
            self.estop.require_clear()
            self.leases.require(fence, call="start")
            recording = self._open(episode_id)
            require_mode(recording, "callback")
            if recording.began_at is None:
                self._run = CallbackRun(
                    recording,
                    stage=self,
                    connect=self._connect,
                    clock=self.clock,
                    patience_s=self.station.policy.abort_after_s,
                )
                self.runner.begin(recording)
                self._run.start()
            return self.progress(episode_id)

    def finish(self, episode_id: str, reason: Outcome, fence: int | None) -> Manifest:
        """Judge the episode, put it into the spool and say what is in it. Finishing twice answers the same.

        Raises:
            EpisodeState: it has no step yet, or is not here any more.
        """
        with self.motion:
            self.settle_now()
            if self.spool.holds(episode_id):
                return self.spool.manifest(episode_id)
            self.leases.require(fence, call="finish")
            if self._open(episode_id).count == 0:
                raise EpisodeState(episode_id=episode_id, found="without a step", expected="begun")
            manifest = self.runner.end(reason)
            return self.spool.manifest(episode_id) if manifest is None else manifest

    def progress(self, episode_id: str) -> EpisodeStateAnswer:
        """Where an episode is.

        Raises:
            UnknownEpisode: it never was here.
        """
        recording = self.runner.recording
        if recording is not None and recording.episode_id == episode_id:
            return EpisodeStateAnswer(
                episode_id=episode_id, state=recording.progress, next_step=recording.count
            )
        answer = partial(EpisodeStateAnswer, episode_id=episode_id, state="finished")
        if self.spool.is_lost(episode_id):
            return EpisodeStateAnswer(episode_id=episode_id, state="lost", next_step=None)
        if self.spool.holds(episode_id):
            manifest = self.spool.manifest(episode_id)
            return answer(next_step=manifest.T, outcome=manifest.outcome)
        if episode_id in self.runner.dropped:
            return answer(next_step=0, outcome=self.runner.dropped[episode_id])
        if self.spool.acked_digest(episode_id) is None:
            raise UnknownEpisode(episode_id=episode_id)
        return answer(next_step=None)

    def advance(self, recording: Recording, request: StepsRequest) -> None:
        """Execute what a policy decided for a callback episode; see `callback_run.Stage`."""
        with self.motion:
            self._require_going_on(recording)
            self.estop.require_clear()
            self._advance(recording, request, partial(self._require_leased, recording))

    def hold(self, recording: Recording, why: str) -> None:
        """Let the arm hold while a policy does not answer; see `callback_run.Stage`."""
        with self.motion:
            if self.runner.recording is recording and recording.ending is None:
                self.runner.hold(recording, why)
            self._require_going_on(recording)

    def end(self, recording: Recording, outcome: Outcome) -> None:
        """End a callback episode; see `callback_run.Stage`."""
        with self.motion:
            self._require_going_on(recording)
            if outcome == "completed":
                self.runner.end(outcome)
            else:
                self.runner.abort(outcome)

    def close(self) -> None:
        """Keep what was recorded, park, then let go of driver, spool and journal."""
        with self.motion:
            run = self._run
            super().close()
        if run is not None:
            run.stop(self.station.policy.act_timeout_s)

    def _advance(
        self, recording: Recording, request: StepsRequest, allowed: Callable[[], None]
    ) -> StepsAnswer:
        require_open(recording)
        require_next(recording, request, station_time=self.clock())
        try:
            return self.runner.execute(recording, request, allowed=allowed)
        finally:  # whatever stopped it, or came during its last action, takes effect before anything else
            self.settle_now()

    def _require_driven(self, recording: Recording, fence: int | None) -> None:
        """Asked before each action of a client; an action is a sign of life of its lease."""
        self.estop.require_clear()
        self.leases.require(fence, call="steps")
        self._require_in_time(recording)

    def _require_leased(self, recording: Recording) -> None:
        """Asked before each action of a policy: the lease lives by heartbeats alone."""
        self.estop.require_clear()
        lease = self.leases.state()
        if lease is None:
            raise LeaseRequired(call="start")
        if lease.fence != recording.circumstances.fence:
            raise FenceStale(found=recording.circumstances.fence, current=lease.fence)
        self._require_in_time(recording)

    def _require_in_time(self, recording: Recording) -> None:
        if self.runner.is_overdue(recording):
            expected = f"over within {self.station.policy.max_episode_s} s"
            raise EpisodeState(episode_id=recording.episode_id, found="overdue", expected=expected)

    def _require_going_on(self, recording: Recording) -> None:
        self.settle_now()
        if self.runner.recording is not recording or recording.ending is not None:
            raise EpisodeState(episode_id=recording.episode_id, found="finished", expected="open")

    def _open(self, episode_id: str) -> Recording:
        recording = self.runner.recording
        if recording is not None and recording.episode_id == episode_id:
            return recording
        if self.spool.holds(episode_id) or self.spool.acked_digest(episode_id) is not None:
            raise EpisodeState(episode_id=episode_id, found="finished", expected="open")
        raise UnknownEpisode(episode_id=episode_id)

    def _is_open_already(self, request: EpisodeRequest) -> bool:
        recording = self.runner.recording
        if recording is not None and recording.episode_id == request.episode_id:
            require_same(recording, request)
            return True
        self.make_way()
        return False

    def _require_room(self) -> None:
        _, used = self.spool.size()
        limit = self.station.policy.spool_limit
        if used >= limit:
            raise SpoolFull(found=used, expected=limit)

    def _require_known(self, episode_id: str, t: int) -> None:
        """Raises:
        UnknownOutcome: the station died in this episode, or the arm went silent in this step of it.
        """
        if self.spool.is_lost(episode_id):
            raise UnknownOutcome(episode_id=episode_id, found=t)
        if self.spool.holds(episode_id):
            unknown = self.spool.manifest(episode_id).metadata.get(UNKNOWN_STEP)
            if unknown is not None and t >= int(unknown):
                raise UnknownOutcome(episode_id=episode_id, found=int(unknown))
