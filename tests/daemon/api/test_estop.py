"""The emergency stop over REST: every station, no lease, and no success where one was not reached.

It needs no database: not to be called, not to find out who calls, if that was known, and not to answer.
"""

import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import pytest
from fastapi.testclient import TestClient

from daemon.api.callers import REMEMBERED_S, Callers
from daemon.app import create_app
from daemon.events.words import FOR_PEOPLE, event_record
from robot_bridge.client import StationClient
from robot_bridge.station.serve import running_station
from storage import access_tokens, audit, events
from storage.db import BUSY_TIMEOUT_MS
from tests.daemon.dashboard.html import Page
from tests.robot_bridge.toy_driver import ToyDriver

NOBODY_THERE = "http://127.0.0.1:9"


@pytest.fixture
def station(tmp_path):
    with running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench") as url:
        yield url


@pytest.fixture
def serving_stations(settings):
    """A client of a daemon that has these stations."""

    def one(*urls):
        return TestClient(create_app(settings.model_copy(update={"station_url": ",".join(urls)})))

    return one


def test_a_stop_reaches_a_station_that_somebody_else_has_leased(serving_stations, station):
    holder = StationClient(station)
    holder.acquire_lease("collector")
    with serving_stations(station) as client:
        answer = client.post("/v1/estop", json={"reason": "smoke"})
    assert answer.status_code == 200
    (stopped,) = answer.json()["items"]
    assert stopped["address"] == station
    assert "smoke" in stopped["reason"]
    assert holder.status().state == "ESTOPPED"
    holder.close()


def test_nobody_has_to_say_why(serving_stations, station):
    with serving_stations(station) as client:
        assert client.post("/v1/estop").status_code == 200
        assert client.post("/v1/estop", json={"reason": "r" * 400}).status_code == 200
        with client.app.state.services.database.read() as session:
            found = audit.read(session)
    assert [(event.actor, event.action, event.facts) for event in found] == [
        ("rest", "estop", {station: "stopped"}),
        ("rest", "estop", {station: "stopped"}),
    ]


def pressed(client):
    with client.app.state.services.database.read() as session:
        return events.after(session, 0, kinds=("estop_pressed",))


def test_a_stop_is_an_event_that_people_are_told_of(serving_stations, station):
    with serving_stations(NOBODY_THERE, station) as client:
        client.post("/v1/estop", json={"reason": "smoke"})
        (event,) = pressed(client)
    assert event_record(event)["text"] == (
        f"somebody pressed the emergency stop (smoke): {NOBODY_THERE} NOT STOPPED, {station} stopped"
    )
    assert event.facts["stations"][station] == "stopped"
    assert "did not answer" in event.facts["stations"][NOBODY_THERE]
    assert "estop_pressed" in FOR_PEOPLE


def test_every_press_is_an_event_and_nothing_else_is(serving_stations, station):
    with serving_stations(station) as client:
        client.get("/v1/iterations")
        assert pressed(client) == []
        for _ in range(2):
            client.post("/v1/estop")
        told = [event.facts["reason"] for event in pressed(client)]
    assert told == ["no reason given", "no reason given"]


def test_one_station_that_does_not_answer_hides_behind_no_other(serving_stations, station):
    with serving_stations(NOBODY_THERE, station) as client:
        answer = client.post("/v1/estop")
        with client.app.state.services.database.read() as session:
            (event,) = audit.read(session)
    assert (answer.status_code, answer.json()["code"]) == (424, "stations_not_stopped")
    assert answer.json()["retryable"] is True
    assert f"NOT STOPPED: {NOBODY_THERE}" in answer.json()["detail"]
    assert f"Stopped: {station}" in answer.json()["detail"]
    assert event.facts[station] == "stopped"
    assert "did not answer" in event.facts[NOBODY_THERE]
    watcher = StationClient(station)
    assert watcher.status().estop_reason is not None
    watcher.close()


def test_a_token_file_that_cannot_be_read_is_no_stop(settings, station, tmp_path):
    ours = settings.model_copy(
        update={"station_url": station, "station_token_file": tmp_path / "nothing-here"}
    )
    with TestClient(create_app(ours)) as client:
        answer = client.post("/v1/estop")
    assert answer.status_code == 424
    assert "nothing-here" in answer.json()["detail"]


@pytest.mark.parametrize("body", [{"reason": "r" * 401}, {"reason": 1}, {"url": "http://192.0.2.1"}])
def test_a_body_of_another_shape_is_refused(client, body):
    assert client.post("/v1/estop", json=body).status_code == 422


@pytest.fixture
def served(serving_stations, station):
    """A daemon of one station, whose tokens are looked up by a clock that the test moves."""
    with serving_stations(station) as client:
        services = client.app.state.services
        client.seconds = 0.0
        callers = Callers(services.database, now=services.now, clock=lambda: client.seconds)
        callers.prepare()
        client.app.state.services = replace(services, callers=callers)
        yield client
        callers.close()


def token_of(client, *scopes, name="ann"):
    """A header with a new token; from then on everybody is asked for one."""
    now = datetime.now(UTC)
    with client.app.state.services.database.write() as session:
        made = access_tokens.create(session, name, scopes=scopes, expires_at=None, now=now)
    client.seconds += REMEMBERED_S
    return {"Authorization": f"Bearer {made[1]}"}


def state_of(station):
    watcher = StationClient(station)
    try:
        return watcher.status().state
    finally:
        watcher.close()


@contextmanager
def away(client):
    """Take the database away from the daemon: its file is a folder meanwhile."""
    database = client.app.state.services.database
    file = Path(database.url.database)
    kept = file.rename(file.with_suffix(".kept"))
    file.mkdir()
    database.dispose()
    client.seconds += REMEMBERED_S
    try:
        yield
    finally:
        file.rmdir()
        kept.rename(file)
        database.dispose()


def test_a_database_that_is_locked_for_writing_delays_neither_the_stop_nor_its_answer(served, station, until):
    never_seen, database = token_of(served, "operate"), served.app.state.services.database
    with database.write() as writer:
        writer.connection()
        begun = monotonic()
        answer = served.post("/v1/estop", headers=never_seen)
        took_s = monotonic() - begun
        assert (answer.status_code, state_of(station)) == (200, "ESTOPPED")
        assert took_s < BUSY_TIMEOUT_MS / 3000, "an unseen token's use and the audit are written behind it"

    def written():
        with database.read() as session:
            used = access_tokens.list_tokens(session)[0].last_used_at
            return used is not None and [event.actor for event in audit.read(session)]

    assert until(written) == ["ann"]


def test_without_its_database_the_daemon_stops_for_who_was_known(served, station):
    ann = token_of(served, "operate")
    assert served.get("/v1/iterations", headers=ann).status_code == 200
    with away(served):
        assert served.get("/v1/iterations", headers=ann).json()["code"] == "database_away"
        answer = served.post("/v1/estop", headers=ann)
        assert (answer.status_code, state_of(station)) == (200, "ESTOPPED")


def test_without_its_database_the_daemon_stops_for_the_red_button_of_an_open_page(served, station):
    token = token_of(served, "operate")["Authorization"].split()[1]
    word = Page(served.get("/login").text).value_of("word")
    served.post("/login", data={"word": word, "token": token})
    word = Page(served.get("/", headers={"Accept": "text/html"}).text).value_of("word")
    with away(served):
        answer = served.post("/estop", data={"word": word}, follow_redirects=False)
        assert (answer.status_code, state_of(station)) == (303, "ESTOPPED")


def test_without_its_database_the_daemon_stops_for_anybody_if_nobody_was_asked_for_a_token(served, station):
    with away(served):
        from_elsewhere = served.post("/v1/estop", headers={"Origin": "https://evil.example"})
        assert (from_elsewhere.status_code, state_of(station)) == (403, "IDLE")
        assert served.post("/v1/estop").status_code == 200
        assert state_of(station) == "ESTOPPED"


def test_without_its_database_nobody_stops_who_was_not_known_or_may_not(served, station):
    reader, unseen = token_of(served, "read"), token_of(served, "operate", name="bob")
    assert served.get("/v1/iterations", headers=reader).status_code == 200
    with away(served):
        assert served.post("/v1/estop", headers=reader).status_code == 403
        for headers in (unseen, {}):
            answer = served.post("/v1/estop", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (503, "database_away")
    assert state_of(station) == "IDLE"


def test_a_database_that_gives_no_answer_at_all_delays_a_stop_by_a_moment(served, station):
    ann, back = token_of(served, "operate"), threading.Event()
    assert served.get("/v1/iterations", headers=ann).status_code == 200
    served.app.state.services.callers.check_whether_to_ask = lambda: back.wait(30)
    served.seconds += REMEMBERED_S
    begun = monotonic()
    try:
        answer = served.post("/v1/estop", headers=ann)
        took_s = monotonic() - begun
    finally:
        back.set()
    assert (answer.status_code, state_of(station)) == (200, "ESTOPPED")
    assert took_s < 10
