"""Ten thousand malformed requests to a station and to a gateway: all refused, nothing moved, nothing kept.

They are made from the servers' own OpenAPI by schemathesis (what the documents forbid) and by hand, and are
malformed by construction: a POST that is accepted is a failure, whoever sent it. A station meets them while
nobody drives, under a live lease, and in the middle of an episode whose next step would be welcome; the
sender has every scope, so no door hides what is behind it. A gateway meets them in a running attempt.

Memory is measured after a warm-up in two ways: what Python's allocator still holds (objects, numpy arrays;
steady to some tens of kilobytes), and what the program occupies (also what Rust and C hold; steady to some
megabytes, as allocators keep pages and fill them again). A leak of a kilobyte per request breaks the first
bound, one of four kilobytes the second in any program. What grows with accepted work, such as journal and
spool, is not looked at here.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from robot_bridge.autoeval.gateway import Gateway, running_gateway
from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import Sample, StepOutcome
from robot_bridge.station.app import Surroundings, create_station_app
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.serve import running_station
from robot_bridge.station.tokens import SCOPES, TokenFile
from tests.contracts import malformed_gateway as to_gateway
from tests.contracts import malformed_station as to_station
from tests.contracts.malformed import Malformed, ask, from_openapi
from tests.contracts.malformed_run import Run, Tally
from tests.contracts.malformed_sockets import Bytes, exchange, no_http, over_http
from tests.contracts.malformed_station import CREATE, DONE, STEPS
from tests.contracts.station_bench import Bench
from tests.robot_bridge.autoeval.gateway_builders import (
    CAPABILITY,
    Caller,
    FakePolicy,
    a_body,
    a_gateway,
    a_job,
)
from tests.robot_bridge.builders import Clock
from tests.robot_bridge.toy_driver import ToyDriver

EPISODE_ID = "e1"
OPENED = {**CREATE, "episode_id": EPISODE_ID, "max_steps": 1000}
UNLEASED = {"fence": "1", "lease_id": "none", "episode_id": EPISODE_ID}
PATIENT = StationPolicy(hold_after_ms=600_000, abort_after_ms=600_000)  # no dead-man in the middle of it
HELD_BYTES = 100  # a request, in Python's own books
OCCUPIED_BYTES = 1000  # a request, of the program's memory
LEAKS = {"held": (1024, HELD_BYTES), "occupied": (4096, OCCUPIED_BYTES)}  # what is leaked, what is allowed


class Watched(ToyDriver):
    """The toy robot, whose `calls` hold everything that it was ever told to do."""

    def reset(self, task_id: str, *, seed: int) -> Sample:
        self.calls.append("reset")
        return super().reset(task_id, seed=seed)

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        self.calls.append("step")
        return super().step(target, gripper)


@asynccontextmanager
async def a_station(root: Path) -> AsyncIterator[tuple[Run, Watched]]:
    """A station whose clock stands, so that nothing ends by itself; the sender may do everything."""
    driver, clock, tokens = Watched(), Clock(), TokenFile(root / "tokens.json")
    secret = tokens.create("all", SCOPES)
    around = Surroundings(clock=clock, now=clock.now)
    app = create_station_app(driver, root / "spool", station_id="bench", tokens=tokens, around=around)
    session = app.state.session

    def untouched() -> tuple[Any, ...]:
        recording, lease = session.recording, session.leases.state()
        return (
            list(driver.calls),
            lease,
            recording and (recording.episode_id, recording.count),
            session.estop.read(),
        )

    async with app.router.lifespan_context(app):
        authorization = (b"authorization", b"Bearer " + secret.encode())
        yield Run(app=app, untouched=untouched, names={**UNLEASED}, headers=(authorization,)), driver


async def a_day_of_a_station(root: Path, warm: Sequence[Malformed], requests: Sequence[Malformed]) -> Run:
    """Everything in three situations; then what is welcome, which moves the arm once."""
    async with a_station(root) as (run, driver):
        await run.send_measured(warm, requests)
        assert driver.calls == []
        lease = await run.good("/v1/leases", {"holder": "driver"})
        run.names |= {"fence": str(lease["fence"]), "lease_id": lease["lease_id"]}
        await run.send_measured(warm, requests)
        assert driver.calls == []
        await run.good("/v1/episodes", OPENED)
        for t in range(to_station.NEXT):
            await run.good(STEPS, {"t": t, "actions": [DONE]})
        await run.send_measured(warm, requests)
        assert driver.calls == ["reset", *["step"] * to_station.NEXT]
        await run.good(STEPS, to_station.STEP)
        assert driver.calls == ["reset", *["step"] * (to_station.NEXT + 1)]
    return run


async def a_day_of_a_gateway(root: Path, warm: Sequence[Malformed], requests: Sequence[Malformed]) -> Run:
    """Everything in one attempt; then the one question for which the policy is asked."""
    link, gateway = FakePolicy(), a_gateway(root, Clock())
    gateway.open(a_job(), link)
    names = {"capability": CAPABILITY}
    run = Run(app=gateway.app, untouched=lambda: (len(link.asked), len(link.resets)), names=names)
    await run.good(to_gateway.RESET, {})
    await run.send_measured(warm, requests)
    assert (len(link.asked), len(link.resets)) == (0, 1)
    status, _ = await ask(gateway.app, to_gateway.act("nothing", a_body()).dressed(names))
    assert (status, len(link.asked)) == (200, 1)
    gateway.close("job-1")
    assert [attempt.steps for attempt in gateway.attempts("job-1")] == [1]
    return run


def station_document(root: Path) -> dict[str, Any]:
    app = create_station_app(ToyDriver(), root / "described", station_id="bench")
    document = app.openapi()
    app.state.session.close()
    return document


def gateway_document(root: Path) -> dict[str, Any]:
    return Gateway(root / "described-gateway").app.openapi()


@pytest.mark.slow
def test_a_station_refuses_what_is_malformed_and_nothing_moves(tmp_path):
    requests = [
        *from_openapi(station_document(tmp_path), each=4),
        *list(to_station.by_hand(scrambles=5))[::5],
    ]
    run = asyncio.run(a_day_of_a_station(tmp_path, [], requests))
    assert run.tally.wrong == []
    assert run.tally.refused > 900


def test_a_gateway_refuses_what_is_malformed_and_asks_no_policy(tmp_path):
    requests = [
        *from_openapi(gateway_document(tmp_path), each=40),
        *list(to_gateway.by_hand(scrambles=10))[::2],
    ]
    run = asyncio.run(a_day_of_a_gateway(tmp_path, [], requests))
    assert run.tally.wrong == []
    assert run.tally.refused > 400


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_malformed_requests_break_nothing_move_nothing_and_leave_nothing_behind(tmp_path):
    station = [*from_openapi(station_document(tmp_path), each=150), *to_station.by_hand(scrambles=250)]
    gateway = [*from_openapi(gateway_document(tmp_path), each=300), *to_gateway.by_hand(scrambles=400)]
    tracemalloc.start()
    try:
        runs = [
            asyncio.run(a_day_of_a_station(tmp_path / "station", station[::4], station)),
            asyncio.run(a_day_of_a_gateway(tmp_path / "gateway", gateway[::4], gateway)),
        ]
    finally:
        tracemalloc.stop()
    assert [run.tally.wrong for run in runs] == [[], []]
    assert sum(run.tally.refused for run in runs) >= 10_000
    for run, measured in zip(runs, (3 * len(station), len(gateway)), strict=True):
        assert run.growth.held < HELD_BYTES * measured
        assert run.growth.occupied < OCCUPIED_BYTES * measured


@pytest.mark.parametrize("where", LEAKS)
def test_a_leak_would_be_seen(where):
    leak, limit = LEAKS[where]
    kept: list[bytes] = []

    async def leaking(scope: Any, receive: Any, send: Any) -> None:
        kept.append(b"x" * (leak - 33) + b"%d" % len(kept))
        await send({"type": "http.response.start", "status": 422, "headers": []})

    run = Run(app=leaking, untouched=lambda: None, names={})  # type: ignore[arg-type]
    count = 10_000
    tracemalloc.start()
    try:
        asyncio.run(run.send_measured([], [to_station.step("leak")] * count))
    finally:
        tracemalloc.stop()
    assert getattr(run.growth, where) > limit * count


@pytest.mark.parametrize(
    ("status", "counted"), [(200, False), (307, False), (500, False), (503, False), (422, True)]
)
def test_whatever_is_no_refusal_is_reported(status, counted):
    tally = Tally()
    tally.count(to_station.step("anything"), status)
    assert (tally.refused, len(tally.wrong)) == ((1, 0) if counted else (0, 1))


def refused_over(port: int, everything: Iterator[Bytes]) -> int:
    """Send all of it; gives how many were refused. Who hung up may get no answer; nobody gets another one."""
    refused = 0
    for raw in everything:
        statuses = exchange(port, raw)
        assert all(400 <= status < 500 for status in statuses), (raw.why, statuses)
        assert statuses or raw.cut, f"{raw.why}: no answer"
        refused += bool(statuses)
    return refused


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def test_a_station_on_a_socket_refuses_what_is_no_http_and_nothing_moves(tmp_path):
    driver, tokens = Watched(), TokenFile(tmp_path / "tokens.json")
    secret, spool = tokens.create("all", SCOPES), tmp_path / "spool"
    key = (b"authorization", b"Bearer " + secret.encode())
    with running_station(driver, spool=spool, station_id="bench", policy=PATIENT, tokens=tokens) as url:
        bench = Bench(url, token=secret)
        lease = bench.acquire(ttl_s=60.0)
        names = {"fence": str(lease.fence), "lease_id": lease.lease_id, "episode_id": EPISODE_ID}
        bench.moving("/v1/episodes", OPENED)
        for t in range(to_station.NEXT):
            bench.step(EPISODE_ID, t, DONE)
        before = list(driver.calls)
        target = STEPS.format(**names)
        raw = no_http(
            target,
            json.dumps(to_station.STEP).encode(),
            headers=(b"Fence: %d" % lease.fence, b": ".join(key)),
        )
        plain = itertools.islice(to_station.by_hand(scrambles=5), 0, None, 10)
        made = (over_http(request.dressed(names).under(key)) for request in plain)
        refused = refused_over(port_of(url), itertools.chain(raw, (found for found in made if found)))
        assert refused > 200
        assert driver.calls == before
        bench.step(EPISODE_ID, to_station.NEXT, DONE)  # not the step that was sent: it must be new
        assert driver.calls == [*before, "step"]
        bench.session.close()


def test_a_gateway_on_a_socket_refuses_what_is_no_http_and_asks_no_policy(tmp_path):
    link, gateway = FakePolicy(), a_gateway(tmp_path, Clock())
    gateway.open(a_job(), link)
    assert Caller(gateway).reset().status_code == 200
    names = {"capability": CAPABILITY}
    with running_gateway(gateway) as url:
        raw = no_http(to_gateway.ACT.format(**names), a_body())
        plain = itertools.islice(to_gateway.by_hand(scrambles=5), 0, None, 10)
        made = (over_http(request.dressed(names)) for request in plain)
        refused = refused_over(port_of(url), itertools.chain(raw, (found for found in made if found)))
    assert refused > 100
    assert (len(link.asked), len(link.resets)) == (0, 1)
    gateway.close("job-1")
    assert gateway.attempts("job-1") == []
