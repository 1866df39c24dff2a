"""The station's commands: what they refuse, what they change on disk, and that they serve."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from daemon.cli_station import station_commands
from robot_bridge.client import StationClient
from robot_bridge.drivers.opening import DRIVER_KINDS
from robot_bridge.errors import BindRefused, SpoolBusy, Unauthorized
from robot_bridge.listening import TlsUnusable
from robot_bridge.station.estop import EStopLatch
from robot_bridge.station.human import HumanCall
from robot_bridge.station.policy_tokens import PolicyTokensInvalid
from robot_bridge.station.serve import AddressUnavailable, running_station
from robot_bridge.station.tokens import (
    SCOPES,
    TokenExists,
    TokenFile,
    TokenFileInvalid,
    TokenInvalid,
    TokenUnknown,
)
from robot_bridge.transport import Retries
from tests.robot_bridge.toy_driver import ToyDriver

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def run(*arguments: object, answer: str | None = None):
    """The command in this process; its errors keep their class."""
    return CliRunner().invoke(
        station_commands, [str(argument) for argument in arguments], input=answer, env={"COLUMNS": "200"}
    )


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from typer.testing import CliRunner; from daemon.cli_station import station_commands\n"
        "CliRunner().invoke(station_commands, ['--help'])\n"
        "heavy = {'torch', 'sqlalchemy', 'fastapi', 'uvicorn', 'mujoco', 'numpy', 'requests'}\n"
        "sys.stdout.write(','.join(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == ""


@pytest.mark.parametrize(
    "command",
    [[], ["token"], ["token", "create"], ["token", "revoke"], ["token", "list"], ["human-done"], ["check"]],
)
def test_every_command_explains_itself(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_every_driver_there_is_can_be_named():
    assert all(kind in run("--help").output for kind in DRIVER_KINDS)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--sim"),
        (["--sim", "--driver", "widowx-envs"], "give one of them"),
        (["--driver", "broom"], "broom"),
        (["--sim", "--hold-after-ms", "900", "--abort-after-ms", "800"], "--abort-after-ms 800"),
        (["--sim", "--hold-after-ms", "0"], "--hold-after-ms"),
        (["--sim", "--port", "65536"], "--port"),
        (["--sim", "--spool-limit-mb", "0"], "--spool-limit-mb"),
        (["--sim", "--cell-seed", "-1"], "--cell-seed"),
    ],
)
def test_what_contradicts_itself_is_refused_before_anything_starts(tmp_path, arguments, told):
    result = run(*arguments, *(["--spool", tmp_path / "spool"] if arguments else []))
    assert result.exit_code == 2
    assert told in result.output
    assert not (tmp_path / "spool").exists()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_a_token_is_made_listed_and_revoked(tokens):
    made = run("token", "create", "daemon", "--scope", "drive", "--scope", "observe", "--tokens", tokens)
    secret = made.stdout.strip()
    token = TokenFile(tokens).check(secret)
    assert token is not None
    assert token.scopes == {"drive", "observe"}
    assert made.stderr == "token daemon may drive, observe; its secret is not shown again\n"
    listed = run("token", "list", "--tokens", tokens).output
    assert listed.startswith("daemon\tdrive, observe\t20")
    assert secret not in listed
    assert run("token", "revoke", "daemon", "--tokens", tokens).output == "token daemon is revoked\n"
    assert TokenFile(tokens).check(secret) is None
    assert run("token", "list", "--tokens", tokens).output == f"{tokens} holds no token\n"


def test_what_cannot_be_done_with_a_token_is_said_by_its_error(tokens):
    run("token", "create", "daemon", "--scope", "drive", "--tokens", tokens)
    create = ("token", "create")
    for arguments, error in [
        ((*create, "daemon", "--scope", "drive"), TokenExists),
        ((*create, "other", "--scope", "fly"), TokenInvalid),
        (("token", "revoke", "other"), TokenUnknown),
    ]:
        assert isinstance(run(*arguments, "--tokens", tokens).exception, error)
    assert run(*create, "other", "--tokens", tokens).exit_code == 2  # no scope
    tokens.write_text("{")
    assert isinstance(run("token", "list", "--tokens", tokens).exception, TokenFileInvalid)


def test_a_token_made_while_the_station_runs_opens_it_until_it_is_revoked(tmp_path, tokens):
    once = Retries(tries=1)
    with running_station(
        ToyDriver(), spool=tmp_path / "spool", station_id="bench", tokens=TokenFile(tokens)
    ) as url:
        secret = run("token", "create", "daemon", "--scope", "observe", "--tokens", tokens).stdout.strip()
        client = StationClient(url, token=secret, retries=once)
        assert client.status().state == "IDLE"
        run("token", "revoke", "daemon", "--tokens", tokens)
        with pytest.raises(Unauthorized):
            client.status()
        client.close()


def test_a_station_beyond_this_machine_needs_protection_before_the_arm_is_spoken_to(tmp_path, tokens):
    """The driver of a real arm would say first that its package is missing, if it were opened."""
    spool = ("--spool", tmp_path / "spool")
    arm = ("--driver", "widowx-envs", "--host", "0.0.0.0", *spool)  # noqa: S104
    assert isinstance(run(*arm).exception, BindRefused)
    TokenFile(tokens).create("daemon", SCOPES)
    assert isinstance(run(*arm, "--tokens", tokens).exception, BindRefused)
    assert isinstance(run("--driver", "sim", "--tls-cert", tokens, *spool).exception, TlsUnusable)
    assert not (tmp_path / "spool").exists()


def test_a_file_without_a_token_would_lock_everybody_out(tmp_path, tokens):
    result = run("--sim", "--tokens", tokens, "--spool", tmp_path / "spool")
    assert result.exit_code == 2
    assert "holds no token" in result.output


def test_tokens_for_policies_are_read_before_anything_starts(tmp_path):
    path = tmp_path / "policies"
    path.write_text("https://policy.lab the-word\n")
    path.chmod(0o644)
    result = run("--sim", "--policy-tokens", path, "--spool", tmp_path / "spool")
    assert isinstance(result.exception, PolicyTokensInvalid)
    assert "the-word" not in str(result.exception)
    assert not (tmp_path / "spool").exists()


def test_a_station_that_waits_for_somebody_is_told_when_they_are_done(tmp_path):
    call = HumanCall(tmp_path)
    call.ask("the drawer jams", NOON)
    refused = run("human-done", "--spool", tmp_path, answer="n\n")
    assert "the drawer jams" in refused.output
    assert refused.exit_code != 0
    assert call.reason() == "the drawer jams"
    assert run("human-done", "--spool", tmp_path, answer="y\n").exit_code == 0
    assert call.reason() is None
    assert "waits for nobody" in run("human-done", "--spool", tmp_path).output


def test_an_emergency_stop_is_cleared_only_after_somebody_looked(tmp_path):
    latch = EStopLatch(tmp_path)
    latch.latch("a hand in the cell", NOON)
    refused = run("clear-estop", "--spool", tmp_path, answer="n\n")
    assert "a hand in the cell" in refused.output
    assert refused.exit_code != 0
    assert latch.read() is not None
    assert run("clear-estop", "--spool", tmp_path, answer="y\n").exit_code == 0
    assert latch.read() is None
    assert "no emergency stop" in run("clear-estop", "--spool", tmp_path).output


def test_a_robot_is_checked_without_a_station():
    refused = run("check", "--sim", "--driver", "widowx-envs")
    assert refused.exit_code == 2
    assert "exclude each other" in refused.output


@pytest.mark.parametrize("command", ["human-done", "clear-estop"])
def test_a_folder_that_is_not_there_is_no_station(tmp_path, command):
    result = run(command, "--spool", tmp_path / "sppol")
    assert result.exit_code == 2
    assert "sppol" in result.output


SERVE = "import sys; from daemon.cli_station import station_commands; station_commands(sys.argv[1:])"


@pytest.mark.slow
def test_a_simulated_station_serves_the_lab_with_tls_and_tokens(tmp_path, tokens):
    pytest.importorskip("mujoco", reason="the simulated cell needs the sim extra")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "station.pem"))
    secret = TokenFile(tokens).create("daemon", ["observe"])
    announce, pem = tmp_path / "url", str(tmp_path / "station.pem")
    private = tmp_path / "policies"
    private.touch(mode=0o600)
    private.write_text("https://policy.lab the-word\n")
    command = [
        sys.executable,
        "-c",
        SERVE,
        "--sim",
        "--cell-seed",
        "3",
        "--port",
        "0",
        "--tokens",
        str(tokens),
    ]
    command += ["--spool", str(tmp_path / "spool"), "--announce", str(announce)]
    command += ["--tls-cert", pem, "--tls-key", pem, "--hold-after-ms", "700", "--spool-limit-mb", "5"]
    command += ["--policy-endpoint", "https://policy.lab", "--policy-tokens", str(private)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("station serves https://127.0.0.1:")
            client = StationClient(
                announce.read_text().strip(), token=secret, verify=str(tmp_path / "ca.pem")
            )
            found = client.station()
            assert (found.station_id, found.dead_man.hold_after_ms) == ("sim-widowx-3", 700)
            assert found.policy_endpoints[-1] == "https://policy.lab"
            client.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


@pytest.mark.slow
def test_a_port_or_a_spool_that_is_taken_is_told_in_one_sentence(tmp_path):
    pytest.importorskip("mujoco", reason="the simulated cell needs the sim extra")
    with (
        running_station(ToyDriver(), spool=tmp_path / "spool", station_id="bench"),
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        port = taken.getsockname()[1]
        busy = run("--sim", "--port", port, "--spool", tmp_path / "other")
        assert isinstance(busy.exception, AddressUnavailable)
        assert str(port) in str(busy.exception)
        assert isinstance(run("--sim", "--port", 0, "--spool", tmp_path / "spool").exception, SpoolBusy)
