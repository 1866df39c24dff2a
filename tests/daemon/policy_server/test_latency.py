"""What a call costs is measured around it; only calls that a route marks are counted."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from daemon.policy_server.latency import NEWEST, Latencies, Timed, say_thought


def test_before_the_first_call_there_is_nothing_to_say() -> None:
    latencies = Latencies()
    assert latencies.calls == 0
    for percentiles in (latencies.thought(), latencies.around()):
        assert (percentiles.p50, percentiles.p99) == (None, None)


def test_percentiles_are_of_what_was_measured() -> None:
    latencies = Latencies()
    for number in range(101):
        latencies.add(thought_ms=10.0 + number, total_ms=10.0 + number + 2.0)
    assert latencies.calls == 101
    assert (latencies.thought().p50, latencies.thought().p99) == (60.0, 109.0)
    assert latencies.around().p50 == pytest.approx(2.0)


def test_calls_that_think_nothing_count_for_the_rest_only() -> None:
    latencies = Latencies()
    latencies.add(thought_ms=0.0, total_ms=4.0)
    latencies.add(thought_ms=7.0, total_ms=8.0)
    assert latencies.thought().p50 == 7.0
    assert latencies.around().p50 == 2.5


def test_the_oldest_calls_are_forgotten() -> None:
    latencies = Latencies()
    for _ in range(10):
        latencies.add(thought_ms=1.0, total_ms=500.0)
    for _ in range(NEWEST):
        latencies.add(thought_ms=1.0, total_ms=2.0)
    assert latencies.around().p99 == 1.0
    assert latencies.calls == NEWEST + 10


def a_client(latencies: Latencies) -> TestClient:
    app = FastAPI()
    app.add_middleware(Timed, latencies=latencies)

    @app.get("/thinks")
    def thinks(request: Request) -> str:
        say_thought(request, 0.001)
        return "done"

    @app.get("/idles")
    def idles() -> str:
        return "done"

    return TestClient(app)


def test_a_marked_call_says_what_it_took() -> None:
    latencies = Latencies()
    answer = a_client(latencies).get("/thinks")
    infer, total = answer.headers["Server-Timing"].split(", ")
    assert infer == "infer;dur=0.001"
    assert float(total.removeprefix("total;dur=")) > 0.001
    assert latencies.calls == 1


def test_other_calls_are_left_alone() -> None:
    latencies = Latencies()
    answer = a_client(latencies).get("/idles")
    assert "Server-Timing" not in answer.headers
    assert latencies.calls == 0
