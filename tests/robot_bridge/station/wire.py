"""A station over HTTP without a socket, for tests of what it says on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from robot_bridge.protocol import Problem
from robot_bridge.station.app import Surroundings, create_station_app
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.tokens import TokenFile
from tests.robot_bridge.builders import Clock, a_request, forward
from tests.robot_bridge.station.conftest import Scripted

JSON = {"Content-Type": "application/json"}


class Wire:
    """A station over HTTP, and the fence of whoever holds it."""

    def __init__(self, http: TestClient, driver: Scripted) -> None:
        self.http = http
        self.driver = driver
        self.fence = ""

    def lease(self) -> dict:
        lease = self.http.post("/v1/leases", json={"holder": "daemon"}).json()
        self.fence = str(lease["fence"])
        return lease

    def post(self, path: str, body: object, **headers: str):
        return self.http.post(path, json=body, headers={"Fence": self.fence, **headers})

    def create(self, **changes: object):
        request = a_request(**{"episode_id": "e1", **changes})
        return self.post("/v1/episodes", request.model_dump(mode="json"))

    def step(self, t: int, actions: list[list[float]]):
        return self.post("/v1/episodes/e1/steps", {"t": t, "actions": actions})

    def finished(self) -> dict:
        self.lease()
        self.create()
        self.step(0, forward(2))
        return self.post("/v1/episodes/e1/finish", {"reason": "completed"}).json()


@contextmanager
def a_wire(
    root: Path,
    *,
    policy: StationPolicy | None = None,
    tokens: TokenFile | None = None,
    peer: str = "127.0.0.1",
    **around: Any,
) -> Iterator[Wire]:
    """A station whose caller sits at `peer`; it is closed afterwards."""
    driver, clock = Scripted(), Clock()
    app = create_station_app(
        driver,
        root,
        station_id="bench",
        policy=policy,
        tokens=tokens,
        around=Surroundings(clock=clock, now=clock.now, **around),
    )
    with TestClient(app, client=(peer, 50000)) as http:
        wire = Wire(http, driver)
        wire.clock, wire.session = clock, app.state.session
        yield wire
    assert driver.closed == 1


def problem(answer) -> Problem:
    assert answer.headers["content-type"] == "application/problem+json"
    body = Problem.model_validate_json(answer.content)
    assert body.status == answer.status_code
    return body
