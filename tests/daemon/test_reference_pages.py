"""docs/commands.md and docs/api.md are what the program says of itself; commands do what REST can."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from daemon import api_reference, command_reference
from daemon.cli import app
from daemon.exit_status import DIFFERENT, FAILED, INTERRUPTED, MEANINGS
from robot_bridge.check import verdicts

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
COMMANDS = {" ".join(names): command for names, command in command_reference.walk(get_command(app), ())}

WITHOUT_JSON = {  # and why: the rest prints answers, and prints them as JSON if asked
    "serve": "runs until it is ended",
    "worker": "runs until it is ended",
    "station": "runs until it is ended",
    "policy-server": "runs until it is ended",
    "autoeval-emulator": "runs until it is ended",
    "watch": "a picture that moves; `events --follow --json` is the same for programs",
    "demo": "leaves summary.json",
    "bench learning": "leaves learning.json",
    "station check": "leaves check.json",
    "rerun": "leaves rerun.json",
    "pretrain": "leaves checkpoints with a card",
    "finetune-world-model": "leaves a checkpoint; reports while it works",
    "sft": "leaves a checkpoint; reports while it works",
    "import worldgym-checkpoint": "leaves origin.json",
    "manifest": "is JSON anyway",
    "logs": "text that a worker wrote",
    "video": "leaves a file",
    "export checkpoint": "leaves a folder with a card",
    "export tensorboard": "leaves files",
    "import checkpoint": "says one sentence",
    "film-strip": "leaves a file",
    "token create": "prints the token alone",
    "token revoke": "says one sentence",
    "station token create": "prints the token alone",
    "station token revoke": "says one sentence",
    "station human-done": "asks a person",
    "station clear-estop": "asks a person",
    "clear-estop": "asks a person",
    "db upgrade": "says one sentence",
    "db downgrade": "asks a person",
    "schedule remove": "says one sentence",
    "hours clear": "says one sentence",
}
ROUTES = {  # which command does what a route does; one route may be several commands
    "GET /healthz": ("doctor",),
    "GET /readyz": ("doctor",),
    "GET /metrics": (),  # for Prometheus; `status`, `ledger` and `success-rates` tell people the same
    "POST /v1/iterations": ("iterate",),
    "GET /v1/iterations": ("status",),
    "GET /v1/iterations/{number}": ("status",),
    "GET /v1/iterations/{number}/curves": ("curves",),
    "GET /v1/iterations/{number}/film-strips/{task}/{origin}.jpg": ("film-strip",),
    "GET /v1/iterations/{number}/manifest": ("manifest",),
    "GET /v1/iterations/{number}/diff/{other}": ("diff",),
    "POST /v1/iterations/{number}/pause": ("pause",),
    "POST /v1/iterations/{number}/resume": ("resume",),
    "POST /v1/iterations/{number}/cancel": ("cancel",),
    "POST /v1/iterations/{number}/retry": ("retry",),
    "POST /v1/iterations/{number}/skip": ("skip",),
    "GET /v1/iterations/{number}/phases/{phase}/{attempt}/log": ("logs",),
    "GET /v1/success-rates": ("success-rates",),
    "GET /v1/success-rates/difference/{one}/{other}": ("compare",),
    "GET /v1/alarms": ("alarms",),
    "GET /v1/ledger": ("ledger",),
    "GET /v1/episodes": ("episodes",),
    "GET /v1/episodes/{episode_id}/video.mp4": ("video",),
    "GET /v1/episodes/{episode_id}/labels": ("labels",),
    "POST /v1/episodes/{episode_id}/labels": ("label",),
    "GET /v1/checkpoints": ("checkpoints",),
    "GET /v1/checkpoints/{checkpoint_id}/trust": ("trust",),
    "POST /v1/schedules": ("schedule add",),
    "GET /v1/schedules": ("schedule list",),
    "GET /v1/schedules/{schedule_id}": ("schedule show",),
    "PATCH /v1/schedules/{schedule_id}": ("schedule pause", "schedule resume"),
    "DELETE /v1/schedules/{schedule_id}": ("schedule remove",),
    "POST /v1/schedules/{schedule_id}/run-now": ("schedule run-now",),
    "GET /v1/stations/{station_id}/hours": ("hours show",),
    "PUT /v1/stations/{station_id}/hours": ("hours set",),
    "DELETE /v1/stations/{station_id}/hours": ("hours clear",),
    "POST /v1/estop": ("estop",),
    "POST /v1/worlds/what-if": ("what-if",),
    "GET /v1/worlds/what-ifs": (),  # for the dashboard; a command has the number of its own
    "GET /v1/worlds/what-ifs/{what_if_id}": ("what-if",),
    "GET /v1/worlds/what-ifs/{what_if_id}/start.png": ("what-if",),
    "GET /v1/worlds/what-ifs/{what_if_id}/rollouts/{place}/strip.jpg": ("what-if",),
    "GET /v1/worlds/what-ifs/{what_if_id}/rollouts/{place}/film.mp4": ("what-if",),
    "POST /v1/start-images": (),  # pictures are chosen by looking at them
    "GET /v1/start-images": (),
    "GET /v1/start-images/{image_id}": (),
    "DELETE /v1/start-images/{image_id}": (),
    "GET /v1/start-images/{image_id}/image.png": (),
    "GET /v1/tokens": (),  # `token` acts on the database itself, before anybody has one
    "POST /v1/tokens": (),
    "DELETE /v1/tokens/{name}": (),
    "GET /v1/events": ("events",),
    "GET /v1/events/stream": ("watch", "events"),
}


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def routes() -> Iterator[str]:
    from daemon.app import create_app
    from daemon.settings import Settings

    for path, methods in create_app(Settings()).openapi()["paths"].items():
        yield from (f"{method.upper()} {path}" for method in methods)


@pytest.mark.parametrize(
    ("page", "made"), [("commands.md", command_reference.reference), ("api.md", api_reference.reference)]
)
def test_the_page_is_what_the_program_says_today(page: str, made: Any) -> None:
    again = f"python -m {made.__module__} > docs/{page}"
    assert (DOCS / page).read_text() == made(), f"make the page again: {again}"


def test_every_route_of_the_api_can_be_reached_by_a_command() -> None:
    assert set(ROUTES) == set(routes())
    assert [each for commands in ROUTES.values() for each in commands if each not in COMMANDS] == []


def test_every_command_that_speaks_with_a_daemon_can_show_its_token() -> None:
    speaking = {name for name, command in COMMANDS.items() if "--url" in options(command)}
    assert speaking == {name for named in ROUTES.values() for name in named} - {"doctor"}
    assert [name for name in sorted(speaking) if "--token-file" not in options(COMMANDS[name])] == []


def test_every_command_that_prints_an_answer_prints_it_as_json_if_asked() -> None:
    without = {name for name, command in COMMANDS.items() if "--json" not in options(command)}
    assert without == set(WITHOUT_JSON)


def test_every_exit_status_that_a_command_has_is_documented() -> None:
    assert {0, FAILED, 2, DIFFERENT, INTERRUPTED} == set(MEANINGS)
    assert {verdicts.PASSED, verdicts.FAILED, verdicts.INCOMPLETE} <= set(MEANINGS)
    for status in MEANINGS:
        assert f"\n| {status} | " in (DOCS / "commands.md").read_text()


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete")]
)
def test_shells_can_be_taught_to_complete(shell: str, word: str) -> None:
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "daemon.cli", "--show-completion", shell],
        capture_output=True, text=True, env=environment, timeout=60, check=True,
    )  # fmt: skip
    assert word in done.stdout


def test_a_completion_of_a_command_names_those_that_begin_so() -> None:
    script = "import sys; sys.argv[0] = 'gymnastd'; from daemon.cli import main; main()"
    environment = {
        **os.environ,
        "_GYMNASTD_COMPLETE": "complete_bash",
        "COMP_WORDS": "gymnastd success",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, env=environment, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["success-rates"]


def test_help_costs_less_than_three_tenths_of_a_second_of_the_processor() -> None:
    command = [sys.executable, "-m", "daemon.cli", "--help"]
    assert min(seconds(command) for _ in range(5)) <= 0.3


def seconds(command: list[str]) -> float:
    """Processor time of a command and of its children: what else runs on the machine does not count."""
    before = os.times()
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
