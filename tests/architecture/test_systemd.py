"""The systemd units name commands, options and settings that exist, and are hardened alike."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from daemon.cli import app
from daemon.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "packaging"
SERVICES = sorted(path.name for path in FOLDER.glob("*.service"))
UNITS = sorted(path.name for path in (*FOLDER.glob("*.service"), *FOLDER.glob("*.timer")))
HARDENED = {
    "NoNewPrivileges": "true",
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "RestrictSUIDSGID": "true",
    "LockPersonality": "true",
    "CapabilityBoundingSet": "",
}
PROGRAM = "/opt/gymnastd/.venv/bin/gymnastd"


def entries(unit: str) -> dict[str, list[str]]:
    """Every value of every key; a key may be there more than once."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / unit).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, separator, value = line.partition("=")
            assert separator, line
            found.setdefault(key, []).append(value)
    return found


def test_every_role_has_its_unit() -> None:
    assert UNITS == [
        "gymnastd-station.service",
        "gymnastd-upkeep.service",
        "gymnastd-upkeep.timer",
        "gymnastd-worker@.service",
        "gymnastd.service",
    ]


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_runs_commands_that_exist_with_their_options(unit: str) -> None:
    for line in entries(unit)["ExecStart"]:
        program, *words = shlex.split(line)
        assert program == PROGRAM
        command = get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert [word for word in words if word.startswith("--") and word not in known] == []
        assert not hasattr(command, "commands") or command.name == "station", line


@pytest.mark.parametrize("unit", UNITS)
def test_settings_that_a_unit_names_exist(unit: str) -> None:
    named = {
        name.removeprefix(PREFIX)
        for name in re.findall(r"GYMNASTD_[A-Z_]+[A-Z]", (FOLDER / unit).read_text())
    }
    assert named <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_has_no_rights_that_it_does_not_need(unit: str) -> None:
    found = entries(unit)
    assert {key: found[key][-1] for key in HARDENED} == HARDENED
    assert found["User"] == ["gymnastd"]


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_waits_no_longer_than_it_says(unit: str) -> None:
    found = entries(unit)
    assert ("TimeoutStopSec" in found) or ("TimeoutStartSec" in found)


def test_the_daemon_outlives_a_worker_that_the_kernel_takes() -> None:
    found = entries("gymnastd.service")
    assert (found["OOMPolicy"], found["KillMode"]) == (["continue"], ["mixed"])


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_itself_finds_nothing_wrong(unit: str, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not here; the other tests read the units themselves")
    for name in UNITS:  # the program and the account are not installed here
        text = (FOLDER / name).read_text().replace(PROGRAM, "/bin/true").replace("User=gymnastd", "User=root")
        (tmp_path / name).write_text(text.replace("Group=gymnastd", "Group=root"))
    name = unit.replace("@.", "@0.")
    (tmp_path / unit).rename(tmp_path / name)
    done = subprocess.run(
        [verify, "verify", "--man=no", tmp_path / name], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "gymnastd" in line and "Failed to load" not in line]
    assert ours == []
