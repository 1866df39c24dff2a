"""Commands that steer an iteration of a running daemon: pause, resume, cancel, retry, skip."""

from typing import Annotated, Any, Literal

import typer

from daemon.cli_rest import DEFAULT_URL, Url

Number = Annotated[int, typer.Argument(min=1, help="The iteration's number.")]
Phase = Annotated[
    Literal["collect", "finetune_world_model", "update_policy"],
    typer.Argument(help="The phase that it is to do without."),
]


def pause(number: Number, url: Url = DEFAULT_URL) -> None:
    """Let an iteration wait where it is; a phase that runs stops at its next report and loses nothing."""
    from daemon.client import DaemonClient

    say(DaemonClient(url).pause(number))


def resume(number: Number, url: Url = DEFAULT_URL) -> None:
    """Let a paused iteration go on."""
    from daemon.client import DaemonClient

    say(DaemonClient(url).resume(number))


def cancel(number: Number, url: Url = DEFAULT_URL) -> None:
    """End an iteration for good; what it has collected is kept."""
    from daemon.client import DaemonClient

    say(DaemonClient(url).cancel(number))


def retry(number: Number, url: Url = DEFAULT_URL) -> None:
    """Let a failed iteration go on from the phase that failed."""
    from daemon.client import DaemonClient

    say(DaemonClient(url).retry(number))


def skip(number: Number, phase: Phase, url: Url = DEFAULT_URL) -> None:
    """Let an iteration do without a phase that has not finished."""
    from daemon.client import DaemonClient

    say(DaemonClient(url).skip(number, phase))


def say(record: dict[str, Any]) -> None:
    """How the iteration stands now."""
    from daemon.console import standing

    typer.echo(f"iteration {record['number']} is {standing(record)}")
