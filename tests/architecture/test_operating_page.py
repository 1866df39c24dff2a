"""docs/operating.md names commands, options, settings, units, checks and codes that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import daemon
import storage
from daemon.cli import app
from daemon.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text()
COMMANDS = sorted(set(re.findall(r"`(?:docker compose exec serve )?(gymnastd [a-z][^`]*)`", PAGE)))
CODE = "".join(
    path.read_text() for package in (daemon, storage) for path in Path(package.__file__).parent.rglob("*.py")
)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_exists_with_its_options(line: str) -> None:
    words = [word.strip("[]") for word in shlex.split(line)[1:]]
    command = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands") or command.invoke_without_command, line
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []


def test_options_that_stand_alone_belong_to_one_of_the_commands() -> None:
    commands = get_command(app).commands
    known = {
        o
        for name in ("doctor", "backup", "restore", "gc", "status")
        for p in commands[name].params
        for o in p.opts
    }
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known


def test_settings_exist() -> None:
    named = {name.removeprefix(PREFIX) for name in re.findall(r"GYMNASTD_[A-Z_]+[A-Z]", PAGE)}
    assert named <= {name.upper() for name in Settings.model_fields}
    assert "MIN_FREE_DISK_MB" in named


def test_units_exist() -> None:
    named = set(re.findall(r"`(gymnastd[a-z@-]*\.(?:service|timer))`", PAGE))
    assert named <= {path.name for path in (ROOT / "packaging").iterdir()}
    assert len(named) == 4


def test_codes_of_the_alarms_are_codes_of_the_program() -> None:
    table = PAGE.split("## Alarms")[1]
    codes = {code for row in table.splitlines()[4:] for code in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert len(codes) > 10
    assert [code for code in sorted(codes) if f'"{code}"' not in CODE] == []


def test_the_checks_of_the_table_are_those_of_doctor() -> None:
    table = PAGE.split("## doctor")[1].split("\n## ")[0]
    named = [row.split("|")[1].strip() for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(named) == 14
    assert [check for check in named if f'"{check}"' not in CODE] == []
