"""GET /v1/events over HTTP: its bounds, its waiting, and its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from robot_bridge.station import problems
from robot_bridge.station.event_routes import end_waiting, event_routes
from robot_bridge.station.journal import Journal
from tests.robot_bridge.builders import Clock


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path, now=Clock().now)
    yield journal
    journal.close()


@pytest.fixture
def app(journal: Journal) -> FastAPI:
    app = FastAPI()
    app.include_router(event_routes(journal))
    problems.install(app)
    return app


@pytest.fixture
def http(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def test_events_are_told_from_a_cursor_on(journal, http):
    for n in range(4):
        journal.append("hold", episode_id="e1", n=n)
    answer = http.get("/v1/events", params={"after": 1, "limit": 2}).json()
    assert [(event["cursor"], event["facts"]) for event in answer["events"]] == [(2, {"n": 1}), (3, {"n": 2})]
    assert (answer["next_cursor"], answer["oldest"]) == (3, 1)
    assert len(http.get("/v1/events").json()["events"]) == 4


@pytest.mark.parametrize(
    "query",
    [
        *("after=-1", "after=x", "after=1.5", "after=99999999999999999999"),
        *("wait=-1", "wait=30.1", "wait=nan", "wait=inf", "wait=x"),
        *("limit=0", "limit=501", "limit=-3", "limit="),
    ],
)
def test_numbers_out_of_bounds_are_refused_in_words(http, query):
    answer = http.get(f"/v1/events?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_request")
    assert query.partition("=")[0] in answer.json()["detail"]


def test_a_wait_ends_with_the_event(journal, http):
    bodies: list[dict[str, object]] = []
    asking = threading.Thread(
        target=lambda: bodies.append(http.get("/v1/events", params={"wait": 25}).json())
    )
    asking.start()
    journal.append("estop", reason="smoke")
    asking.join(20)
    assert [event["kind"] for event in bodies[0]["events"]] == ["estop"]


def test_a_wait_ends_empty_when_nothing_happens(http):
    answer = http.get("/v1/events", params={"wait": 0.01}).json()
    assert (answer["events"], answer["next_cursor"]) == ([], 0)


def test_a_wait_goes_on_over_the_looks_in_between(journal, http):
    """An answer after more than a second must hold the event that came then."""
    answers: list[list[str]] = []

    def ask() -> None:
        answers.append([e["kind"] for e in http.get("/v1/events", params={"wait": 25}).json()["events"]])

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(1.2)  # longer than one look
    journal.append("hold")
    asking.join(20)
    assert answers == [["hold"]]


def test_whoever_waits_is_answered_when_the_station_ends(app, http):
    bodies: list[dict[str, object]] = []
    asking = threading.Thread(
        target=lambda: bodies.append(http.get("/v1/events", params={"wait": 25}).json())
    )
    asking.start()
    while not hasattr(app.state, "journal"):
        asking.join(0.01)
    end_waiting(app)
    asking.join(20)
    assert bodies[0]["events"] == []


def test_an_app_at_which_nobody_waited_can_end(app):
    end_waiting(app)
