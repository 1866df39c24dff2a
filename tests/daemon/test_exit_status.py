"""What the command line says and how it ends when something is refused or fails."""

import errno
import os
import socket
import subprocess
import sys

import pytest
import requests

from daemon.errors import NothingCollected
from daemon.exit_status import ADVICE, MEANINGS, of_the_machine, ours, sentence


def run(*words, **variables):
    command = [sys.executable, "-m", "daemon.cli", *map(str, words)]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def refused(done, *, says):
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert says in done.stderr
    assert done.stderr.rstrip().endswith("[machine_refused]")


def test_a_port_that_is_taken_is_told_with_what_to_do(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(run("serve", "--port", port, "--data-dir", tmp_path), says="take another port")


def test_a_database_that_does_not_answer_is_told_without_its_password():
    done = run("token", "list", GYMNASTD_DATABASE_URL="postgresql+psycopg://lab:secret@127.0.0.1:1/x")
    refused(done, says="the database does not answer")
    assert "GYMNASTD_DATABASE_URL" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "nonsense"])
def test_an_address_that_is_none_is_told_with_one_that_is(url):
    refused(run("status", "--url", url), says="Give an address like http://127.0.0.1:8400.")


def test_a_place_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("db", "upgrade", GYMNASTD_DATA_DIR=str(tmp_path / "file" / "lab"))
    refused(done, says=f"{tmp_path / 'file' / 'lab'}: Not a directory. A file stands where")


def test_errors_of_ours_keep_their_own_sentence_and_code():
    error = NothingCollected(phase="update_policy", wanted="starts")
    assert isinstance(error, ours())
    assert sentence(error) == f"gymnastd: {error} [nothing_collected]"


@pytest.mark.parametrize("number", sorted(ADVICE))
def test_every_advice_stands_behind_the_systems_own_words(number):
    error = OSError(number, os.strerror(number), "/x")
    assert isinstance(error, of_the_machine())
    assert sentence(error) == f"gymnastd: /x: {os.strerror(number)}. {ADVICE[number]} [machine_refused]"


def test_what_has_no_advice_of_its_own_is_told_all_the_same():
    assert "/x: Input/output error. See the reason" in sentence(OSError(errno.EIO, "", "/x"))
    assert "odd. See the reason" in sentence(OSError("odd"))
    assert "Give an address" in sentence(requests.exceptions.MissingSchema("no scheme"))


def test_faults_of_the_program_keep_their_trace():
    assert not isinstance(ValueError(), (*ours(), *of_the_machine()))


def test_a_sentence_ends_once():
    assert sentence(OSError("it is away.\n")).startswith("gymnastd: it is away. See")


def test_the_statuses_are_those_that_shells_expect():
    assert sorted(MEANINGS) == [0, 1, 2, 3, 130]
