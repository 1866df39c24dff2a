"""What ends episodes without being asked: emergency stop, lost leases, the dead-man, faults; and the chores.

Everything here that moves the robot or ends an episode holds the motion lock. `tick` is called many times a
second, by a thread of the app's or by a test; it never waits for a motion.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from robot_bridge.drivers.driver import Interruptible, RobotDriver
from robot_bridge.errors import EpisodeState, SpoolDiskFull
from robot_bridge.station.estop import EStopLatch
from robot_bridge.station.keeper import ArmKeeper
from robot_bridge.station.leases import LeaseDesk
from robot_bridge.station.parts import Station
from robot_bridge.station.recording import Recording
from robot_bridge.station.runner import EpisodeRunner

log = logging.getLogger(__name__)


class StationCore:
    """One station's state, and the rules that hold whoever calls.

    Attributes:
        motion: the lock of everything that moves the robot or ends an episode.
        woken: set when the emergency stop was pressed, for whoever watches.
        resetting: whether a scene is being arranged right now.
    """

    def __init__(self, driver: RobotDriver, station: Station) -> None:
        self.station, self.spool, self.clock = station, station.spool, station.clock
        root = station.spool.root
        self.leases = LeaseDesk(root, clock=station.clock, journal=station.journal)
        self.estop = EStopLatch(root)
        if isinstance(driver, Interruptible):
            driver.heed(lambda: self.estop.read() is not None)
        self.keeper = ArmKeeper(driver, station)
        self.runner = EpisodeRunner(self.keeper, station)
        self.motion = threading.Lock()
        self.woken = threading.Event()
        self.resetting = False
        self.closed = False
        self._started_at = station.clock()
        self._stopped = self.estop.read() is not None
        self._unleased_since: float | None = None
        station.journal.append("station_started", station=station.station_id)

    @property
    def recording(self) -> Recording | None:
        """The open episode, for looking at."""
        return self.runner.recording

    @property
    def uptime_s(self) -> float:
        """Seconds since this station started."""
        return self.clock() - self._started_at

    def stop(self, reason: str) -> dict[str, str]:
        """Latch the emergency stop; gives its time and reason. It waits for nothing but the latch's file.

        A running call sees it before its next action; whoever is `woken` settles the rest.
        """
        latched = self.estop.latch(reason, self.station.now())
        self.woken.set()
        log.warning("emergency stop latched reason=%s", latched["reason"])
        return latched

    def release(self, lease_id: str) -> None:
        """Give the robot back: the open episode ends, the arm parks.

        Raises:
            UnknownLease: not held, or not any more.
        """
        self.leases.release(lease_id)
        with self.motion:
            self.settle_now()
            self._park()

    def acknowledge(self, episode_id: str, manifest_sha256: str) -> None:
        """Forget a spooled episode; see `Spool.acknowledge`."""
        waited = self.spool.holds(episode_id)
        self.spool.acknowledge(episode_id, manifest_sha256)
        if waited:
            self.station.journal.append("episode_acknowledged", episode_id=episode_id)

    def settle(self) -> None:
        """End the open episode when something ended it; a running call does that itself."""
        if self.motion.acquire(blocking=False):
            try:
                self.settle_now()
            except SpoolDiskFull as error:
                log.error("episode still in memory error=%s", error)
            finally:
                self.motion.release()

    def tick(self) -> None:
        """Settle, then do what is due: poll motors, park, rest, wake.

        Raises:
            SpoolDiskFull, OSError: the disk takes nothing; call again later.
        """
        self.estop.persist()
        if self.motion.acquire(blocking=False):
            try:
                self.settle_now()
                self._chores()
            finally:
                self.motion.release()

    def settle_now(self) -> None:
        """What `settle` does, for who holds the motion lock."""
        self._notice_stop()
        self.keeper.notice_human()
        recording = self.runner.recording
        if recording is None:
            return
        lease = self.leases.state()
        if recording.ending is not None:
            self.runner.end(recording.ending.outcome)
        elif recording.in_flight is not None:
            self.runner.lose(recording)
        elif self._stopped:
            self.runner.abort("aborted_estop")
        elif self.keeper.fault is not None:
            self.runner.abort("aborted_hw")
        elif lease is None or lease.fence != recording.circumstances.fence:
            self.runner.abort("aborted_lease")
        else:
            self.runner.watch(recording)

    def make_way(self) -> None:
        """Let an episode without a step go, for whoever holds the motion lock and wants the arm.

        Raises:
            EpisodeState: one that began is open.
        """
        recording = self.runner.recording
        if recording is None:
            return
        if recording.count > 0 or recording.began_at is not None:
            expected = "finished before the arm does anything else"
            raise EpisodeState(episode_id=recording.episode_id, found="running", expected=expected)
        self.runner.end("aborted_lease")

    @contextmanager
    def going_home(self) -> Iterator[None]:
        """While the scene is arranged, the state says so."""
        self.resetting = True
        try:
            yield
        finally:
            self.resetting = False

    def close(self) -> None:
        """Keep what was recorded, park, and let go of everything; for who holds the motion lock."""
        self.settle_now()
        if self.runner.recording is not None:
            self.runner.abort("aborted_lease")
        self._park()
        self.closed = True
        self.keeper.close()
        self.spool.close()
        self.station.journal.close()

    def _notice_stop(self) -> None:
        latched = self.estop.read()
        if latched is not None:
            if not self._stopped:
                self._stopped = True
                self.station.journal.append("estop", reason=latched["reason"])
                if self.runner.recording is None:  # otherwise the end of the episode does it
                    self.keeper.hold()
            self.leases.revoke()
        elif self._stopped:
            self._stopped = False
            self.keeper.needs_homing = True
            self.station.journal.append("estop_cleared")
            log.warning("emergency stop cleared")

    def _chores(self) -> None:
        self.keeper.poll()
        recording = self.runner.recording
        if recording is not None:
            if self.keeper.fault is not None:
                self.runner.abort("aborted_hw")
            return
        self.keeper.look()
        if self._stopped:
            return
        self.keeper.rest_when_due()
        self._park_when_unleased()

    def _park_when_unleased(self) -> None:
        if self.leases.state() is not None:
            self._unleased_since = None
            return
        if self._unleased_since is None:
            self._unleased_since = self.clock()
        if self.clock() - self._unleased_since >= self.station.policy.park_after_s:
            self._park()

    def _park(self) -> None:
        """Park, unless the stop is latched or somebody's hand may be in the cell."""
        if not self._stopped and self.keeper.human.reason() is None:
            self.keeper.park()
