"""A station without HTTP, over the toy robot, whose clocks move only when a test moves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from robot_bridge.callback import PolicyLink
from robot_bridge.conventions import Pose
from robot_bridge.description import StationState
from robot_bridge.drivers.driver import MotorReading, RobotDriver, Sample, StepOutcome
from robot_bridge.episode import Episode, episode_of_bytes
from robot_bridge.events import Fact
from robot_bridge.policy_link import HttpPolicyLink
from robot_bridge.protocol import EpisodeReadyAnswer, LeaseRequest, StepsAnswer, StepsRequest
from robot_bridge.station.app import TICK_S
from robot_bridge.station.describe import state_of
from robot_bridge.station.journal import Journal
from robot_bridge.station.parts import Station
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.session import StationSession
from robot_bridge.station.spool import Spool
from tests.robot_bridge.builders import Clock, a_request, forward
from tests.robot_bridge.toy_driver import ToyDriver


class Scripted(ToyDriver):
    """The toy robot on a bad day: `fails[call]` are the errors of its next calls, `at_step` runs in a step.

    `readings`, when set, is what its motors say.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fails: dict[str, list[Exception | None]] = {}
        self.at_step: Callable[[int], object] = lambda _: None
        self.at_reset: Callable[[], object] = lambda: None
        self.readings: tuple[MotorReading, ...] | None = None

    def _perhaps_fail(self, call: str) -> None:
        errors = self.fails.get(call, [])
        error = errors.pop(0) if errors else None
        if error is not None:
            raise error

    def reset(self, task_id: str, *, seed: int) -> Sample:
        self.calls.append("reset")
        self.at_reset()
        self._perhaps_fail("reset")
        return super().reset(task_id, seed=seed)

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        outcome = super().step(target, gripper)
        self.at_step(self.moves)
        self._perhaps_fail("step")
        return outcome

    def hold(self) -> None:
        super().hold()
        self._perhaps_fail("hold")

    def park(self) -> None:
        super().park()
        self._perhaps_fail("park")

    def motors(self) -> tuple[MotorReading, ...]:
        self.calls.append("motors")
        self._perhaps_fail("motors")
        return super().motors() if self.readings is None else self.readings

    def reboot_motors(self) -> None:
        super().reboot_motors()
        self._perhaps_fail("reboot_motors")

    def sleep(self) -> None:
        super().sleep()
        self._perhaps_fail("sleep")

    def wake(self) -> None:
        super().wake()
        self._perhaps_fail("wake")

    def success(self) -> bool:
        self._perhaps_fail("success")
        return super().success()

    def did(self, call: str) -> int:
        """How often it was told to."""
        return self.calls.count(call)


@dataclass
class Bench:
    """One station and what a test needs around it."""

    root: Path
    driver: Scripted = field(default_factory=Scripted)
    clock: Clock = field(default_factory=Clock)
    session: StationSession = field(init=False)
    fence: int = 0
    policy: StationPolicy = field(default_factory=StationPolicy)
    connect: Callable[[str], PolicyLink] = HttpPolicyLink
    spools: type[Spool] = Spool
    journals: type[Journal] = Journal

    def start(self, driver: RobotDriver | None = None, *, spool_limit: int = 10**9) -> StationSession:
        station = Station(
            station_id="bench",
            spool=self.spools(self.root),
            journal=self.journals(self.root, now=self.clock.now),
            clock=self.clock,
            now=self.clock.now,
            policy=replace(self.policy, spool_limit=spool_limit),
        )
        self.session = StationSession(driver or self.driver, station, connect=self.connect)
        return self.session

    def restart(self) -> StationSession:
        self.session.close()
        return self.start()

    def die(self) -> None:
        """Lose everything that is only in memory."""
        self.session.spool.close()
        self.session.station.journal.close()

    def lease(self, holder: str = "daemon") -> int:
        self.fence = self.session.leases.acquire(LeaseRequest(holder=holder), key=None).fence
        return self.fence

    def create(self, **changes: object) -> EpisodeReadyAnswer:
        return self.session.create(a_request(**{"episode_id": "e1", **changes}), self.fence)

    def step(self, t: int, actions: list[list[float]] | None = None, *, episode: str = "e1") -> StepsAnswer:
        request = StepsRequest(t=t, actions=forward() if actions is None else actions)
        return self.session.step(episode, request, self.fence)

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, then do what the station's watch does twenty times a second."""
        self.clock.advance(seconds)
        self.session.tick()

    def wait(self, seconds: float, *, heartbeats: bool = True) -> None:
        """Let time pass as it does: ticks, and by default heartbeats that keep the lease."""
        for _ in range(round(seconds / TICK_S)):
            if heartbeats and self.session.leases.state() is not None:
                self.session.leases.require(self.fence, call="heartbeat")
            self.tick(TICK_S)

    @property
    def state(self) -> StationState:
        return state_of(self.session)

    def events(self, kind: str) -> list[dict[str, Fact]]:
        """The facts of all events of a kind, oldest first."""
        found = self.session.station.journal.read().events
        return [{**event.facts, "episode": event.episode_id} for event in found if event.kind == kind]

    def kept(self, episode_id: str = "e1") -> Episode:
        """A spooled episode read back from its files."""
        manifest = self.session.spool.manifest(episode_id)
        names = ("steps.npz", "frames.bin")
        paths = [self.session.spool.blob_path(episode_id, manifest.blob_sha256(name)) for name in names]
        steps, frames = (path.read_bytes() for path in paths)
        return episode_of_bytes(manifest.canonical_json(), steps=steps, frames=frames)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "spool")
    bench.start()
    yield bench
    bench.die()
