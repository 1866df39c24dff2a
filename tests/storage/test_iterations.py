"""Iterations: asked for once, numbered without gaps, listed newest first, ended with their runs."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from storage import iterations, phase_runs
from storage.db import Database
from storage.errors import CursorInvalid, IdempotencyMismatch, IllegalMove, LeaseLost, NotJson, RowMissing
from storage.states import move
from storage.tables import IterationRow

SPEC = {"seed": 7, "collect": {"episodes_per_task": 10}}


def ask(
    database: Database, now: datetime, spec: object = None, key: str | None = None
) -> tuple[IterationRow, bool]:
    with database.write() as session:
        chosen = SPEC if spec is None else spec
        return iterations.request_iteration(session, spec=chosen, idempotency_key=key, now=now)


def test_a_request_becomes_a_row_that_is_found_again(database: Database, now: datetime) -> None:
    row, created = ask(database, now)
    assert created
    with database.read() as session:
        found = iterations.get(session, row.id)
    assert (found.number, found.state, found.spec, found.requested_at) == (1, "requested", SPEC, now)
    assert (found.started_at, found.finished_at, found.error_code) == (None, None, None)


def test_numbers_are_dense_from_one(database: Database, now: datetime) -> None:
    assert [ask(database, now)[0].number for _ in range(3)] == [1, 2, 3]


def test_a_request_that_was_rolled_back_leaves_no_gap(database: Database, now: datetime) -> None:
    ask(database, now)
    with pytest.raises(ZeroDivisionError), database.write() as session:
        iterations.request_iteration(session, spec=SPEC, idempotency_key="k", now=now)
        _ = 1 / 0
    row, created = ask(database, now, key="k")
    assert (row.number, created) == (2, True)


def test_requests_from_many_threads_get_dense_numbers(database: Database, now: datetime) -> None:
    start = threading.Barrier(5)

    def request(_: int) -> int:
        start.wait(timeout=60)
        return ask(database, now)[0].number

    with ThreadPoolExecutor(5) as pool:
        assert sorted(pool.map(request, range(5))) == [1, 2, 3, 4, 5]


def test_the_same_key_with_the_same_spec_is_the_same_iteration(database: Database, now: datetime) -> None:
    first, created = ask(database, now, key="tonight")
    again, created_again = ask(database, now + timedelta(hours=1), key="tonight")
    assert (created, created_again) == (True, False)
    assert (again.id, again.requested_at) == (first.id, now)


def test_the_order_of_a_specs_keys_does_not_make_it_another_spec(database: Database, now: datetime) -> None:
    first, _ = ask(database, now, {"a": 1, "b": (1, 2)}, key="tonight")
    again, created = ask(database, now, {"b": [1, 2], "a": 1}, key="tonight")
    assert (again.id, created) == (first.id, False)


def test_the_same_key_with_another_spec_is_refused(database: Database, now: datetime) -> None:
    ask(database, now, key="tonight")
    with pytest.raises(IdempotencyMismatch, match="'tonight' already asked for iteration 1 with spec digest"):
        ask(database, now, {"seed": 8}, key="tonight")
    assert ask(database, now)[0].number == 2


def test_without_a_key_the_same_spec_is_asked_for_twice(database: Database, now: datetime) -> None:
    assert ask(database, now)[0].id != ask(database, now)[0].id


def test_one_key_from_many_threads_is_one_iteration(database: Database, now: datetime) -> None:
    start = threading.Barrier(5)

    def request(_: int) -> tuple[str, bool]:
        start.wait(timeout=60)
        row, created = ask(database, now, key="tonight")
        return row.id, created

    with ThreadPoolExecutor(5) as pool:
        got = list(pool.map(request, range(5)))
    assert len({row_id for row_id, _ in got}) == 1
    assert sum(created for _, created in got) == 1


def test_a_spec_that_json_cannot_hold_is_refused_and_takes_no_number(
    database: Database, now: datetime
) -> None:
    with pytest.raises(NotJson, match="the spec"):
        ask(database, now, {"learning_rate": float("nan")})
    assert ask(database, now)[0].number == 1


def test_an_iteration_that_is_not_there_is_missed_by_its_id(database: Database) -> None:
    with database.read() as session, pytest.raises(RowMissing, match="no iteration 'nobody'"):
        iterations.get(session, "nobody")


def test_pages_go_from_the_newest_to_the_oldest_without_a_gap(database: Database, now: datetime) -> None:
    for _ in range(5):
        ask(database, now)
    pages, cursor = [], None
    while True:
        with database.read() as session:
            rows, cursor = iterations.list_iterations(session, cursor=cursor, limit=2)
        pages.append([row.number for row in rows])
        if cursor is None:
            break
    assert pages == [[5, 4], [3, 2], [1]]


def test_an_iteration_that_is_asked_for_while_paging_moves_no_page(database: Database, now: datetime) -> None:
    for _ in range(4):
        ask(database, now)
    with database.read() as session:
        _, cursor = iterations.list_iterations(session, limit=2)
    ask(database, now)
    with database.read() as session:
        rows, _ = iterations.list_iterations(session, cursor=cursor, limit=2)
    assert [row.number for row in rows] == [2, 1]


def test_a_full_last_page_has_no_cursor(database: Database, now: datetime) -> None:
    for _ in range(2):
        ask(database, now)
    with database.read() as session:
        rows, cursor = iterations.list_iterations(session, limit=2)
    assert (len(rows), cursor) == (2, None)


@pytest.mark.parametrize("cursor", ["", "abc", "-1", "1.5", "1;", "9" * 30, "٣"])
def test_a_cursor_from_elsewhere_is_refused(database: Database, cursor: str) -> None:
    with database.read() as session, pytest.raises(CursorInvalid):
        iterations.list_iterations(session, cursor=cursor)


def test_the_unfinished_iteration_that_has_begun_comes_first_then_the_oldest(
    database: Database, now: datetime
) -> None:
    rows = [ask(database, now)[0] for _ in range(4)]
    with database.write() as session:
        move(iterations.get(session, rows[0].id), "cancelled", now=now)
        move(iterations.get(session, rows[2].id), "running", now=now)
        move(iterations.get(session, rows[2].id), "paused", now=now)
        move(iterations.get(session, rows[3].id), "paused", now=now)
    with database.read() as session:
        assert [row.number for row in iterations.unfinished(session)] == [3, 2, 4]


def running_run(database: Database, now: datetime) -> tuple[IterationRow, phase_runs.ClaimedRun]:
    row, _ = ask(database, now)
    with database.write() as session:
        row = iterations.get(session, row.id)
        move(row, "running", now=now)
        phase_runs.queue(session, row, phase="collect", now=now)
        claimed = phase_runs.claim(session, "worker-1", ttl_s=30, now=now)
    assert claimed is not None
    return row, claimed


def test_cancelling_ends_the_running_run_and_its_worker_is_told(database: Database, now: datetime) -> None:
    row, claimed = running_run(database, now)
    with database.write() as session:
        assert iterations.cancel(session, row.id, now=now).state == "cancelled"
    with pytest.raises(LeaseLost), database.write() as session:
        phase_runs.heartbeat(session, claimed, progress=0.5, text="", now=now)
    with database.read() as session:
        run = phase_runs.get(session, claimed.phase_run_id)
    assert (run.state, run.error_code, run.finished_at) == ("abandoned", "cancelled", now)


def test_a_cancelled_iterations_queued_run_is_never_claimed(database: Database, now: datetime) -> None:
    row, _ = ask(database, now)
    with database.write() as session:
        phase_runs.queue(session, iterations.get(session, row.id), phase="collect", now=now)
        iterations.cancel(session, row.id, now=now)
        assert phase_runs.claim(session, "worker-1", ttl_s=30, now=now) is None


def test_failing_keeps_the_reason_and_ends_the_runs(database: Database, now: datetime) -> None:
    row, claimed = running_run(database, now)
    with database.write() as session:
        found = iterations.get(session, row.id)
        iterations.fail(session, found, error_code="station_unreachable", message="no answer", now=now)
    with database.read() as session:
        found = iterations.get(session, row.id)
        run = phase_runs.get(session, claimed.phase_run_id)
    assert (found.state, found.error_code, found.error_message) == (
        "failed",
        "station_unreachable",
        "no answer",
    )
    assert run.state == "abandoned"


@pytest.mark.parametrize("end", ["finished", "failed", "cancelled"])
def test_an_iteration_that_is_over_cannot_be_cancelled(database: Database, now: datetime, end: str) -> None:
    row, _ = ask(database, now)
    with database.write() as session:
        found = iterations.get(session, row.id)
        move(found, "running", now=now)
        move(found, end, now=now)
    with pytest.raises(IllegalMove), database.write() as session:
        iterations.cancel(session, row.id, now=now)


def test_cancelling_what_is_not_there_is_told(database: Database, now: datetime) -> None:
    with pytest.raises(RowMissing), database.write() as session:
        iterations.cancel(session, "nobody", now=now)
