"""Audit events: kept with the act they tell of, newest first."""

from datetime import datetime, timedelta

import pytest

from storage import audit, iterations
from storage.db import Database
from storage.errors import CursorInvalid, NotJson


def note(database: Database, now: datetime, subject: str = "iteration:1", **facts: object) -> int:
    with database.write() as session:
        return audit.write(session, "alice", action="cancel", subject=subject, facts=facts, now=now).id


def test_an_act_is_kept_with_who_what_and_when(database: Database, now: datetime) -> None:
    note(database, now, reason="the arm squeaks")
    with database.read() as session:
        (event,) = audit.read(session)
    assert (event.actor, event.action, event.subject, event.at) == ("alice", "cancel", "iteration:1", now)
    assert event.facts == {"reason": "the arm squeaks"}


def test_the_newest_act_comes_first_even_within_one_instant(database: Database, now: datetime) -> None:
    ids = [note(database, now + timedelta(seconds=turn // 2)) for turn in range(4)]
    with database.read() as session:
        assert [event.id for event in audit.read(session)] == ids[::-1]
        assert [event.id for event in audit.read(session, limit=2)] == ids[:1:-1]


def test_acts_on_one_thing_are_found_by_it(database: Database, now: datetime) -> None:
    note(database, now)
    wanted = note(database, now, subject="iteration:2")
    with database.read() as session:
        assert [event.id for event in audit.read(session, subject="iteration:2")] == [wanted]
        assert audit.read(session, subject="iteration:3") == []


def test_an_act_that_was_undone_is_not_told(database: Database, now: datetime) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:
        iterations.request_iteration(session, spec={}, idempotency_key=None, now=now)
        audit.write(session, "alice", action="request", subject="iteration:1", facts={}, now=now)
        _ = 1 / 0
    with database.read() as session:
        assert audit.read(session) == []


def test_facts_that_json_cannot_hold_are_refused(database: Database, now: datetime) -> None:
    with pytest.raises(NotJson, match="the facts of cancel on iteration:1"):
        note(database, now, cost=float("inf"))


def test_acts_come_in_pages_of_one_actor_or_of_all(database: Database, now: datetime) -> None:
    ids = [note(database, now, subject=f"iteration:{turn % 2}") for turn in range(5)]
    with database.write() as session:
        audit.write(session, "bob", action="look", subject="iteration:0", facts={}, now=now)
    with database.read() as session:
        first, cursor = audit.list_acts(session, actor="alice", limit=3)
        second, end = audit.list_acts(session, actor="alice", limit=3, cursor=cursor)
        assert [event.id for event in (*first, *second)] == ids[::-1]
        assert (len(first), end) == (3, None)
        (one,), _ = audit.list_acts(session, actor="bob", subject="iteration:0")
        assert one.action == "look"
        with pytest.raises(CursorInvalid):
            audit.list_acts(session, cursor="yesterday")
