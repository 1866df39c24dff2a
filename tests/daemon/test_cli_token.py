"""`gymnastd token`: made, listed and revoked beside the daemon; the secret is printed once."""

from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.settings import Settings, load_settings
from daemon.stores import open_database
from storage import access_tokens, audit
from storage.access_token_errors import AccessTokenExists, AccessTokenInvalid
from storage.errors import RowMissing
from tests.daemon.serving import serving


@pytest.fixture(autouse=True)
def _lab(tmp_path, monkeypatch):
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(tmp_path / "lab"))


def token(*arguments):
    return CliRunner().invoke(app, ["token", *map(str, arguments)])


def create(name, *arguments):
    return token("create", "--name", name, *arguments)


def audited():
    database = open_database(load_settings())
    with database.read() as session:
        events = audit.read(session)
    database.dispose()
    return events


def test_a_token_is_printed_once_by_itself_and_never_again():
    made = create("ann", "--scope", "operate", "--scope", "label")
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert access_tokens.read(secret) is not None
    assert "token ann may label, operate until it is revoked; it is not shown again" in made.stderr
    assert secret not in made.stderr
    assert secret[21:] not in token("list").output


def test_the_list_tells_name_scopes_state_and_use():
    assert "there is no token" in token("list").output
    create("ann", "--scope", "read")
    create("bob", "--scope", "admin", "--expires-days", 2)
    create("cat", "--scope", "read")
    token("revoke", "cat")
    ann, bob, cat = (line.split("\t") for line in token("list").output.splitlines())
    assert ann[:3] == ["ann", "read", "in force"]
    assert bob[:2] == ["bob", "admin"]
    assert bob[2].startswith("in force until ")
    assert cat[2].startswith("revoked ")
    assert {line[4] for line in (ann, bob, cat)} == {"never used"}


def test_revoking_the_last_token_says_that_the_doors_are_open_again():
    create("ann", "--scope", "read")
    create("bob", "--scope", "read")
    assert token("revoke", "ann").stderr == ""
    last = token("revoke", "bob")
    assert last.stdout == "token bob is revoked\n"
    assert "it was the last" in last.stderr


def test_what_was_done_to_tokens_is_audited_without_their_secrets():
    secret = create("ann", "--scope", "read").stdout.strip()
    token("revoke", "ann")
    revoked, created = audited()
    assert [created.action, revoked.action] == ["token_created", "token_revoked"]
    assert {created.subject, revoked.subject} == {"access token ann"}
    assert created.facts["scopes"] == ["read"]
    assert secret[21:] not in f"{created.facts}{revoked.facts}"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["create", "--name", "ann", "--scope", "read"], AccessTokenExists),
        (["create", "--name", "an apple", "--scope", "read"], AccessTokenInvalid),
        (["create", "--name", "bob", "--scope", "fly"], AccessTokenInvalid),
        (["create", "--name", "bob", "--scope", "read", "--expires-days", "0"], AccessTokenInvalid),
        (["revoke", "bob"], RowMissing),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(arguments, error):
    create("ann", "--scope", "read")
    before = token("list").output
    refused = token(*arguments)
    assert isinstance(refused.exception, error)
    assert refused.stdout == ""
    assert token("list").output == before
    assert len(audited()) == 1


def test_a_token_without_a_scope_is_not_made():
    assert create("ann").exit_code == 2
    assert "there is no token" in token("list").output


@pytest.fixture
def elsewhere(tmp_path):
    """A daemon on another machine's data, and a file with an admin's token of it."""
    settings = Settings(data_dir=tmp_path / "elsewhere", worker_count=0)
    with serving(settings) as served:
        with served.services.database.write() as session:
            made = access_tokens.create(
                session, "root", scopes=["admin", "read"], expires_at=None, now=datetime.now(UTC)
            )
        file = tmp_path / "admin"
        file.write_text(made[1])
        yield ("--url", served.url, "--token-file", file)


def test_with_an_address_the_daemon_there_is_asked_and_not_this_machines_database(elsewhere):
    made = create("ann", "--scope", "read", "--expires-days", 2, *elsewhere)
    assert made.exit_code == 0, made.output or made.exception
    assert access_tokens.read(made.stdout.strip()) is not None
    assert "token ann may read until 20" in made.stderr
    there = [line.split("\t") for line in token("list", *elsewhere).output.splitlines()]
    assert [(line[0], line[1]) for line in there] == [("root", "admin, read"), ("ann", "read")]
    assert there[1][2].startswith("in force until ")
    assert there[1][3].startswith("made 20")
    assert "there is no token" in token("list").output, "here nothing was made"
    assert token("revoke", "ann", *elsewhere).stdout == "token ann is revoked\n"
    assert token("list", *elsewhere).output.splitlines()[1].split("\t")[2].startswith("revoked ")


def test_over_rest_only_an_admin_makes_one_and_the_last_one_stays(elsewhere, tmp_path):
    reader = tmp_path / "reader"
    reader.write_text(create("ann", "--scope", "read", *elsewhere).stdout)
    beyond = create("bob", "--scope", "read", *elsewhere[:3], reader)
    assert beyond.exception.problem_code == "forbidden"
    assert beyond.stdout == ""
    token("revoke", "ann", *elsewhere)
    last = token("revoke", "root", *elsewhere)
    assert last.exception.problem_code == "last_token"
    stranger = token("list", *elsewhere[:2])
    assert stranger.exception.problem_code == "unauthorized"
