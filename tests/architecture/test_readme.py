"""README says what is true: commands exist, two set-up commands are the only ones, settings are real."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from daemon.cli import app
from daemon.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
FIRST_SCREEN = "\n".join(README.splitlines()[:25])


def commands() -> list[str]:
    """Every `gymnastd …` command line that README shows in code."""
    return sorted(set(re.findall(r"`(gymnastd [^`]+)`", README)))


def test_the_first_screen_is_one_sentence_the_command_and_what_one_will_see() -> None:
    title, sentence, fence = (block for block in README.split("\n\n")[:3])
    assert title == "# gymnastd"
    assert sentence.count(". ") == 0
    assert fence == "```\nmake demo\n```"
    assert "You will see" in FIRST_SCREEN


def test_make_demo_and_make_test_are_all_the_set_up_that_is_named() -> None:
    assert set(re.findall(r"make ([a-z]+)\b(?=`|\n)", README)) == {"demo", "test"}
    assert re.search(r"pip install|apt|npm|docker (?:build|run)", README) is None


@pytest.mark.parametrize("target", ["demo", "test"])
def test_both_targets_install_everything_themselves(target: str) -> None:
    assert re.search(rf"^{target}: \$\(INSTALLED\)", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("line", commands())
def test_every_command_in_readme_exists_with_its_options(line: str) -> None:
    words = [word for word in shlex.split(line)[1:] if not word.isupper()]
    command = get_command(app)
    while words and not words[0].startswith("-") and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert [word for word in words if word.startswith("--") and word not in options] == []


def test_every_command_line_of_the_table_answers_help() -> None:
    for line in commands():
        names, command = [], get_command(app)
        for word in shlex.split(line)[1:]:
            if word not in getattr(command, "commands", {}):
                break
            names.append(word)
            command = command.commands[word]
        assert names, line
        assert CliRunner().invoke(app, [*names, "--help"]).exit_code == 0, line


def test_settings_that_readme_names_exist() -> None:
    named = {name.removeprefix(PREFIX) for name in re.findall(r"GYMNASTD_[A-Z_]+[A-Z]", README)}
    assert named <= {name.upper() for name in Settings.model_fields}
    assert named


def test_the_tree_that_readme_describes_is_there() -> None:
    for package in ("robot_bridge", "storage", "daemon"):
        assert (ROOT / package / "__init__.py").is_file()
        assert f"`{package}`" in README
    for part in re.findall(r"`(api|app|worker|phases|learning)`", README):
        assert (ROOT / "daemon" / part).exists() or (ROOT / "daemon" / f"{part}.py").exists()


def test_what_was_not_seen_on_hardware_is_said() -> None:
    section = README.split("## What has not been seen on hardware")[1].split("\n## ")[0]
    for thing in ("physical WidowX", "GPU", "docker-compose.yml"):
        assert thing in section


def test_ci_runs_what_readme_names() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script.splitlines()
