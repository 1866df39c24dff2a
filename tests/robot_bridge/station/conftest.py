"""A station without HTTP, over the toy robot, whose clocks move only when a test moves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from robot_bridge.callback import PolicyLink
from robot_bridge.drivers.driver import RobotDriver
from robot_bridge.policy_link import HttpPolicyLink
from robot_bridge.protocol import EpisodeReadyAnswer, LeaseRequest, StepsAnswer, StepsRequest
from robot_bridge.station.journal import Journal
from robot_bridge.station.parts import Station
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.session import StationSession
from robot_bridge.station.spool import Spool
from tests.robot_bridge.builders import Clock, a_request, forward
from tests.robot_bridge.toy_driver import ToyDriver


@dataclass
class Bench:
    """One station and what a test needs around it."""

    root: Path
    driver: ToyDriver = field(default_factory=ToyDriver)
    clock: Clock = field(default_factory=Clock)
    session: StationSession = field(init=False)
    fence: int = 0
    policy: StationPolicy = field(default_factory=StationPolicy)
    connect: Callable[[str], PolicyLink] = HttpPolicyLink

    def start(self, driver: RobotDriver | None = None, *, spool_limit: int = 10**9) -> StationSession:
        station = Station(
            station_id="bench",
            spool=Spool(self.root),
            journal=Journal(self.root, now=self.clock.now),
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


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "spool")
    bench.start()
    yield bench
    bench.die()
