"""What iterations have used, added up by the database."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from storage import iterations, ledger, metrics, phase_runs
from storage.db import Database
from storage.errors import CursorInvalid
from storage.ledger import Spent
from storage.tables import IterationRow, PhaseRunRow


def add_run(
    database: Database, iteration: IterationRow, phase: str, *, begun: datetime | None, **ends: object
) -> str:
    with database.write() as session:
        row = PhaseRunRow(
            iteration_id=iteration.id,
            phase=phase,
            attempt=ends.pop("attempt", 1),
            state="finished",
            progress=1.0,
            progress_text="",
            queued_at=iteration.requested_at,
            started_at=begun,
            **ends,
        )
        session.add(row)
        session.flush()
        return row.id


def test_an_iteration_that_did_nothing_has_used_nothing(database: Database, an_iteration: Callable) -> None:
    row = an_iteration()
    with database.read() as session:
        assert ledger.spent(session, [row.id]) == {row.id: Spent()}
        assert ledger.spent(session, []) == {}


def test_workers_time_is_added_up_over_attempts_and_kept_apart_by_phase(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    row = an_iteration()
    second = timedelta(seconds=1)
    add_run(database, row, "collect", begun=now, finished_at=now + 90 * second)
    add_run(database, row, "collect", begun=now, finished_at=now + 10 * second, attempt=2)
    add_run(database, row, "update_policy", begun=now, heartbeat_at=now + 7 * second)
    add_run(database, row, "finetune_world_model", begun=None)
    with database.read() as session:
        found = ledger.spent(session, [row.id])[row.id]
    assert found.worker_seconds == pytest.approx({"collect": 100.0, "update_policy": 7.0}, abs=1e-3)


def test_robot_time_counts_every_episode(
    database: Database, an_iteration: Callable, committed: Callable, an_episode: Callable
) -> None:
    row, other = an_iteration(), an_iteration(seed=2)
    for number, valid in ((1, True), (2, False)):
        committed(an_episode(number, policy_eval=valid, steps=5), iteration_id=row.id)
    committed(an_episode(3, labels=(), steps=5), iteration_id=row.id)
    with database.read() as session:
        found = ledger.spent(session, [row.id, other.id])
    assert found[row.id].robot_episodes == 3
    assert found[row.id].robot_seconds == pytest.approx(3.0, abs=1e-3)
    assert found[other.id].robot_episodes == 0


def test_of_a_judges_growing_totals_the_newest_counts_once(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    row = an_iteration()
    for phase, requests, usd in (("finetune_world_model", 40, 0.25), ("update_policy", 100, 0.75)):
        run = add_run(database, row, phase, begun=now, finished_at=now)
        with database.write() as session:
            metrics.record(session, run, {"judge_requests": requests, "judge_usd": usd, "loss": 9.0}, now=now)
    with database.read() as session:
        found = ledger.spent(session, [row.id])[row.id]
    assert (found.judge_requests, found.judge_usd) == (100, 0.75)


def test_iterations_are_listed_by_the_time_they_were_asked_for_in_pages(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    rows = [an_iteration(seed=seed) for seed in range(3)]
    hour = timedelta(hours=1)
    with database.write() as session:
        for place, row in enumerate(rows):
            session.get(IterationRow, row.id).requested_at = now + place * hour
    with database.read() as session:
        first, cursor = iterations.list_numbers(session, since=now, until=now + 2 * hour, limit=1)
        asked = {"since": now, "until": now + 2 * hour, "limit": 1}
        second, end = iterations.list_numbers(session, **asked, cursor=cursor)
        assert ([number for _, number in first], [number for _, number in second], end) == ([2], [1], None)
        with pytest.raises(CursorInvalid):
            iterations.list_numbers(session, cursor="x")


def test_the_iteration_before_is_the_newest_one_with_a_judged_episode(
    database: Database, an_iteration: Callable, committed: Callable, an_episode: Callable
) -> None:
    judged, silent, last = (an_iteration(seed=seed) for seed in range(3))
    committed(an_episode(1), iteration_id=judged.id)
    committed(an_episode(2, labels=()), iteration_id=silent.id)
    with database.read() as session:
        assert ledger.judged_before(session, last.number, lineage="main") == (judged.id, 1)
        assert ledger.judged_before(session, 1, lineage="main") is None


def test_a_worker_that_fell_silent_is_counted_until_it_was_heard_last(
    database: Database, an_iteration: Callable, now: datetime
) -> None:
    row = an_iteration()
    second, days = timedelta(seconds=1), timedelta(days=3)
    run = add_run(database, row, "collect", begun=now, heartbeat_at=now + 5 * second, finished_at=now + days)
    last = add_run(
        database, row, "collect", begun=now, heartbeat_at=now + 2 * second, finished_at=now + days, attempt=2
    )
    with database.write() as session:
        session.get_one(PhaseRunRow, run).state = "abandoned"
        session.get_one(PhaseRunRow, last).error_code = phase_runs.ATTEMPTS_EXHAUSTED
    with database.read() as session:
        found = ledger.spent(session, [row.id])[row.id]
    assert found.worker_seconds == pytest.approx({"collect": 7.0}, abs=1e-3)
