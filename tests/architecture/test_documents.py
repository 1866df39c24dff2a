"""Every command in the documents is one that the program takes; what else they name is there."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from daemon.app import create_app
from daemon.settings import PREFIX, Settings
from daemon.spec import parse_spec
from robot_bridge.drivers.lab_tasks import read_tasks
from robot_bridge.station.doors import scope_of
from tests.architecture.documents import (
    NAME,
    PAGES,
    ROOT,
    Line,
    blocks,
    inline_commands,
    options_of,
    require_parsed,
    resolved,
    shell_lines,
)

MADE = {"docs/commands.md", "docs/api.md"}  # by the program, and held to it in test_reference_pages
WRITTEN = sorted(set(PAGES) - MADE)
LINES = list(shell_lines())
HELD_ELSEWHERE = {"README.md", "docs/operating.md"}  # test_readme, test_operating_page
INLINE = [line for line in inline_commands() if line.page not in MADE | HELD_ELSEWHERE]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PLACES = {"spool", "/var/lib/gymnastd-station", "backups"}  # folders that commands want to be there


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that commands of the pages want to be there."""
    monkeypatch.chdir(tmp_path)
    for folder in PLACES:
        if not folder.startswith("/"):
            (tmp_path / folder).mkdir()
    return tmp_path


def test_pages_show_commands() -> None:
    assert {line.page for line in LINES} >= {
        "docs/quick-start.md",
        "docs/real-widowx.md",
        "docs/autoeval.md",
        "docs/bring-your-own.md",
        "docs/operating.md",
        "docs/method.md",
    }
    assert len(LINES) > 60


@pytest.mark.parametrize("line", LINES, ids=str)
def test_every_command_line_is_one_that_its_program_takes(line: Line, place: Path) -> None:
    program, *rest = line.words
    assert program in CHECKS, f"{line}: nobody knows this program"
    CHECKS[program]([str(place / "spool") if word in PLACES else word for word in rest])


@pytest.mark.parametrize(
    "wrong",
    [
        "iterate --wiat",
        "iterat",
        "status --json --colour red",
        "schedule add --every 5",
        "skip 1 sleeping",
        "gc --keep-iterations none",
        "pause 1 2",
        "station check --driver sim2",
        "db",
        "schedule",
    ],
)
def test_a_command_line_that_would_be_refused_is_noticed(wrong: str, place: Path) -> None:
    with pytest.raises(AssertionError):
        require_parsed(tuple(wrong.split()))


@pytest.mark.parametrize("line", INLINE, ids=str)
def test_commands_in_the_text_exist_with_their_options(line: Line) -> None:
    command, rest = resolved(line.words[1:])
    if hasattr(command, "commands"):
        assert all(NAME.fullmatch(word) or word.startswith("--") for word in rest), f"{line}: no such command"
    given = {word.strip("[]").partition("=")[0] for word in rest if word.strip("[]").startswith("--")}
    assert given <= options_of(command), f"{line}: no such option"


@pytest.mark.parametrize("page", WRITTEN)
def test_settings_exist(page: str) -> None:
    require_settings(PAGES[page])


@pytest.mark.parametrize("page", WRITTEN)
def test_routes_in_the_text_exist(page: str) -> None:
    for method, path in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`? ]*)", PAGES[page]):
        station = scope_of(method, re.sub(r"\{[^}]*\}", "one", path))[0]
        policy = path in {"/act", "/reset", "/v1/policy/reset", "/v1/policy/act"}
        assert station or policy or is_route(method, path), f"{page}: {method} {path}"


@pytest.mark.parametrize("page", WRITTEN)
def test_pages_and_files_that_are_named_are_there(page: str) -> None:
    text = PAGES[page]
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"
    named = re.findall(r"`((?:docs|packaging|robot_bridge|daemon|storage|benchmarks|tests)/[\w/.@-]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", WRITTEN)
def test_json_in_the_pages_is_a_spec_or_a_labs_tasks(page: str, tmp_path: Path) -> None:
    inline = re.findall(r'`(\{"[^`]*\})`', PAGES[page])
    for text in [*blocks(page, "json"), *inline]:
        document: dict[str, Any] = json.loads(text)
        if isinstance(document.get("tasks", [""])[0], dict):
            (tmp_path / "tasks.json").write_text(text)
            assert read_tasks(tmp_path / "tasks.json")
        else:
            parse_spec(document)


def test_every_page_is_in_the_index() -> None:
    index = set(re.findall(r"\]\(([\w-]+\.md)\)", PAGES["docs/README.md"]))
    assert index == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


def require_gymnastd(words: list[str]) -> None:
    require_parsed(tuple(words))


def require_module(words: list[str]) -> None:
    assert words[0] == "-m"
    assert importlib.util.find_spec(words[1]) is not None


def require_target(words: list[str]) -> None:
    (target,) = words
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def require_exports(words: list[str]) -> None:
    """Settings that the program takes, with values that it takes."""
    require_settings("\n".join(words))
    given = dict(word.removeprefix(PREFIX).split("=", 1) for word in words)
    for name, value in given.items():
        if name != "COLLECT_VIA":  # autoeval needs an address beside it
            Settings.model_validate({name.lower(): json.loads(value) if value[0] in "[{" else value})


def require_test_file(words: list[str]) -> None:
    assert (ROOT / words[0]).is_file()


def require_nothing(words: list[str]) -> None:
    """Of the operator's own system: no business of ours."""


def require_settings(text: str) -> None:
    """Every setting that a text names is one, but for those that it writes with a star."""
    named = {name.removeprefix(PREFIX) for name in re.findall(rf"{PREFIX}[A-Z_]+[A-Z]", text)}
    assert named <= {name.upper() for name in Settings.model_fields}


def require_route(words: list[str]) -> None:
    """A call of curl is one of the daemon's, or of a policy server's own."""
    (url,) = [urlsplit(word) for word in words if word.startswith("http")]
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    assert (url.port, url.path) == (8402, "/health") or is_route(method, url.path), words
    if "-d" in words:
        parse_spec(json.loads(words[words.index("-d") + 1]))


def is_route(method: str, path: str) -> bool:
    asked = re.sub(r"\{[^}]*\}", "{}", path)
    calls = create_app(Settings()).openapi()["paths"]
    return any(
        method.lower() in methods and re.sub(r"\{[^}]*\}", "{}", known) == asked
        for known, methods in calls.items()
    )


def require_compose(words: list[str]) -> None:
    """`docker compose VERB SERVICE [gymnastd …]`."""
    assert words[0] == "compose"
    verb, rest = words[1], [word for word in words[2:] if not word.startswith("-")]
    assert verb in {"up", "down", "logs", "exec", "run", "ps", "build"}
    if verb in {"exec", "run"}:
        assert rest[0] in SERVICES
        assert rest[1] == "gymnastd"
        require_parsed(tuple(words[words.index("gymnastd") + 1 :]))
    else:
        assert set(rest) <= set(SERVICES)


def require_units(words: list[str]) -> None:
    units = {path.name for path in (ROOT / "packaging").iterdir()}
    for word in words:
        if word.startswith("gymnastd"):
            name = re.sub(r"@.*$", "@", word)
            assert any(unit.partition(".")[0] == name.partition(".")[0] for unit in units), word


CHECKS = {
    "gymnastd": require_gymnastd,
    "python": require_module,
    "make": require_target,
    "export": require_exports,
    "curl": require_route,
    "docker": require_compose,
    "pytest": require_test_file,
    "systemctl": require_units,
    "ssh": require_nothing,
    "openssl": require_nothing,
}
