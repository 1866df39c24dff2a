"""Device hours that are used up: before a phase, in the middle of one, and what people are told of it."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from daemon.events.words import FOR_PEOPLE, event_record
from daemon.iteration import advance, find_iteration, iteration_record
from daemon.phase_worker import Worker
from daemon.scheduling import device_budget
from daemon.scheduling.budgets import UNLIMITED, Budgets, budgets_of
from daemon.scheduling.device_budget import DeviceHoursSpent, budgeted, hours_looked_at
from daemon.scheduling.hours import Closed
from daemon.scheduling.waiting import waiting_for
from daemon.settings import Settings
from daemon.spec import parse_spec
from storage import events, iterations, phase_runs, steering

HOUR = timedelta(hours=1)
LEARNING = ["finetune_world_model", "update_policy"]
TOMORROW = "1 device hours of today are used: waiting until 2026-01-02 00:00 UTC"


class Lab:
    """A database, a clock, and an iteration that learns without collecting."""

    def __init__(self, database, blobs, folder, now) -> None:
        self.database, self.blobs, self.folder, self.instant = database, blobs, folder, now
        self.updates: list[int] = []
        self.ask()

    def ask(self, **spec) -> None:
        with self.database.write() as session:
            document = parse_spec({"phases": LEARNING, **spec}).document()
            iterations.request_iteration(session, spec=document, idempotency_key=None, now=self.instant)

    def advance(self, budgets: Budgets = UNLIMITED) -> str | None:
        with self.database.write() as session:
            return advance(session, now=self.instant, budgets=budgets)

    def learned(self, hours: float, *, budgets: Budgets = UNLIMITED) -> str:
        """A worker does the next phase in so many hours; which one it was."""
        self.advance(budgets)
        with self.database.write() as session:
            claimed = phase_runs.claim(session, "w", ttl_s=1e6, now=self.instant)
        self.instant += hours * HOUR
        with self.database.write() as session:
            phase_runs.finish(session, claimed, outcome={}, now=self.instant)
        return claimed.phase

    def work(self, *, until: int, **settings) -> bool:
        """A worker does the phase that is queued: an update takes half an hour, and stays once it is made."""
        worker = Worker(
            settings=Settings(data_dir=self.folder, lease_ttl_s=0.1, **settings),
            name="w",
            stop=threading.Event(),
            phases=dict.fromkeys(LEARNING, lambda context: self.update(context, until=until)),
            database=self.database,
            blobs=self.blobs,
            now=lambda: self.instant,
            device=lambda: "NVIDIA H200",
        )
        return worker.work_once()

    def update(self, context, *, until: int) -> dict[str, int]:
        context.report(0.0, "loading the models")
        while len(self.updates) < until:
            self.instant += HOUR / 2
            self.updates.append(len(self.updates) + 1)
            self.heard(context.phase_run_id)
            context.report(len(self.updates) / until, f"update {len(self.updates)}")
        return {"updates": len(self.updates)}

    def heard(self, run_id: str) -> None:
        """Wait until the heartbeat has said that it is later by now."""
        for _ in range(4000):
            with self.database.read() as session:
                if phase_runs.get(session, run_id).heartbeat_at == self.instant:
                    return
            threading.Event().wait(0.005)
        raise AssertionError("no heartbeat")

    def record(self, number: int = 1) -> dict:
        with self.database.read() as session:
            return iteration_record(session, find_iteration(session, number))

    def waits(self, budgets: Budgets, number: int = 1) -> str | None:
        with self.database.read() as session:
            row = find_iteration(session, number)
            return waiting_for(session, row, budgets=budgets, now=self.instant)

    def told(self) -> list[str]:
        with self.database.read() as session:
            rows = events.list_events(session, kinds=("device_budget_spent",))[0]
        return [event_record(row)["text"] for row in reversed(rows)]

    def runs(self) -> list[tuple[str, str]]:
        return [(run["phase"], run["state"]) for run in self.record()["phases"]]


@pytest.fixture
def lab(database, blobs, tmp_path, now):
    return Lab(database, blobs, tmp_path, now)


@pytest.fixture
def every_report(monkeypatch):
    """Hours are looked at whenever a phase reports."""
    monkeypatch.setattr(device_budget, "LOOK_EVERY_S", 0.0)


DAY = Budgets(device_hours_per_day=1.0)
ITERATION = Budgets(device_hours_per_iteration=1.0)


def test_without_a_budget_nothing_waits(lab):
    assert lab.learned(100.0) == "finetune_world_model"
    assert lab.advance() == "phase queued iteration=1 phase=update_policy"


def test_a_phase_is_not_begun_on_a_day_whose_hours_are_used_and_is_on_the_next(lab):
    lab.learned(1.0, budgets=DAY)
    assert lab.advance(DAY) == f"phase waits iteration=1 phase=update_policy reason={TOMORROW}"
    assert lab.advance(DAY) is None, "it is told once"
    assert lab.runs() == [("finetune_world_model", "finished")]
    assert lab.record()["state"] == "running"
    assert lab.waits(DAY) == TOMORROW
    assert lab.told() == [f"iteration 1: update_policy goes on later: {TOMORROW}"]
    lab.instant = lab.instant.replace(hour=23, minute=59)
    assert lab.advance(DAY) is None
    lab.instant += timedelta(minutes=1)
    assert lab.waits(DAY) is None
    assert lab.advance(DAY) == "phase queued iteration=1 phase=update_policy"


def test_people_are_told_unasked():
    assert "device_budget_spent" in FOR_PEOPLE


def test_another_day_is_told_again(lab):
    lab.learned(1.0, budgets=DAY)
    lab.advance(DAY)
    lab.instant += timedelta(days=1)
    lab.learned(1.0, budgets=DAY)
    lab.ask(seed=2)
    while lab.advance(DAY) is not None:
        pass
    assert [text.partition(":")[0] for text in lab.told()] == ["iteration 1", "iteration 2"]
    assert lab.told()[1].endswith("waiting until 2026-01-03 00:00 UTC")


def test_a_phase_over_midnight_has_used_a_part_of_either_day(lab):
    """Two hours from 23:00: one is yesterday's, one today's; with two a day there is another."""
    lab.instant = lab.instant.replace(hour=23)
    lab.learned(2.0)
    assert lab.waits(Budgets(device_hours_per_day=2.0)) is None
    assert lab.waits(DAY) == "1 device hours of today are used: waiting until 2026-01-03 00:00 UTC"


def test_an_iteration_waits_for_a_larger_budget_whatever_day_it_is(lab):
    lab.learned(1.0)
    for _ in range(3):
        lab.advance(ITERATION)
        lab.instant += timedelta(days=1)
    said = "1 device hours of this iteration are used: waiting for a larger "
    assert lab.waits(ITERATION) == f"{said}GYMNASTD_DEVICE_HOURS_PER_ITERATION"
    assert len(lab.told()) == 1
    assert lab.waits(Budgets(device_hours_per_iteration=1.5)) is None
    assert lab.advance(Budgets(device_hours_per_iteration=1.5)) is not None
    assert lab.runs()[-1] == ("update_policy", "queued")


def test_hours_of_an_iteration_are_its_own_and_those_of_a_day_are_everybodys(lab):
    lab.learned(1.0)
    lab.ask(seed=2, lineage="b")
    assert lab.waits(ITERATION, number=2) is None
    assert lab.waits(DAY, number=2) == TOMORROW


def test_only_learning_waits_for_device_hours(lab):
    lab.learned(1.0)
    lab.ask(lineage="b", phases=["collect"])
    while lab.advance(DAY) is not None:
        pass
    assert [run["phase"] for run in lab.record(2)["phases"]] == ["collect"]


@pytest.mark.usefixtures("every_report")
def test_a_budget_that_runs_out_in_the_middle_of_a_phase_stops_it_and_nothing_is_lost(lab):
    lab.advance(DAY)
    assert lab.work(until=4, device_hours_per_day=1.0) is True
    assert lab.updates == [1, 2], "an hour, in two updates"
    (run,) = lab.record()["phases"]
    assert (run["state"], run["error"]["code"]) == ("abandoned", "device_budget_spent")
    assert run["error"]["message"] == f"given back by worker w: {TOMORROW}"
    assert run["device"] == "NVIDIA H200"
    assert lab.work(until=4, device_hours_per_day=1.0) is False, "nothing is queued"
    lab.advance(DAY)
    assert (lab.record()["state"], lab.waits(DAY), len(lab.told())) == ("running", TOMORROW, 1)
    lab.instant += timedelta(days=1)
    assert lab.advance(DAY) == "phase queued iteration=1 phase=finetune_world_model"
    assert lab.work(until=4, device_hours_per_day=1.5) is True
    assert lab.updates == [1, 2, 3, 4]
    assert lab.runs() == [("finetune_world_model", "abandoned"), ("finetune_world_model", "finished")]
    assert lab.record()["ledger"]["device_seconds"] == {"NVIDIA H200": pytest.approx(7200.0, abs=0.01)}


@pytest.mark.usefixtures("every_report")
def test_a_budget_that_is_raised_lets_an_iteration_go_on(lab):
    lab.advance(ITERATION)
    lab.work(until=4, device_hours_per_iteration=1.0)
    more = Budgets(device_hours_per_iteration=3.0)
    assert lab.advance(more) is None, "a worker said so a moment ago, and may allow less than the daemon"
    lab.instant += timedelta(minutes=1)
    assert lab.advance(more) == "phase queued iteration=1 phase=finetune_world_model"
    lab.work(until=4, device_hours_per_iteration=3.0)
    assert lab.updates == [1, 2, 3, 4]
    assert lab.told() == [], "the daemon itself never had to wait"


@pytest.mark.usefixtures("every_report")
def test_stops_for_want_of_hours_do_not_count_against_a_phase(lab):
    lab.advance(DAY)
    for _ in range(phase_runs.MAX_ATTEMPTS + 1):
        lab.work(until=99, device_hours_per_day=0.5)
        lab.instant += timedelta(days=1)
        lab.advance(DAY)
    assert {state for _, state in lab.runs()[:-1]} == {"abandoned"}
    assert lab.runs()[-1] == ("finetune_world_model", "queued")


@pytest.mark.usefixtures("every_report")
def test_a_run_that_was_queued_before_the_hours_were_used_stops_before_it_computes(lab):
    lab.learned(1.0)
    lab.advance()
    lab.work(until=4, device_hours_per_day=1.0)
    assert lab.updates == []
    assert lab.runs()[-1] == ("update_policy", "abandoned")


@pytest.mark.parametrize(("act", "state"), [(steering.pause, "paused"), (steering.cancel, "cancelled")])
def test_what_waits_for_hours_can_be_steered(lab, act, state):
    lab.learned(1.0, budgets=DAY)
    lab.advance(DAY)
    with lab.database.write() as session:
        act(session, find_iteration(session, 1).id, now=lab.instant)
    assert lab.record()["state"] == state


def test_settings_name_the_budgets():
    settings = Settings(device_hours_per_day=8, device_hours_per_iteration=2.5, robot_episodes_per_day=40)
    assert budgets_of(settings) == Budgets(
        episodes_per_day=40, device_hours_per_day=8.0, device_hours_per_iteration=2.5
    )
    assert budgets_of(Settings()) == UNLIMITED


def test_hours_are_looked_at_at_the_first_report_and_once_in_a_while_from_then_on():
    looks, reports, clock = [], [], [0.0]
    report = budgeted(
        lambda share, text: reports.append(text), spent=lambda: looks.append(clock[0]), clock=lambda: clock[0]
    )
    for at in (0.0, 0.4, 0.9, 1.0, 1.5, 2.0):
        clock[0] = at
        report(0.5, "on my way")
    assert (looks, len(reports)) == ([0.0, 1.0, 2.0], 6)


def test_what_is_reported_is_heard_before_the_phase_ends():
    reports = []
    report = budgeted(
        lambda share, text: reports.append(text), spent=lambda: Closed(why="none left", until=None)
    )
    with pytest.raises(DeviceHoursSpent, match="none left"):
        report(0.5, "update 3")
    assert reports == ["update 3"]


def test_a_database_that_is_busy_stops_no_training(lab, caplog):
    lab.advance()
    with lab.database.write() as session:
        claimed = phase_runs.claim(session, "w", ttl_s=60.0, now=lab.instant)

    class Busy:
        def read(self):
            raise OperationalError("SELECT", {}, Exception("database is locked"))

    settings = Settings(device_hours_per_day=1.0)
    spent = hours_looked_at(Busy(), claimed, settings=settings, now=lambda: lab.instant)
    assert spent() is None
    assert "database is locked" in caplog.text
