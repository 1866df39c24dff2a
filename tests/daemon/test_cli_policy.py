"""`gymnastd policy-server` as a command: what it refuses, and a whole life of it in a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import typer
from click.testing import Result
from typer.testing import CliRunner

from daemon.cli_policy import checkpoint_path, policy_server, read_token
from robot_bridge.callback import PolicyResetRequest
from robot_bridge.errors import BindRefused
from robot_bridge.policy_link import HttpPolicyLink

PATIENT = 60.0
SERVER = "import typer; from daemon.cli_policy import policy_server; typer.run(policy_server)"


def inside(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(policy_server)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def saved(path: Path, seed: int = 0) -> Path:
    from tests.daemon.policy_server.small_policies import a_policy

    a_policy(seed).save(path, {})
    return path


def served(url: str) -> str:
    """The digest of the policy that the next session gets."""
    return str(requests.get(f"{url}/health", timeout=PATIENT).json()["policy"]["digest"])


def a_reset(session: str) -> PolicyResetRequest:
    return PolicyResetRequest(
        session=session, task_id="open_drawer", instruction="open the drawer", control_hz=5.0, seed=1
    )


@contextmanager
def serving(folder: Path, *options: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command in a process of its own on a free port; yields its URL."""
    announce = folder / "policy.url"
    command = [sys.executable, "-c", SERVER, "--port", "0", "--announce", str(announce), *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("policy server serves http://127.0.0.1:")
            yield announce.read_text().strip(), process
        finally:
            process.kill()


def test_help_names_what_it_can_be_told_and_loads_nothing_heavy() -> None:
    script = (
        "import sys, typer; from typer.testing import CliRunner\n"
        "from daemon.cli_policy import policy_server\n"
        "app = typer.Typer(); app.command()(policy_server)\n"
        "result = CliRunner().invoke(app, ['--help'], env={'COLUMNS': '200'})\n"
        "heavy = {'torch', 'transformers', 'fastapi', 'uvicorn', 'sqlalchemy'}\n"
        "sys.stdout.write(result.output + 'loaded:' + ','.join(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    output, loaded = done.stdout.rsplit("loaded:", 1)
    assert loaded == ""
    for option in ("--checkpoint", "--watch", "--token-file", "--trust-network", "--temperature"):
        assert option in output


def test_base_is_the_checkpoint_that_comes_along(tmp_path: Path) -> None:
    found = checkpoint_path("base")
    assert found.is_file()
    assert found.parts[-3:] == ("assets", "nano", "policy.safetensors")
    assert checkpoint_path(str(tmp_path / "mine")) == tmp_path / "mine"


def test_a_token_is_one_word_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("  the-word\n")
    assert read_token(file) == "the-word"


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff"], ids=["none", "empty", "two", "bytes"])
def test_a_token_file_that_is_none_stops_it_before_it_listens(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    result = inside("--token-file", file, "--checkpoint", tmp_path / "none")
    assert result.exit_code == 2
    assert "token file" in result.output


def test_a_checkpoint_that_is_none_is_told_in_one_sentence(tmp_path: Path) -> None:
    result = inside("--checkpoint", tmp_path / "none.safetensors")
    assert result.exit_code == 2
    assert "checkpoint_unreadable" in result.output


def test_a_temperature_that_no_distribution_has_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "policy.safetensors")
    assert inside("--checkpoint", path, "--temperature", "inf").exit_code == 2
    assert inside("--checkpoint", path, "--temperature", "-1").exit_code == 2


def test_an_address_that_others_reach_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "policy.safetensors")
    result = inside("--checkpoint", path, "--host", "0.0.0.0")  # noqa: S104
    assert isinstance(result.exception, BindRefused)
    assert "TLS and a token" in str(result.exception)


@pytest.mark.slow
def test_it_serves_swaps_at_a_reset_and_ends_on_sigterm(tmp_path: Path) -> None:
    path, token = saved(tmp_path / "policy.safetensors"), tmp_path / "token"
    token.write_text("the-word\n")
    with serving(tmp_path, "--checkpoint", path, "--token-file", token, "--watch") as (url, process):
        assert requests.post(f"{url}/reset", timeout=PATIENT).status_code == 401
        link = HttpPolicyLink(url, token="the-word", timeout_s=PATIENT)
        first = link.reset(a_reset("first")).policy
        saved(path, seed=1)
        deadline = time.monotonic() + PATIENT
        while served(url) == first.digest and time.monotonic() < deadline:
            assert link.reset(a_reset("first")).policy == first  # a session that runs keeps its policy
        second = link.reset(a_reset("second")).policy
        assert second.digest == served(url) != first.digest
        link.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENT) == 0
