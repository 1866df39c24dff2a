"""A station without HTTP, over the toy robot, whose clocks move only when a test moves them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from robot_bridge.drivers.driver import RobotDriver
from robot_bridge.protocol import EpisodeReadyAnswer, LeaseRequest, StepsAnswer, StepsRequest
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

    def start(self, driver: RobotDriver | None = None, *, spool_limit: int = 10**9) -> StationSession:
        self.session = StationSession(
            driver or self.driver,
            Spool(self.root),
            station_id="bench",
            clock=self.clock,
            now=self.clock.now,
            spool_limit=spool_limit,
        )
        return self.session

    def restart(self) -> StationSession:
        self.session.close()
        return self.start()

    def die(self) -> None:
        """Lose everything that is only in memory."""
        self.session.spool.close()

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
    bench.session.spool.close()
