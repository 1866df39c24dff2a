"""Access tokens: shown once, held as a hash, ended by revoking, told apart by name."""

import hmac
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from storage import access_token_errors, access_tokens
from storage.access_token_errors import AccessTokenExists, AccessTokenInvalid
from storage.access_token_tables import AccessTokenRow
from storage.access_tokens import SCOPES, TOKEN, Presented, allowed, hash_of, matches, read
from storage.db import Database
from storage.errors import RowMissing, StorageError


def make(
    database: Database, now: datetime, name: str = "ann", *scopes: str, days: float | None = None
) -> str:
    ends = None if days is None else now + timedelta(days=days)
    with database.write() as session:
        wanted = scopes or ("read",)
        return access_tokens.create(session, name, scopes=wanted, expires_at=ends, now=now)[1]


def row_of(database: Database, token: str) -> AccessTokenRow:
    presented = read(token)
    assert presented is not None
    with database.read() as session:
        row = access_tokens.find(session, presented.id)
    assert row is not None
    return row


def test_a_token_finds_its_row_and_only_its_own_secret_fits(database: Database, now: datetime) -> None:
    ann, bob = make(database, now, "ann", "label", "operate"), make(database, now, "bob")
    row, presented = row_of(database, ann), read(ann)
    assert (row.name, row.scopes, row.created_at) == ("ann", ["label", "operate"], now)
    assert (row.expires_at, row.revoked_at, row.last_used_at) == (None, None, None)
    assert presented is not None
    assert matches(row.secret_hash, presented.secret)
    assert not matches(row_of(database, bob).secret_hash, presented.secret)


def test_the_secret_is_nowhere_in_the_database(database: Database, now: datetime) -> None:
    token = make(database, now)
    with database.read() as session:
        stored = session.execute(sa.text("SELECT * FROM access_tokens")).mappings().one()
    assert token[len("gmd_0123456789abcdef_") :] not in repr(dict(stored))
    assert stored["secret_hash"].startswith("scrypt$16384$8$1$")


def test_the_same_secret_is_hashed_differently_every_time() -> None:
    first, second = hash_of("s" * 43), hash_of("s" * 43)
    assert first != second
    assert matches(first, "s" * 43)
    assert matches(second, "s" * 43)


@pytest.mark.parametrize("guess", ["", "t" * 43, "s" * 42, "s" * 44, "S" * 43])
def test_another_secret_does_not_fit(guess: str) -> None:
    assert not matches(hash_of("s" * 43), guess)


def test_secrets_are_compared_in_constant_time_whether_they_fit_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The comparison is the library's own; it is watched, not replaced."""
    compared: list[bool] = []
    constant_time = hmac.compare_digest

    def watched(left: bytes, right: bytes) -> bool:
        compared.append(constant_time(left, right))
        return compared[-1]

    monkeypatch.setattr(hmac, "compare_digest", watched)
    stored = hash_of("s" * 43)
    assert [matches(stored, "s" * 43), matches(stored, "t" * 43)] == [True, False] == compared


def test_two_tokens_never_share_an_id_or_a_secret(database: Database, now: datetime) -> None:
    tokens = {make(database, now, f"t{number}") for number in range(4)}
    assert len({token[:20] for token in tokens}) == len({token[21:] for token in tokens}) == 4


@pytest.mark.parametrize(
    "token",
    [
        "",
        "gmd",
        "gmd_0123456789abcdef",
        "gmd_0123456789abcdef_short",
        "gst_0123456789abcdef_" + "s" * 43,
        "gmd_0123456789ABCDEF_" + "s" * 43,
        "gmd_0123456789abcdef_" + "s" * 44,
        "gmd_0123456789abcdef_" + "ü" * 43,
        " gmd_0123456789abcdef_" + "s" * 43,
        "gmd_0123456789abcdef_" + "s" * 43 + "\n",
    ],
)
def test_what_is_no_token_is_not_taken_for_one(token: str) -> None:
    assert read(token) is None


def test_a_token_that_was_made_reads_back(database: Database, now: datetime) -> None:
    token = make(database, now)
    presented = read(token)
    assert presented is not None
    assert token == f"gmd_{presented.id}_{presented.secret}"
    assert TOKEN.fullmatch(token)


def test_what_was_shown_does_not_print_its_secret() -> None:
    assert "sss" not in repr(Presented(id="0123456789abcdef", secret="s" * 43))


@pytest.mark.parametrize(
    ("scopes", "implied"),
    [
        (["read"], {"read"}),
        (["operate"], {"operate", "read"}),
        (["label"], {"label", "read"}),
        (["label", "operate"], {"label", "operate", "read"}),
        (["admin"], set(SCOPES)),
        (["fly"], {"fly"}),
        ([], set()),
    ],
)
def test_a_scope_brings_what_it_implies_and_no_more(scopes: list[str], implied: set[str]) -> None:
    assert allowed(scopes) == implied


@pytest.mark.parametrize(
    ("name", "scopes", "days", "complaint"),
    [
        ("", ["read"], None, "a name of letters"),
        ("an apple", ["read"], None, "a name of letters"),
        ("-x", ["read"], None, "a name of letters"),
        ("x" * 101, ["read"], None, "a name of letters"),
        ("ann", [], None, "scopes of admin, label, operate, read, found none"),
        ("ann", ["read", "fly"], None, "found fly, read"),
        ("ann", ["read"], 0.0, "an end that is still to come"),
        ("ann", ["read"], -1.0, "an end that is still to come"),
    ],
)
def test_a_token_that_cannot_be_is_not_made(
    database: Database, now: datetime, name: str, scopes: list[str], days: float | None, complaint: str
) -> None:
    ends = None if days is None else now + timedelta(days=days)
    with pytest.raises(AccessTokenInvalid, match=complaint), database.write() as session:
        access_tokens.create(session, name, scopes=scopes, expires_at=ends, now=now)
    with database.read() as session:
        assert access_tokens.list_tokens(session) == []


def test_a_name_is_taken_until_its_token_is_revoked(database: Database, now: datetime) -> None:
    first = make(database, now)
    with pytest.raises(AccessTokenExists, match="'ann' in force already"):
        make(database, now)
    with database.write() as session:
        access_tokens.revoke(session, "ann", now=now + timedelta(hours=1))
    second = make(database, now + timedelta(hours=2))
    assert row_of(database, first).revoked_at == now + timedelta(hours=1)
    assert row_of(database, second).revoked_at is None
    with database.read() as session:
        assert [row.name for row in access_tokens.list_tokens(session)] == ["ann", "ann"]


def test_only_a_token_in_force_can_be_revoked(database: Database, now: datetime) -> None:
    make(database, now)
    with database.write() as session:
        access_tokens.revoke(session, "ann", now=now)
    for name in ("ann", "bob"):
        with pytest.raises(RowMissing, match=f"no access token '{name}'"), database.write() as session:
            access_tokens.revoke(session, name, now=now)


def test_tokens_are_asked_for_from_the_first_until_the_last_is_revoked(
    database: Database, now: datetime
) -> None:
    def asked_for() -> bool:
        with database.read() as session:
            return access_tokens.any_in_force(session)

    assert not asked_for()
    make(database, now, days=1)
    assert asked_for()
    with database.write() as session:
        access_tokens.revoke(session, "ann", now=now)
    assert not asked_for()


def test_a_token_whose_time_is_over_keeps_the_doors_shut(database: Database, now: datetime) -> None:
    make(database, now - timedelta(days=9), days=1)
    with database.read() as session:
        assert access_tokens.any_in_force(session)


def test_the_last_use_is_kept(database: Database, now: datetime) -> None:
    token = make(database, now)
    later = now + timedelta(minutes=3)
    with database.write() as session:
        access_tokens.note_use(session, row_of(database, token).id, now=later)
    assert row_of(database, token).last_used_at == later


def test_an_id_that_nobody_has_finds_nothing(database: Database) -> None:
    with database.read() as session:
        assert access_tokens.find(session, "0" * 16) is None


def test_the_tree_in_the_docstring_draws_every_error() -> None:
    for error in (AccessTokenInvalid, AccessTokenExists):
        assert error.__name__ in str(access_token_errors.__doc__)
        assert issubclass(error, StorageError)
        assert not error.retryable
