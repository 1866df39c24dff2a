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

WITHOUT_JSON = {  # and why: whatever else ends, or tells of changes, does so as JSON if asked
    "serve": "a server: it runs until it is ended, and says only where it answers, which --announce writes",
    "worker": "runs until it is ended and prints nothing",
    "station": "a server, as serve",
    "policy-server": "a server, as serve",
    "autoeval-emulator": "a server, as serve",
}
ROUTES = {  # which command does what a route does; one route may be several commands
    "GET /healthz": ("doctor",),
    "GET /readyz": ("doctor",),
    "GET /metrics": ("metrics",),
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
    "GET /v1/episodes/{episode_id}": ("episode",),
    "GET /v1/episodes/{episode_id}/video.mp4": ("video",),
    "GET /v1/episodes/{episode_id}/labels": ("labels",),
    "POST /v1/episodes/{episode_id}/labels": ("label",),
    "GET /v1/episodes/{episode_id}/notes": ("notes", "episode"),
    "POST /v1/episodes/{episode_id}/notes": ("note",),
    "GET /v1/checkpoints": ("checkpoints",),
    "GET /v1/checkpoints/{checkpoint_id}": ("checkpoint",),
    "GET /v1/checkpoints/{checkpoint_id}/trust": ("trust",),
    "GET /v1/policies": ("policies",),
    "GET /v1/policies/{checkpoint_id}": ("policies",),
    "POST /v1/policies/{checkpoint_id}/promote": ("promote",),
    "POST /v1/policies/{checkpoint_id}/rollback": ("rollback",),
    "GET /v1/judges": ("judges",),
    "GET /v1/judges/{checkpoint_id}": ("judges",),
    "GET /v1/tasks": ("tasks",),
    "GET /v1/tasks/{task_id}": ("tasks",),
    "GET /v1/stations": ("stations",),
    "GET /v1/stations/{station_id}": ("stations",),
    "GET /v1/audit": ("audit",),
    "POST /v1/schedules": ("schedule add",),
    "GET /v1/schedules": ("schedule list",),
    "GET /v1/schedules/{schedule_id}": ("schedule show",),
    "PATCH /v1/schedules/{schedule_id}": ("schedule pause", "schedule resume"),
    "DELETE /v1/schedules/{schedule_id}": ("schedule remove",),
    "POST /v1/schedules/{schedule_id}/run-now": ("schedule run-now",),
    "GET /v1/standing": ("watch",),
    "GET /v1/stations/{station_id}/hours": ("hours show",),
    "PUT /v1/stations/{station_id}/hours": ("hours set",),
    "DELETE /v1/stations/{station_id}/hours": ("hours clear",),
    "GET /v1/cameras": ("snapshot",),
    "GET /v1/cameras/{place}/pictures/{name}.jpg": ("snapshot",),
    "POST /v1/estop": ("estop",),
    "POST /v1/worlds/what-if": ("what-if",),
    "GET /v1/worlds/what-ifs": ("what-ifs",),
    "GET /v1/worlds/what-ifs/{what_if_id}": ("what-if",),
    "GET /v1/worlds/what-ifs/{what_if_id}/start.png": ("what-if",),
    "GET /v1/worlds/what-ifs/{what_if_id}/rollouts/{place}/strip.jpg": ("what-if",),
    "GET /v1/worlds/what-ifs/{what_if_id}/rollouts/{place}/film.mp4": ("what-if",),
    "POST /v1/start-images": ("start-image add",),
    "GET /v1/start-images": ("start-image list",),
    "GET /v1/start-images/{image_id}": ("start-image show",),
    "DELETE /v1/start-images/{image_id}": ("start-image remove",),
    "GET /v1/start-images/{image_id}/image.png": ("start-image show",),
    "GET /v1/tokens": ("token list",),
    "POST /v1/tokens": ("token create",),
    "DELETE /v1/tokens/{name}": ("token revoke",),
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
    assert [route for route, commands in ROUTES.items() if not commands] == [], "give it a command"
    assert [each for commands in ROUTES.values() for each in commands if each not in COMMANDS] == []


def test_every_command_that_speaks_with_a_daemon_can_show_its_token() -> None:
    speaking = {name for name, command in COMMANDS.items() if "--url" in options(command)}
    assert speaking == {name for named in ROUTES.values() for name in named} - {"doctor"}
    assert [name for name in sorted(speaking) if "--token-file" not in options(COMMANDS[name])] == []


def test_every_command_but_servers_has_an_answer_in_json() -> None:
    without = {name for name, command in COMMANDS.items() if "--json" not in options(command)}
    assert without == set(WITHOUT_JSON), "give it the option --json"


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


LIGHT = {"typer", "click", "shellingham", "annotated_doc", "daemon", "robot_bridge", "storage"}


def test_help_loads_nothing_but_typer_and_our_own_commands() -> None:
    """What makes it take 0.13 s: the time itself is the machine's, see benchmarks/RESULTS.md."""
    script = (
        "import sys; before = set(sys.modules)\n"
        "from daemon.cli import app\n"
        "try: app(['--help'], prog_name='gymnastd')\n"
        "except SystemExit: pass\n"
        "found = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(found - set(sys.stdlib_module_names)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert "bench" in done.stdout
    assert "typer" in done.stderr.split()
    assert set(done.stderr.split()) - LIGHT == set()
