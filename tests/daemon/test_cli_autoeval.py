"""`gymnastd autoeval-emulator`: its options reach the emulator, and it says where it serves."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import requests
from typer.testing import CliRunner

from daemon.cli import app
from robot_bridge.autoeval.emulator.errors import BadQuirk, UnknownQuirk


@contextmanager
def emulating(tmp_path, *arguments):
    """`gymnastd autoeval-emulator` on a free port; yields its first line, its URL and the process."""
    announce = tmp_path / "autoeval.url"
    command = [
        *(sys.executable, "-m", "daemon.cli", "autoeval-emulator", "--port", "0"),
        *("--root", str(tmp_path / "autoeval"), "--announce", str(announce), *arguments),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        try:
            line = process.stdout.readline()
            yield line, announce.read_text().strip(), process
        finally:
            process.kill()


def run(*arguments):
    return CliRunner().invoke(app, ["autoeval-emulator", *arguments], env={"COLUMNS": "200"})


@pytest.mark.slow
def test_the_emulator_announces_itself_answers_and_stops_on_sigterm(tmp_path):
    with emulating(tmp_path, "--cell-seed", "3", "--quirk", "renderer=raycast") as (line, url, process):
        assert re.fullmatch(r"autoeval emulator serves http://127\.0\.0\.1:\d+\n", line)
        assert line.strip().endswith(url)
        robots = requests.get(url + "/robot_status/", timeout=20).json()
        assert [robot["robot"] for robot in robots] == ["widowx_drawer", "widowx_sink"]
        assert (tmp_path / "autoeval" / "admin_api_key.txt").exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_its_help_names_every_option():
    result = run("--help")
    assert result.exit_code == 0
    for option in ("--root", "--port", "--cell-seed", "--lifelike", "--quirk", "--announce"):
        assert option in result.output


@pytest.mark.parametrize(
    ("quirk", "error"), [("clasifier_noise=0.1", UnknownQuirk), ("classifier_noise=much", BadQuirk)]
)
def test_a_quirk_that_is_not_one_is_refused_before_anything_starts(tmp_path, quirk, error):
    result = run("--root", str(tmp_path / "autoeval"), "--quirk", quirk)
    assert isinstance(result.exception, error)
    assert not (tmp_path / "autoeval").exists()


def test_a_quirk_may_come_after_lifelike(tmp_path):
    result = run("--lifelike", "--quirk", "step_s=-1", "--root", str(tmp_path / "autoeval"))
    assert isinstance(result.exception, BadQuirk)
