"""Commands that steer a running daemon: pause, resume, cancel, retry, skip, and the emergency stop."""

from typing import Annotated, Any, Literal

import typer

from daemon.cli_rest import DEFAULT_URL, AsJson, TokenFile, Url, client_of, tell

Number = Annotated[int, typer.Argument(min=1, help="The iteration's number.")]
Phase = Annotated[
    Literal["collect", "finetune_world_model", "update_policy"],
    typer.Argument(help="The phase that it is to do without."),
]


def pause(
    number: Number, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Let an iteration wait where it is; a phase that runs stops at its next report and loses nothing."""
    say(client_of(url, token_file).pause(number), as_json)


def resume(
    number: Number, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Let a paused iteration go on."""
    say(client_of(url, token_file).resume(number), as_json)


def cancel(
    number: Number, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """End an iteration for good; what it has collected is kept."""
    say(client_of(url, token_file).cancel(number), as_json)


def retry(
    number: Number, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Let a failed iteration go on from the phase that failed."""
    say(client_of(url, token_file).retry(number), as_json)


def skip(
    number: Number,
    phase: Phase,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Let an iteration do without a phase that has not finished."""
    say(client_of(url, token_file).skip(number, phase), as_json)


def estop(
    reason: Annotated[str, typer.Option(help="Why; it is kept with the stop.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Stop every robot now. Only somebody at the station can let it go on (clear-estop)."""
    answer = client_of(url, token_file).estop(reason)

    def lines() -> None:
        for stopped in answer["items"]:
            typer.echo(f"{stopped['address']} stands since {stopped['since']}: {stopped['reason']}")

    tell(answer, as_json, lines)


def say(record: dict[str, Any], as_json: bool) -> None:
    """How the iteration stands now."""
    from daemon.console import standing

    tell(record, as_json, lambda: typer.echo(f"iteration {record['number']} is {standing(record)}"))
