"""Stations that need a human: told once, by whoever sees it first, and told again when it happens again."""

from contextlib import ExitStack

import pytest

from daemon.events.stations import StationsTold, look_at_stations, needs_human
from daemon.settings import Settings
from daemon.station_watch import StationWatch
from robot_bridge.client import StationClient
from robot_bridge.description import MotorAnswer, StatusAnswer
from robot_bridge.drivers.faults import FaultPlan, FaultyDriver
from robot_bridge.station.estop import EStopLatch
from robot_bridge.station.human import HumanCall
from robot_bridge.station.serve import running_station
from storage import events
from tests.robot_bridge.toy_driver import ToyDriver

KINDS = ("station_needs_human", "station_goes_on")


def status(state, **facts) -> StatusAnswer:
    rest = {"lease": None, "episode": None, "estop_reason": None, "spooled_episodes": 0, "spooled_bytes": 0}
    return StatusAnswer(state=state, station_time=0.0, **{**rest, **facts})


class Bench:
    """An idle station, and a daemon that looks at it; seconds pass between two looks."""

    def __init__(self, database, folder, now, stack) -> None:
        self.database, self.spool, self.now = database, folder, now
        self.driver = FaultyDriver(ToyDriver(), plan=FaultPlan(reset_reboots=True))
        self.running = stack.enter_context(ExitStack())
        self.url = self.running.enter_context(running_station(self.driver, spool=folder, station_id="bench"))
        self.seconds = 0.0
        self.watch = StationWatch(Settings(station_url=self.url), clock=lambda: self.seconds)
        stack.callback(self.watch.close)

    def look(self) -> str | None:
        self.seconds += 10.0
        return look_at_stations(self.now, database=self.database, stations=self.watch)

    def told(self) -> list[str]:
        return [event.kind for event in self.events()]

    def events(self):
        with self.database.read() as session:
            return events.after(session, 0, kinds=KINDS)


@pytest.fixture
def bench(sqlite_database, tmp_path, now, monkeypatch):
    monkeypatch.setattr("daemon.events.stations.PATIENCE_S", 20.0)
    monkeypatch.setattr("daemon.station_watch.ANSWER_S", 20.0)
    with ExitStack() as stack:
        yield Bench(sqlite_database, tmp_path / "spool", now, stack)


@pytest.mark.parametrize("state", ["IDLE", "RUNNING", "RESTING", "HOMING", "OFFLINE"])
def test_a_station_that_works_rests_or_ends_needs_nobody(state):
    assert needs_human(status(state)) is None


def test_why_a_station_needs_somebody_is_in_its_own_words():
    assert needs_human(status("WAITING_HUMAN", waiting_for="the pot fell over")) == "the pot fell over"
    stopped = needs_human(status("ESTOPPED", estop_reason="ann: smoke"))
    assert stopped == "its emergency stop is pressed (ann: smoke)"
    well = MotorAnswer(name="waist", torque=True, error="", temperature_c=30.0, current_mA=1.0)
    ill = well.model_copy(update={"name": "elbow", "error": "overload"})
    assert needs_human(status("FAULT", motors=(well, ill))) == "motor elbow reports overload"
    assert "station's log" in needs_human(status("FAULT", motors=(well,)))


def test_an_idle_station_that_needs_somebody_is_told_once_and_again_the_next_time(bench):
    assert bench.look() is None
    HumanCall(bench.spool).ask("the eggplant fell off the table", bench.now)
    assert bench.look() == (f"station_needs_human url={bench.url} reason='the eggplant fell off the table'")
    assert bench.look() is None, "it is told once"
    HumanCall(bench.spool).done()
    bench.look()
    assert bench.look() is None, "that it goes on as well"
    HumanCall(bench.spool).ask("the pot fell over", bench.now)
    bench.look()
    assert bench.told() == ["station_needs_human", "station_goes_on", "station_needs_human"]
    first, over, second = bench.events()
    assert first.facts == {
        "station": "bench",
        "address": bench.url,
        "reason": "the eggplant fell off the table",
    }
    assert over.facts == {"station": "bench", "address": bench.url}
    assert second.facts["reason"] == "the pot fell over"


def test_a_pressed_emergency_stop_is_told_until_it_is_cleared(bench):
    with StationClient(bench.url).leased("collector"):
        StationClient(bench.url).estop("hand in the cell")
    bench.look()
    bench.look()
    (event,) = bench.events()
    assert "hand in the cell" in event.facts["reason"]
    EStopLatch(bench.spool).clear()
    bench.look()
    assert bench.told() == ["station_needs_human", "station_goes_on"]


def test_a_station_that_went_away_is_neither_worse_nor_better(bench):
    HumanCall(bench.spool).ask("the pot fell over", bench.now)
    bench.look()
    bench.running.close()
    assert bench.look() is None
    assert bench.told() == ["station_needs_human"]


def test_a_station_that_is_slower_than_a_page_waits_for_is_told_of_all_the_same(bench, monkeypatch):
    monkeypatch.setattr("daemon.station_watch.PATIENCE_S", 0.0)
    HumanCall(bench.spool).ask("the pot fell over", bench.now)
    bench.look()
    assert bench.told() == ["station_needs_human"]


def test_what_a_phase_has_told_is_not_told_by_the_daemon_again(bench):
    HumanCall(bench.spool).ask("the pot fell over", bench.now)
    phase = StationsTold(bench.database)
    assert phase.tell(bench.url, "the pot fell over", name=lambda: "bench", now=bench.now) == KINDS[0]
    assert bench.look() is None
    HumanCall(bench.spool).done()
    bench.look()
    assert phase.tell(bench.url, None, name=lambda: "bench", now=bench.now) is None
    assert bench.told() == list(KINDS)


def test_one_station_says_nothing_of_another(database, now):
    told = StationsTold(database)
    for address in ("http://a", "http://b", "http://a"):
        told.tell(address, "a pot", name=lambda at=address: at, now=now)
    told.tell("http://b", None, name=lambda: "b", now=now)
    with database.read() as session:
        rows = events.after(session, 0, kinds=KINDS)
    assert [(row.kind, row.facts["address"]) for row in rows] == [
        ("station_needs_human", "http://a"),
        ("station_needs_human", "http://b"),
        ("station_goes_on", "http://b"),
    ]


def test_a_name_is_asked_for_only_when_there_is_something_to_tell(database, now):
    def name() -> str:
        raise AssertionError("there is nothing to tell")

    assert StationsTold(database).tell("http://a", None, name=name, now=now) is None
