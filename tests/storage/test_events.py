"""Events: written with what they tell of, in the order of commits, only ever added."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from storage import events, iterations, phase_runs
from storage.db import Database
from storage.errors import CursorInvalid, NotJson
from storage.event_tables import EventRow
from storage.tables import IterationRow, PhaseRunRow


def happen(database: Database, now: datetime, *kinds: str, **facts: object) -> None:
    with database.write() as session:
        for kind in kinds:
            events.note(session, kind, at=now, facts=facts)


def told(database: Database, position: int = 0) -> list[EventRow]:
    with database.read() as session:
        return events.after(session, position)


def test_every_move_of_an_iteration_and_its_runs_is_told_in_order(
    database: Database, an_iteration: Callable[..., IterationRow], now: datetime
) -> None:
    row = an_iteration()
    with database.write() as session:
        phase_runs.queue(session, row, phase="collect", now=now)
    with database.write() as session:
        claimed = phase_runs.claim(session, "w1", ttl_s=60, now=now + timedelta(seconds=1))
    with database.write() as session:
        phase_runs.fail(session, claimed, error_code="arm_gone", message="no arm", retry=True, now=now)
    with database.write() as session:
        iterations.cancel(session, row.id, now=now)
    assert [event.kind for event in told(database)] == [
        "iteration_requested",
        "phase_queued",
        "phase_started",
        "phase_failed",
        "phase_queued",
        "iteration_cancelled",
        "phase_abandoned",
    ]
    started, failed, again = told(database)[2:5]
    assert {event.iteration for event in told(database)} == {1}
    assert started.at == now + timedelta(seconds=1)
    assert (started.facts["phase"], started.facts["attempt"], started.facts["worker"]) == ("collect", 1, "w1")
    assert failed.facts["error"] == {"code": "arm_gone", "message": "no arm"}
    assert again.facts["attempt"] == 2


def test_a_failed_iteration_says_why_though_the_reason_is_written_after_the_move(
    database: Database, an_iteration: Callable[..., IterationRow], now: datetime
) -> None:
    number = an_iteration().number
    with database.write() as session:
        row = session.scalars(sa.select(IterationRow).where(IterationRow.number == number)).one()
        iterations.fail(session, row, error_code="boom", message="x" * 5000, now=now)
    failed = told(database)[-1]
    assert (failed.kind, failed.facts["error"]["code"]) == ("iteration_failed", "boom")
    assert len(failed.facts["error"]["message"]) == events.LONGEST_MESSAGE


def test_what_was_undone_is_not_told(database: Database, now: datetime) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:
        iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        events.note(session, "judge_away", at=now)
        _ = 1 / 0
    assert told(database) == []


def test_an_event_that_cannot_be_written_undoes_what_it_tells_of(database: Database, now: datetime) -> None:
    with pytest.raises(NotJson, match="the facts of the event judge_away"), database.write() as session:
        iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        events.note(session, "judge_away", at=now, facts={"since": float("nan")})
    with database.read() as session:
        assert iterations.list_iterations(session)[0] == []


def test_a_repeated_request_and_a_heartbeat_are_no_events(database: Database, now: datetime) -> None:
    for _ in range(2):
        with database.write() as session:
            row, _ = iterations.request_iteration(session, spec={}, idempotency_key="k", now=now)
            phase_runs.queue(session, row, phase="collect", now=now)
    with database.write() as session:
        claimed = phase_runs.claim(session, "w", ttl_s=60, now=now)
    before = len(told(database))
    with database.write() as session:
        phase_runs.heartbeat(session, claimed, progress=0.5, text="half", now=now)
    assert before == len(told(database)) == 3


def test_a_row_of_no_database_is_moved_without_telling_anybody(now: datetime) -> None:
    run = PhaseRunRow(phase="collect", attempt=1, state="running")
    events.note_state(run, at=now)
    assert run.state == "running"


@pytest.mark.parametrize("change", ["update", "delete"])
def test_the_database_refuses_to_change_what_happened(database: Database, now: datetime, change: str) -> None:
    happen(database, now, "disk_low")
    statement = sa.delete(EventRow) if change == "delete" else sa.update(EventRow).values(kind="forged")
    with pytest.raises(sa.exc.DBAPIError, match="events is append-only"), database.write() as session:
        session.execute(statement)
    assert [event.kind for event in told(database)] == ["disk_low"]


def test_a_reader_that_follows_misses_nothing_of_writers_that_race(database: Database, now: datetime) -> None:
    """Ids that rise in another order than commits would let a reader step over one that commits late."""
    writers, each = 4, 15
    seen: list[int] = []

    def write(writer: int) -> None:
        for turn in range(each):
            with database.write() as session:
                events.note(session, f"writer_{writer}", at=now, facts={"turn": turn})
                session.execute(sa.select(sa.func.count()).select_from(EventRow))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen += [event.id for event in told(database, seen[-1] if seen else 0)]
    for thread in threads:
        thread.join()
    seen += [event.id for event in told(database, seen[-1] if seen else 0)]
    assert len(seen) == writers * each
    assert seen == sorted(set(seen))


def test_a_transaction_that_waits_to_tell_holds_up_nobody_that_tells(
    database: Database, an_iteration: Callable[..., IterationRow], now: datetime
) -> None:
    """Two that lock the same rows in turn and tell of it both get through: the telling is locked last."""
    numbers = [an_iteration().number for _ in range(2)]
    faults: list[BaseException] = []

    def bump(number: int) -> None:
        try:
            for turn in range(10):
                with database.write() as session:
                    events.note(session, "before_the_row", at=now)
                    query = sa.select(IterationRow).where(IterationRow.number == number).with_for_update()
                    session.scalars(query).one().error_message = str(turn)
        except BaseException as fault:
            faults.append(fault)
            raise

    threads = [threading.Thread(target=bump, args=(numbers[turn % 2],)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(told(database)) == 2 + 40


def test_pages_go_from_the_newest_back_and_end(database: Database, now: datetime) -> None:
    happen(database, now, *(f"kind_{turn}" for turn in range(5)))
    seen, cursor = [], None
    for _ in range(3):
        with database.read() as session:
            page, cursor = events.list_events(session, cursor=cursor, limit=2)
        seen += [event.kind for event in page]
    assert seen == [f"kind_{turn}" for turn in reversed(range(5))]
    assert cursor is None


def test_events_are_found_by_kind_and_by_iteration(
    database: Database, an_iteration: Callable[..., IterationRow], now: datetime
) -> None:
    for _ in range(2):
        an_iteration()
    happen(database, now, "disk_low", "disk_ok", free_bytes=7)
    with database.read() as session:
        (low,), _ = events.list_events(session, kinds=["disk_low"])
        (second,), _ = events.list_events(session, iteration=2)
        newest = events.newest_of(session, ["disk_low", "disk_ok"])
        assert events.newest_of(session, ["judge_away"]) is None
        assert [event.kind for event in events.after(session, 0, kinds=["disk_ok"])] == ["disk_ok"]
        assert events.newest_position(session) == newest.id
    assert (low.kind, low.facts, low.iteration) == ("disk_low", {"free_bytes": 7}, None)
    assert (second.kind, newest.kind) == ("iteration_requested", "disk_ok")


@pytest.mark.parametrize("cursor", ["", "-1", "1.5", "x", "9" * 19, "٣"])
def test_a_cursor_that_no_list_made_is_refused(sqlite_database: Database, cursor: str) -> None:
    with pytest.raises(CursorInvalid), sqlite_database.read() as session:
        events.list_events(session, cursor=cursor)


def test_nothing_has_happened_yet(database: Database) -> None:
    with database.read() as session:
        assert events.newest_position(session) == 0
        assert events.list_events(session) == ([], None)


def test_the_newest_event_of_a_kind_is_found_by_what_its_facts_say(database: Database, now: datetime) -> None:
    happen(database, now, "station_needs_human", address="http://a", why="pot")
    happen(database, now, "station_goes_on", address="http://a")
    happen(database, now, "station_needs_human", address="http://b", why="pot")
    happen(database, now, "station_needs_human")
    kinds = ("station_needs_human", "station_goes_on")

    def found(**facts: str) -> str | None:
        with database.read() as session:
            row = events.newest_of(session, kinds, facts=facts)
        return None if row is None else f"{row.kind} {row.facts.get('address')}"

    assert found(address="http://a") == "station_goes_on http://a"
    assert found(address="http://b", why="pot") == "station_needs_human http://b"
    assert found(address="http://a", why="pot") == "station_needs_human http://a"
    assert found(address="http://c") is None
    assert found() == "station_needs_human None"
