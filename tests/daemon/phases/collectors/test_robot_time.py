"""A robot whose time is over stops between two episodes, is given back, and goes on when its time comes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.phases import robot_time as robot_time_module
from daemon.phases.robot_time import RobotTime
from daemon.phases.todo import Todo
from daemon.spec import parse_spec
from robot_bridge.client import StationClient
from storage import events, station_hours
from tests.daemon.phases.collectors.test_station import Cell, helper
from tests.daemon.phases.conftest import Lab

NIGHT = datetime(2026, 1, 1, 23, 0, tzinfo=UTC)
DAY = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
NIGHTS = {"open": [{"begins": "20:00", "ends": "06:00"}]}


class Watched(Cell):
    """A cell whose clock the test sets, and which is told of what the phase says."""

    def __init__(self, lab: Lab, spool: Path, stack: ExitStack) -> None:
        super().__init__(lab, spool, stack)
        self.at, self.said = NIGHT, threading.Event()
        self.sentences: list[str] = []
        self.sink.context = replace(self.sink.context, now=lambda: self.at, report=self._hear)

    def _hear(self, share: float, text: str) -> None:
        self.sentences.append(text)
        if "waiting until" in text:
            self.said.set()

    def with_hours(self, hours: dict[str, object]) -> None:
        with self.lab.database.write() as session:
            station_hours.put(session, "cell", hours, now=self.at)

    def allowing(self, *, day: int | None = None, iteration: int | None = None) -> None:
        context = self.sink.context
        spec = context.spec.model_dump(mode="json")
        spec["collect"]["max_episodes"] = iteration
        settings = context.settings.model_copy(update={"robot_episodes_per_day": day})
        self.sink.context = replace(context, spec=parse_spec(spec), settings=settings)


@pytest.fixture
def cell(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(robot_time_module, "LOOK_EVERY_S", 0.02)
    with ExitStack() as stack:
        yield Watched(lab, tmp_path / "cell", stack)


def when_waiting(cell: Watched, action: Callable[[StationClient], object]) -> Callable[[], None]:
    stranger = cell.stranger()

    def act() -> None:
        assert cell.said.wait(30)
        action(stranger)

    return act


def test_by_day_nothing_moves_and_people_may_have_the_robot(cell: Watched) -> None:
    cell.with_hours(NIGHTS)
    cell.at = DAY
    seen: list[str] = []

    def use(robot: StationClient) -> None:
        robot.acquire_lease("somebody", 30.0)
        seen.extend(cell.drive.episodes)
        robot.release()
        cell.at = DAY + timedelta(hours=8)

    with helper(when_waiting(cell, use)):
        cell.collect()
    assert seen == [], "no episode began by day"
    assert cell.outcomes() == ["completed", "completed"]
    assert "cell: outside of its hours: waiting until 2026-01-02 20:00 UTC" in cell.sentences


def test_a_window_that_closes_lets_the_episode_end_and_the_next_one_wait(cell: Watched) -> None:
    cell.with_hours(NIGHTS)
    cell.drive.between = lambda t: setattr(cell, "at", DAY) if len(cell.drive.episodes) == 1 else None
    held: list[bool] = []

    def look(robot: StationClient) -> None:
        held.append(robot.status().lease is not None)
        assert len(cell.drive.episodes) == 1
        cell.at = DAY + timedelta(hours=8)

    with helper(when_waiting(cell, look)):
        cell.collect()
    assert held == [False], "it is given back while it waits"
    assert cell.outcomes() == ["completed", "completed"]
    assert len(cell.drive.episodes) == 2


def test_a_slot_whose_try_failed_at_closing_time_keeps_the_tries_it_has_left(cell: Watched) -> None:
    cell.with_hours(NIGHTS)
    stop = threading.Event()

    def between(t: int) -> None:
        if t == 2 and len(cell.drive.episodes) == 1:
            cell.at = DAY
            cell.client.finish(cell.drive.episodes[0], "policy_error")

    cell.drive.between = between
    with helper(when_waiting(cell, lambda robot: stop.set())):
        todo = cell.collect(stop=stop)
    assert len(cell.drive.episodes) == 1
    assert len(todo.left) == 2
    assert len(todo.take({"open_drawer"}).tries) == 2


def test_a_phase_that_is_stopped_while_a_robot_waits_ends_at_once(cell: Watched) -> None:
    cell.with_hours(NIGHTS)
    cell.at = DAY
    stop = threading.Event()
    with helper(when_waiting(cell, lambda robot: stop.set())):
        todo = cell.collect(stop=stop)
    assert len(todo.left) == 2
    assert cell.drive.episodes == []


def test_a_robot_does_not_wait_once_others_have_done_all_there_was(cell: Watched) -> None:
    cell.with_hours(NIGHTS)
    cell.at = DAY
    todo = Todo(cell.sink.wanted(), total=2)

    def take_all(robot: StationClient) -> None:
        while todo.take({"open_drawer"}):
            todo.settle()

    with helper(when_waiting(cell, take_all)):
        cell.collector.collect(todo, stop=threading.Event())
    assert cell.drive.episodes == []


def test_an_iteration_ends_collecting_when_its_episodes_are_spent(cell: Watched) -> None:
    cell.allowing(iteration=1)
    todo = cell.collect()
    assert cell.outcomes() == ["completed"]
    assert (todo.left, todo.share) == ((), 1.0)


def test_episodes_that_count_for_nothing_are_spent_too(cell: Watched) -> None:
    cell.allowing(iteration=1)
    cell.drive.between = lambda t: (
        cell.client.finish(cell.drive.episodes[0], "policy_error") if t == 2 else None
    )
    cell.collect()
    assert len(cell.rows()) == 1
    assert not cell.rows()[0].valid_for_policy_eval


def test_after_the_episodes_of_a_day_the_robot_waits_for_the_next(cell: Watched) -> None:
    cell.allowing(day=1)

    def tomorrow(robot: StationClient) -> None:
        assert len(cell.drive.episodes) == 1
        cell.at = NIGHT + timedelta(days=1)

    with helper(when_waiting(cell, tomorrow)):
        cell.collect()
    assert cell.outcomes() == ["completed", "completed"]
    assert "cell: 1 robot episodes a day are recorded: waiting until 2026-01-02 23:00 UTC" in cell.sentences


def spent(cell: Watched) -> list[tuple[int | None, str]]:
    with cell.lab.database.read() as session:
        rows = events.after(session, 0, kinds=["robot_budget_spent"])
    return [(row.iteration, row.facts["spent"]) for row in rows]


def test_episodes_of_the_day_that_are_used_up_in_the_middle_are_told_once(cell: Watched) -> None:
    cell.allowing(day=1)
    looks: list[int] = []

    def tomorrow(robot: StationClient) -> None:
        for _ in range(500):  # the robot looks again and again meanwhile
            looks.append(len(cell.sentences))
            if looks[-1] > looks[0] + 3:
                break
            threading.Event().wait(0.02)
        cell.at = NIGHT + timedelta(days=1)

    with helper(when_waiting(cell, tomorrow)):
        cell.collect()
    assert looks[-1] > looks[0] + 3, "it was said again and again as progress"
    assert spent(cell) == [(1, "day")]


def test_episodes_of_the_iteration_that_are_used_up_are_told_where_slots_stay_open(cell: Watched) -> None:
    cell.allowing(iteration=1)
    cell.collect()
    cell.collect()
    assert spent(cell) == [(1, "iteration")]


def test_a_budget_that_suffices_exactly_is_not_told_of(cell: Watched) -> None:
    cell.allowing(iteration=2)
    cell.collect()
    assert cell.outcomes() == ["completed", "completed"]
    assert spent(cell) == []


def test_a_robot_without_hours_and_budgets_waits_for_nothing(cell: Watched) -> None:
    assert RobotTime(cell.sink, "cell").closed() is None
    assert RobotTime(cell.sink, "cell").room(50) == 50


def test_a_job_of_many_episodes_is_cut_to_what_the_budgets_have_left(cell: Watched) -> None:
    cell.allowing(day=9, iteration=1)
    assert RobotTime(cell.sink, "cell").room(50) == 1
    cell.allowing(day=9)
    assert RobotTime(cell.sink, "cell").room(50) == 9
    cell.collect()
    assert RobotTime(cell.sink, "cell").room(50) == 7
    assert RobotTime(cell.sink, "cell").room(5) == 5


def test_a_robot_rests_after_what_it_has_recorded(cell: Watched) -> None:
    cell.at = datetime.now(UTC)  # the station has no other clock
    cell.collect()
    cell.at = max(row.ended_at for row in cell.rows())
    cell.with_hours({"rest": {"after_minutes": 1e-6, "minutes": 10}})  # however fast this machine is
    found = RobotTime(cell.sink, "cell").closed()
    assert found is not None
    assert found.until == cell.at + timedelta(minutes=10)
    assert RobotTime(cell.sink, "another cell").closed() is None
