"""Schedules that are due: each asks once, whatever dies in between, and for one iteration at a time."""

import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from daemon.scheduling.documents import ScheduleChange, ScheduleWish, add_schedule, change_schedule, next_runs
from daemon.scheduling.due import FAILED_PAUSE_S, anything_due, run_due, run_now
from daemon.scheduling.errors import ScheduleBusy
from storage import audit, iterations, schedules
from storage.db import Database
from storage.states import move

NIGHTLY = {"kind": "cron", "expression": "0 20 * * *", "timezone": "UTC"}
HOURLY = {"kind": "interval", "seconds": 3600}
AFTER = {"kind": "after_previous", "pause_s": 60}
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def scheduled(database, now, trigger, **wish):
    asked = ScheduleWish.model_validate({"name": "nightly", "trigger": trigger, **wish})
    with database.write() as session:
        return add_schedule(session, asked, now=now)[0].id


def ran(database, now):
    """Whatever is due at this time; the daemon does the same every second."""
    with database.read() as session:
        if not anything_due(session, now=now):
            return []
    with database.write() as session:
        return run_due(session, now=now)


def row_of(database, schedule_id):
    with database.read() as session:
        return schedules.get(session, schedule_id)


def requested(database):
    with database.read() as session:
        rows, _ = iterations.list_iterations(session)
        return rows[::-1]


def ended(database, now, state="finished"):
    with database.write() as session:
        (row,) = iterations.unfinished(session)
        if row.state == "requested":
            move(row, "running", now=now)
        move(row, state, now=now)


def test_nothing_is_asked_for_before_its_time_and_once_at_it(database, now):
    schedule = scheduled(database, now, NIGHTLY, spec={"seed": 5})
    assert ran(database, now + 7 * HOUR) == []
    assert ran(database, now + 8 * HOUR) == ["schedule due schedule=nightly outcome=requested"]
    assert ran(database, now + 8 * HOUR) == []
    (iteration,) = requested(database)
    assert iteration.idempotency_key == f"schedule:{schedule}:2026-01-01T20:00:00+00:00"
    row = row_of(database, schedule)
    assert (row.runs, row.last_iteration_id) == (1, iteration.id)
    assert row.next_run_at == now + 8 * HOUR + DAY


def test_the_due_times_of_three_days_without_a_daemon_count_as_one(database, now):
    schedule = scheduled(database, now, NIGHTLY)
    back = now + 3 * DAY
    assert len(ran(database, back)) == 1
    assert ran(database, back) == []
    assert len(requested(database)) == 1
    row = row_of(database, schedule)
    assert row.last_result["due"] == "2026-01-01T20:00:00+00:00"
    assert row.last_result["missed_some"]
    assert row.next_run_at == datetime(2026, 1, 4, 20, tzinfo=UTC)


def test_an_interval_goes_on_in_its_old_beat_after_three_days_without_a_daemon(database, now):
    schedule = scheduled(database, now, HOURLY)
    assert len(ran(database, now + 3 * DAY + timedelta(minutes=20))) == 1
    assert row_of(database, schedule).next_run_at == now + 3 * DAY + HOUR


def test_a_schedule_has_one_iteration_at_a_time_and_what_is_left_out_is_told(database, now):
    schedule = scheduled(database, now, HOURLY)
    ran(database, now + HOUR)
    assert ran(database, now + 2 * HOUR) == ["schedule due schedule=nightly outcome=skipped"]
    result = row_of(database, schedule).last_result
    assert (result["outcome"], result["iteration"]) == ("skipped", 1)
    assert row_of(database, schedule).last_run_at == now + HOUR, "a time that was left out is no run"
    ended(database, now + 2 * HOUR)
    ran(database, now + 3 * HOUR)
    assert len(requested(database)) == 2


def test_schedules_do_not_hold_each_other_up(database, now):
    scheduled(database, now, HOURLY)
    scheduled(database, now, HOURLY, name="other")
    assert len(ran(database, now + HOUR)) == 2
    assert len(requested(database)) == 2


def test_every_iteration_of_a_schedule_has_a_seed_of_its_own(database, now):
    scheduled(database, now, HOURLY, spec={"seed": 2**31 - 1})
    for hour in (1, 2):
        ran(database, now + hour * HOUR)
        ended(database, now + hour * HOUR)
    assert [row.spec["seed"] for row in requested(database)] == [2**31 - 1, 0]


def test_the_next_one_comes_a_pause_after_the_one_before(database, now):
    schedule = scheduled(database, now, AFTER)
    assert len(ran(database, now)) == 1
    assert row_of(database, schedule).next_run_at is None
    assert ran(database, now + DAY) == [], "however long it takes"
    ended(database, now + DAY)
    ran(database, now + DAY)
    assert row_of(database, schedule).next_run_at == now + DAY + timedelta(seconds=60)
    assert len(requested(database)) == 1
    assert len(ran(database, now + DAY + timedelta(seconds=60))) == 1
    assert len(requested(database)) == 2


def test_after_a_failure_the_next_one_waits_so_that_nothing_spins(database, now):
    schedule = scheduled(database, now, AFTER)
    ran(database, now)
    ended(database, now, "failed")
    ran(database, now)
    assert row_of(database, schedule).next_run_at == now + timedelta(seconds=FAILED_PAUSE_S)


@pytest.mark.parametrize("trigger", [HOURLY, AFTER])
def test_a_schedule_ends_after_its_last_run(database, now, trigger):
    schedule = scheduled(database, now, trigger, max_runs=2)
    for hour in range(1, 6):
        if ran(database, now + hour * HOUR) and iterations_unfinished(database):
            ended(database, now + hour * HOUR)
    assert len(requested(database)) == 2
    row = row_of(database, schedule)
    assert (row.enabled, row.next_run_at) == (False, None)


def iterations_unfinished(database):
    with database.read() as session:
        return iterations.unfinished(session)


def test_a_schedule_ends_at_its_date(database, now):
    schedule = scheduled(database, now, HOURLY, ends_at=(now + 1.5 * HOUR).isoformat())
    assert len(ran(database, now + HOUR)) == 1
    assert not row_of(database, schedule).enabled
    assert ran(database, now + DAY) == []


def test_a_date_that_passed_while_the_daemon_was_off_ends_it_without_a_run(database, now):
    schedule = scheduled(database, now, {**HOURLY, "seconds": 7200}, ends_at=(now + HOUR).isoformat())
    assert ran(database, now + DAY) == ["schedule ended schedule=nightly"]
    assert requested(database) == []
    assert row_of(database, schedule).last_result["outcome"] == "ended"


def test_a_spec_that_this_release_refuses_is_told_and_holds_nobody_up(database, now):
    schedule = scheduled(database, now, HOURLY)
    scheduled(database, now, HOURLY, name="other")
    with database.write() as session:
        schedules.get(session, schedule).spec = {"of": "an older release"}
    assert len(ran(database, now + HOUR)) == 2
    result = row_of(database, schedule).last_result
    assert (result["outcome"], result["iteration"]) == ("refused", None)
    assert "of" in result["reason"]
    assert len(requested(database)) == 1
    assert row_of(database, schedule).next_run_at == now + 2 * HOUR


def test_a_paused_schedule_asks_for_nothing_and_goes_on_from_when_it_is_resumed(database, now):
    schedule = scheduled(database, now, HOURLY, enabled=False)
    assert ran(database, now + DAY) == []
    with database.write() as session:
        row = schedules.get(session, schedule)
        change_schedule(session, row, ScheduleChange(enabled=True), now=now + DAY)
    assert row_of(database, schedule).next_run_at == now + DAY + HOUR


def test_one_that_follows_its_predecessor_goes_on_after_it_when_resumed(database, now):
    schedule = scheduled(database, now, AFTER)
    ran(database, now)
    for enabled in (False, True):
        with database.write() as session:
            row = schedules.get(session, schedule)
            change_schedule(session, row, ScheduleChange(enabled=enabled), now=now)
    assert ran(database, now + HOUR) == []
    ended(database, now + HOUR)
    assert len(ran(database, now + 2 * HOUR)) == 1


def test_now_is_once_per_key_and_leaves_the_times_alone(database, now):
    schedule = scheduled(database, now, NIGHTLY)
    found = []
    for _ in range(2):
        with database.write() as session:
            found.append(run_now(session, schedules.get(session, schedule), key="k", now=now))
    assert [new for _, new in found] == [True, False]
    assert found[0][0].id == found[1][0].id
    assert row_of(database, schedule).next_run_at == now + 8 * HOUR


def test_now_is_refused_while_its_last_iteration_runs(database, now):
    schedule = scheduled(database, now, NIGHTLY)
    with database.write() as session:
        run_now(session, schedules.get(session, schedule), key="k", now=now)
    with database.write() as session, pytest.raises(ScheduleBusy, match="iteration 1 of schedule nightly"):
        run_now(session, schedules.get(session, schedule), key="other", now=now)


@pytest.mark.parametrize(
    ("trigger", "limits", "hours"),
    [
        (HOURLY, {}, [1, 2, 3, 4, 5]),
        (NIGHTLY, {}, [8, 32, 56, 80, 104]),
        (HOURLY, {"max_runs": 2}, [1, 2]),
        (HOURLY, {"ends_at": "2026-01-01T14:30:00Z"}, [1, 2]),
        (HOURLY, {"ends_at": "2026-01-01T12:30:00Z"}, []),
        (AFTER, {}, [0]),
        (HOURLY, {"enabled": False}, []),
    ],
)
def test_the_next_times_are_those_at_which_it_will_be_due(sqlite_database, now, trigger, limits, hours):
    schedule = scheduled(sqlite_database, now, trigger, **limits)
    assert next_runs(row_of(sqlite_database, schedule)) == [now + hour * HOUR for hour in hours]


def die_at(url: str, statement: int, at: datetime) -> None:
    """Do what is due, and be killed after so many statements; 0: after the commit."""
    database, seen = Database(url), 0

    @sa.event.listens_for(database.engine, "after_cursor_execute")
    def count(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    with database.write() as session:
        run_due(session, now=at)
    if statement == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


def killed_at(url: str, statement: int, at: datetime) -> bool:
    child = os.fork()
    if child == 0:
        try:
            die_at(url, statement, at)
        finally:
            os._exit(1)  # a test that fails in the child must not go on as the suite
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_a_daemon_killed_at_any_point_asks_neither_twice_nor_never(database, now):
    url = database.url.render_as_string(hide_password=False)
    statements, days = 1, 0
    while True:
        scheduled(database, now + days * DAY, HOURLY, name=f"s{statements}")
        database.dispose()
        due = now + days * DAY + HOUR
        killed = killed_at(url, statements, due)
        before = len(requested(database))
        ran(database, due)  # the daemon that is started after it
        assert before == (days if killed else days + 1), "what was not committed is not there"
        assert len(requested(database)) == days + 1
        days += 1
        with database.write() as session:
            session.execute(sa.text("UPDATE schedules SET enabled = false, next_run_at = NULL"))
        if not killed:
            break
        statements += 1
    assert statements > 4, "the transaction has several points to die at"


def test_a_daemon_killed_just_after_it_asked_does_not_ask_again(database, now):
    scheduled(database, now, HOURLY)
    database.dispose()
    assert killed_at(database.url.render_as_string(hide_password=False), 0, now + HOUR)
    assert len(requested(database)) == 1
    assert ran(database, now + HOUR) == []
    assert len(requested(database)) == 1


def test_who_presses_now_is_named_and_else_the_schedule_is(database, now):
    schedule = scheduled(database, now, NIGHTLY)
    with database.write() as session:
        row, _ = run_now(session, schedules.get(session, schedule), key="k", now=now, actor="ann")
        iterations.cancel(session, row.id, now=now)
        run_now(session, schedules.get(session, schedule), key="other", now=now)
    with database.read() as session:
        asked = [act.actor for act in audit.read(session) if act.action == "iteration_requested"]
    assert sorted(asked) == ["ann", "schedule nightly"]
