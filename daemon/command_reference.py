"""`docs/commands.md`, made from the command line and the settings: `python -m daemon.command_reference`."""

import sys
from collections.abc import Iterator
from typing import Any

import typer
from typer.main import get_command

from daemon.cli import app
from daemon.exit_status import MEANINGS
from daemon.settings import PREFIX, Settings

NAME = "gymnastd"
BEFORE = """# Every command

Made by `python -m daemon.command_reference`; a test holds this page to the program. `gymnastd COMMAND
--help` says the same.

## Exit status

| status | meaning |
|---|---|
{statuses}

## Of many commands

- `--json` prints one JSON document on standard output and nothing else there; every command has it but those
  that serve until they are ended. Of a daemon it is what the REST API answered (`docs/api.md`), of work that
  leaves a report or a card what that file holds, with its `folder`. Moments are ISO 8601 in UTC, ids are
  whole. `gymnastd events --json` and `gymnastd watch --json` print one document a line. Bars, questions and
  what work says meanwhile go to standard error. What was refused or failed prints no document: the exit
  status and the sentence on standard error are those without `--json`.
- `--url` is the daemon's address, `--token-file` names a file with the token that it asks for;
  `GYMNASTD_TOKEN_FILE` is the same for every command.
- Commands without `--url` work on the store, the station's folder or a process of their own, with the
  `GYMNASTD_` settings of the daemon.
- `gymnastd --install-completion` teaches your shell to complete commands and options; `--show-completion`
  prints what it would install.

## Settings

Environment variables, of the daemon, its workers and the commands that work on its store; an unknown name
with this prefix is an error. What a command is told wins over them.

| variable | default | meaning |
|---|---|---|
{settings}
"""


def reference() -> str:
    """The whole page."""
    statuses = "\n".join(f"| {status} | {meaning} |" for status, meaning in MEANINGS.items())
    commands = dict(walk(get_command(app), ()))
    before = BEFORE.format(statuses=statuses, settings="\n".join(settings()))
    return "\n".join([before, *(told(names, of) for names, of in commands.items())])


def settings() -> Iterator[str]:
    """A row for every setting."""
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "", (), {}) else f"`{field.default}`"
        yield f"| `{PREFIX}{name.upper()}` | {default} | {' '.join(str(field.description).split())} |"


def walk(command: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something by itself, by name."""
    if names and (not hasattr(command, "commands") or command.invoke_without_command):
        yield names, command
    for name, below in sorted(getattr(command, "commands", {}).items()):
        yield from walk(below, (*names, name))


def told(names: tuple[str, ...], command: Any) -> str:
    """A command's section: how it is called, what it does, its arguments and options."""
    parameters = [each for each in command.params if each.name != "help"]
    arguments = [each.name.upper() for each in parameters if each.param_type_name == "argument"]
    rows = [row(each, typer.Context(command)) for each in parameters]
    title = f"## `{' '.join((NAME, *names, *arguments))}`"
    lines = [title, "", " ".join(str(command.help or "").split()), ""]
    return "\n".join([*lines, *(["| option | meaning |", "|---|---|", *rows, ""] if rows else [])])


def row(parameter: Any, context: typer.Context) -> str:
    """An argument or option as the help writes it."""
    called, said = (" ".join(text.split()).replace("|", "\\|") for text in parameter.get_help_record(context))
    return f"| `{called}` | {said} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
