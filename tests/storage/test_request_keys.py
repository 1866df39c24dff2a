"""Idempotency keys: one request, one thing made."""

from datetime import datetime

import pytest

from storage import request_keys
from storage.db import Database
from storage.errors import RequestKeyReused

REQUEST = {"episode": "e-1", "success": True}


def ask(database: Database, now: datetime, *, made: str = "1", key: str = "k", scope: str = "labels", **more):
    with database.write() as session:
        before = request_keys.made_before(session, key, scope=scope, request=REQUEST | more)
        if before is None:
            request_keys.keep(session, key, scope=scope, request=REQUEST | more, made=made, now=now)
        return before


def test_the_second_request_finds_what_the_first_one_made(database: Database, now: datetime) -> None:
    assert ask(database, now, made="1") is None
    assert ask(database, now, made="2") == "1"


def test_the_same_key_for_another_request_is_refused(database: Database, now: datetime) -> None:
    ask(database, now)
    with pytest.raises(RequestKeyReused, match="'k' already asked for something else of labels"):
        ask(database, now, note="changed")


def test_a_key_is_a_key_of_its_scope(database: Database, now: datetime) -> None:
    ask(database, now, made="1")
    assert ask(database, now, made="2", scope="schedules") is None


def test_a_key_is_forgotten_when_what_it_made_was_undone(database: Database, now: datetime) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:
        request_keys.keep(session, "k", scope="labels", request=REQUEST, made="1", now=now)
        _ = 1 / 0
    assert ask(database, now) is None
