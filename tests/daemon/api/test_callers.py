"""Tokens are looked up, remembered for a moment, and refused as soon as their row says so."""

import logging
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest

from daemon.api.callers import REMEMBERED_S, USE_NOTED_EVERY, Callers
from storage import access_tokens
from storage.db import BUSY_TIMEOUT_MS


class Time:
    """A clock that the test moves, on the wall and in seconds."""

    def __init__(self):
        self.s = 0.0

    def clock(self):
        return self.s

    def now(self):
        return datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=self.s)


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def callers(another):
    return another()


@pytest.fixture
def another(sqlite_database, time):
    """One more process that looks tokens up; closed at the end at the latest."""
    made = []

    def one():
        made.append(Callers(sqlite_database, now=time.now, clock=time.clock))
        return made[-1]

    yield one
    for each in made:
        each.close()


@pytest.fixture
def make(sqlite_database, time):
    def one(name="ann", *scopes, ends_in_s=None):
        ends = None if ends_in_s is None else time.now() + timedelta(seconds=ends_in_s)
        with sqlite_database.write() as session:
            wanted = scopes or ("read",)
            return access_tokens.create(session, name, scopes=wanted, expires_at=ends, now=time.now())[1]

    return one


def revoke(database, time, name="ann"):
    with database.write() as session:
        access_tokens.revoke(session, name, now=time.now())


def used(database):
    with database.read() as session:
        return access_tokens.list_tokens(session)[0].last_used_at


def test_a_token_is_its_owners_with_all_that_its_scopes_imply(callers, make):
    caller = callers.check(make("ann", "operate"))
    assert (caller.name, caller.scopes) == ("ann", {"operate", "read"})


@pytest.mark.parametrize("change", ["id", "secret", "cut", "empty", "garbage"])
def test_another_token_is_nobodys(callers, make, change):
    token = make()
    wrong = {
        "id": token[:4] + ("0" if token[4] != "0" else "1") + token[5:],
        "secret": token[:-1] + ("A" if token[-1] != "A" else "B"),
        "cut": token[:-1],
        "empty": "",
        "garbage": "\udcff ü 🦾",
    }[change]
    assert callers.check(wrong) is None
    assert callers.remembered(wrong) is None


def test_a_secret_of_one_token_does_not_open_another(callers, make):
    ann, bob = make("ann"), make("bob")
    assert callers.check(ann[:21] + bob[21:]) is None


def test_a_token_that_was_found_is_remembered_for_a_moment_only(callers, make, time):
    token = make()
    assert callers.remembered(token) is None
    found = callers.check(token)
    time.s += REMEMBERED_S * 0.99
    assert callers.remembered(token) == found
    time.s += REMEMBERED_S * 0.02
    assert callers.remembered(token) is None
    assert callers.check(token) == found


def test_a_token_is_hashed_once_and_then_known_by_its_row(callers, make, time, monkeypatch):
    token = make()
    callers.check(token)
    monkeypatch.setattr(access_tokens.hashlib, "scrypt", lambda *_, **__: pytest.fail("hashed again"))
    for _ in range(3):
        time.s += REMEMBERED_S
        assert callers.check(token).name == "ann"


def test_a_token_that_fitted_once_is_no_guess_until_it_is_refused(callers, make, time, sqlite_database):
    token = make()
    assert not callers.has_fitted(token)
    callers.check(token)
    time.s += REMEMBERED_S * 9
    assert callers.has_fitted(token)
    revoke(sqlite_database, time)
    callers.check(token)
    assert not callers.has_fitted(token)


def test_a_revoked_token_is_refused_when_it_is_not_remembered_any_more(callers, make, time, sqlite_database):
    token = make()
    callers.check(token)
    revoke(sqlite_database, time)
    assert callers.check(token) is None
    assert callers.remembered(token) is None


def test_a_token_ends_in_its_last_moment_even_while_it_is_remembered(callers, make, time):
    token = make(ends_in_s=REMEMBERED_S / 2)
    assert callers.check(token)
    time.s += REMEMBERED_S / 2
    assert callers.remembered(token) is None
    assert callers.check(token) is None


def test_a_row_that_got_another_secret_does_not_know_the_old_one(callers, make, time, sqlite_database):
    token = make()
    callers.check(token)
    time.s += REMEMBERED_S
    with sqlite_database.write() as session:
        access_tokens.list_tokens(session)[0].secret_hash = access_tokens.hash_of("x" * 43)
    assert callers.check(token) is None
    assert not callers.has_fitted(token)


def test_whether_tokens_are_asked_for_is_known_for_a_moment_too(callers, make, time):
    assert callers.asks_for_token() is None
    assert callers.check_whether_to_ask() is False
    make()
    assert callers.asks_for_token() is False
    time.s += REMEMBERED_S
    assert callers.asks_for_token() is None
    assert callers.check_whether_to_ask() is callers.asks_for_token() is True


@pytest.mark.parametrize("shown", ["token", "session"])
def test_the_last_use_is_noted_now_and_then(another, make, time, sqlite_database, shown):
    token = make()

    def use():
        process = another()
        process.check(token) if shown == "token" else process.of_token(token[4:20])
        process.close()
        return used(sqlite_database)

    first = use()
    assert first == time.now()
    time.s += USE_NOTED_EVERY.total_seconds() - 1
    assert use() == first
    time.s += 1
    assert use() == time.now() != first


def test_a_wrong_secret_is_no_use_of_the_token(callers, make, sqlite_database):
    token = make()
    callers.check(token[:-1] + ("A" if token[-1] != "A" else "B"))
    callers.close()
    assert used(sqlite_database) is None


def test_nobody_waits_until_a_use_is_noted_and_one_note_is_enough(callers, make, time, sqlite_database):
    token = make()
    with sqlite_database.write() as writer:
        writer.connection()  # from now on, who writes waits
        begun = monotonic()
        for _ in range(3):
            time.s += REMEMBERED_S
            assert callers.check(token).name == "ann"
            assert callers.of_token(token[4:20]).name == "ann"
        assert monotonic() - begun < BUSY_TIMEOUT_MS / 3000
        assert used(sqlite_database) is None
    callers.close()
    assert used(sqlite_database) == time.now() - timedelta(seconds=2 * REMEMBERED_S), "the first of six"


def test_what_was_known_last_stays_known_until_the_database_says_otherwise(
    callers, make, time, sqlite_database
):
    assert callers.asked_last() is True, "nobody has said yet that they are not"
    callers.prepare()
    assert (callers.asked_last(), callers.asks_for_token()) == (False, None)
    token = make(ends_in_s=2000)
    assert callers.last_known(token) is callers.last_known_by_id(token[4:20]) is None
    ann = callers.check(token)
    time.s += 1000
    assert callers.last_known(token) == callers.last_known_by_id(token[4:20]) == ann
    revoke(sqlite_database, time)
    callers.check(token)
    assert callers.last_known(token) is callers.last_known_by_id(token[4:20]) is None


def test_what_was_known_last_ends_with_the_token(callers, make, time):
    token = make(ends_in_s=10)
    callers.check(token)
    time.s += 10
    assert callers.last_known(token) is callers.last_known_by_id(token[4:20]) is None


def test_nothing_that_is_kept_or_logged_holds_the_secret(callers, make, time, caplog, sqlite_database):
    caplog.set_level(logging.DEBUG)
    token = make()
    callers.check(token)
    revoke(sqlite_database, time)
    callers.check(token)
    callers.check(token[:-1] + "!")
    assert token[21:] not in caplog.text
    assert token[21:] not in repr(vars(callers))
