"""What the documents show: fenced blocks, commands in them, and how a command line is held to the program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.main import get_command

from daemon.cli import app

ROOT = Path(__file__).parents[2]
PATHS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in PATHS}
ASSIGNMENT = re.compile(r"[A-Z_]+=.*")
NAME = re.compile(r"[A-Z][A-Z_]*")  # of what somebody puts in, such as DIR


@dataclass(frozen=True, slots=True)
class Line:
    """A command line of a page's `sh` blocks, as words; settings before it are left out.

    `into` is the file that its output goes to, where it says one.
    """

    page: str
    words: tuple[str, ...]
    into: str | None = None

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)


def shell_lines() -> Iterator[Line]:
    """Every command line of every page, continued lines joined."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for text in block.replace("\\\n", " ").splitlines():
                words = shlex.split(text, comments=True)
                while words and ASSIGNMENT.fullmatch(words[0]):
                    words.pop(0)
                into = words.pop() if words[-2:-1] == [">"] else None
                if words:
                    yield Line(page, tuple(words if into is None else words[:-1]), into)


def inline_commands() -> Iterator[Line]:
    """Every `gymnastd …` in the running text: shown to be recognised, with names for what is put in."""
    for page, text in PAGES.items():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        for found in sorted(
            set(re.findall(r"`((?:docker compose exec serve )?gymnastd [a-z][^`]*)`", prose))
        ):
            words = shlex.split(found.replace("…", ""))
            yield Line(page, tuple(words[words.index("gymnastd") :]))


def resolved(words: tuple[str, ...]) -> tuple[Any, list[str]]:
    """The command that the words after `gymnastd` name, and the words that are left."""
    command, rest = get_command(app), list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    return command, rest


def require_parsed(words: tuple[str, ...]) -> None:
    """Parse a command line as the program would, and do nothing.

    Raises:
        AssertionError: it would be refused.
    """
    command, rest = resolved(words)
    try:
        context = command.make_context(str(command.name), list(rest))
    except Exception as refused:
        raise AssertionError(f"{shlex.join(words)}: {getattr(refused, 'message', refused)}") from refused
    left = [
        *context.args,
        *getattr(context, "_protected_args", ()),
    ]  # a group keeps what it knows no command of
    assert left == [], f"{shlex.join(words)}: {left} is too much"


def options_of(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
