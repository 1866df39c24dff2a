"""Token files: secrets that are shown once, scopes, and changes that count at once."""

from __future__ import annotations

import hashlib
import json
import logging
import stat
import threading
from pathlib import Path

import pytest

from robot_bridge.station.tokens import (
    SCOPES,
    TokenExists,
    TokenFile,
    TokenFileInvalid,
    TokenInvalid,
    TokenUnknown,
)
from tests.robot_bridge.builders import NOON


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "lab" / "tokens.json", now=lambda: NOON)


def test_a_secret_opens_what_its_token_may(tokens):
    secret = tokens.create("daemon", ["drive", "observe"])
    token = tokens.check(secret)
    assert token is not None
    assert (token.name, token.scopes, token.created_at) == ("daemon", {"observe", "drive"}, NOON)


def test_no_two_secrets_are_alike_and_none_can_be_guessed(tokens):
    secrets = {tokens.create(f"t{n}", SCOPES) for n in range(20)}
    assert len(secrets) == 20
    assert min(len(secret) for secret in secrets) > 40


def test_the_file_is_for_its_owner_only_and_holds_no_secret(tokens):
    secret = tokens.create("daemon", ["drive"])
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    content = tokens.path.read_text()
    assert secret not in content
    assert secret.removeprefix("gst_") not in content
    assert hashlib.sha256(secret.encode()).hexdigest() in content


def test_an_old_file_that_was_open_to_all_is_not_left_so(tokens):
    tokens.create("daemon", ["drive"])
    tokens.path.with_name(".tokens.json.new").touch(0o666)
    tokens.create("other", ["drive"])
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("wrong", ["", "gst_", "gst_x", "\ud800", "é", "daemon"])
def test_another_secret_is_nobody(tokens, wrong):
    tokens.create("daemon", ["drive"])
    assert tokens.check(wrong) is None


def test_the_hash_of_a_secret_is_not_a_secret(tokens):
    secret = tokens.create("daemon", ["drive"])
    assert tokens.check(hashlib.sha256(secret.encode()).hexdigest()) is None


def test_without_a_file_nobody_is_known(tokens):
    assert tokens.check("gst_x") is None
    assert tokens.tokens() == []


def test_a_revoked_token_ends_at_once_also_in_a_station_that_runs(tokens):
    secret, other = tokens.create("daemon", ["drive"]), tokens.create("desk", ["observe"])
    running = TokenFile(tokens.path)
    assert running.check(secret) is not None
    tokens.revoke("daemon")
    assert running.check(secret) is None
    assert running.check(other) is not None
    assert [token.name for token in tokens.tokens()] == ["desk"]


def test_a_token_that_was_added_counts_at_once_in_a_station_that_runs(tokens):
    running = TokenFile(tokens.path)
    assert running.check("gst_x") is None
    assert running.check(tokens.create("daemon", ["drive"])) is not None


def test_who_does_not_look_at_the_file_again_knows_what_it_knew(tokens):
    secret = tokens.create("daemon", ["estop"])
    assert tokens.check(secret, fresh=False) is not None
    TokenFile(tokens.path).revoke("daemon")
    assert tokens.check(secret, fresh=False) is not None
    assert tokens.check(secret) is None
    assert tokens.check(secret, fresh=False) is None


def test_a_name_is_taken_once(tokens):
    tokens.create("daemon", ["drive"])
    with pytest.raises(TokenExists, match="daemon"):
        tokens.create("daemon", ["observe"])
    tokens.revoke("daemon")
    tokens.create("daemon", ["observe"])


def test_revoking_what_is_not_there_says_what_is(tokens):
    tokens.create("daemon", ["drive"])
    with pytest.raises(TokenUnknown, match=r"no token 'dameon', only daemon"):
        tokens.revoke("dameon")


@pytest.mark.parametrize(
    ("name", "scopes"),
    [
        *((name, ["drive"]) for name in ("", "a b", "-x", "x" * 101, "../x", "ok\n")),
        *(("ok", scopes) for scopes in ([], ["fly"], ["drive", "fly"])),
    ],
)
def test_names_and_scopes_that_are_none_are_refused(tokens, name, scopes):
    with pytest.raises(TokenInvalid):
        tokens.create(name, scopes)
    assert tokens.tokens() == []


DAMAGES = {
    "cut": lambda path: path.write_text(path.read_text()[:-9]),
    "empty": lambda path: path.write_text(""),
    "list": lambda path: path.write_text("[]"),
    "scope": lambda path: path.write_text(path.read_text().replace('"drive"', '"fly"')),
    "open": lambda path: path.chmod(0o666),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_gives_nobody_anything_but_the_stop(tokens, damage, caplog):
    secret = tokens.create("daemon", ["drive", "estop"])
    assert tokens.check(secret) is not None
    DAMAGES[damage](tokens.path)
    tokens.path.touch()
    with caplog.at_level(logging.ERROR):
        token = tokens.check(secret)
        assert token is None or token.scopes == {"estop"}
    if damage != "open":
        assert token is not None
        assert "token_file_invalid" in caplog.text
    assert secret not in caplog.text
    with pytest.raises(TokenFileInvalid):
        tokens.create("other", ["drive"])
    with pytest.raises(TokenFileInvalid):
        tokens.tokens()


def test_a_damaged_file_that_was_mended_counts_again(tokens):
    secret = tokens.create("daemon", ["drive"])
    content = tokens.path.read_text()
    assert tokens.check(secret) is not None
    tokens.path.write_text("{")
    found = tokens.check(secret)
    assert found is not None
    assert found.scopes == frozenset()
    tokens.path.write_text(content + " ")
    found = tokens.check(secret)
    assert found is not None
    assert found.scopes == {"drive"}


def test_the_words_about_a_damaged_file_do_not_hold_what_is_in_it(tokens):
    tokens.path.parent.mkdir(parents=True)
    tokens.path.write_text(json.dumps({"tokens": [{"name": "x", "secret": "gst_oops"}]}))
    tokens.path.chmod(0o600)
    with pytest.raises(TokenFileInvalid) as refused:
        tokens.tokens()
    assert "gst_oops" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_programs_that_add_tokens_at_once_lose_none(tokens):
    gate = threading.Barrier(6)

    def add(name: str) -> None:
        gate.wait()
        TokenFile(tokens.path).create(name, ["observe"])

    threads = [threading.Thread(target=add, args=(f"t{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(token.name for token in tokens.tokens()) == [f"t{n}" for n in range(6)]
