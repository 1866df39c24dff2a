"""Commands that look at what a running daemon keeps: episodes, checkpoints, trust, alarms."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from daemon.cli_rest import DEFAULT_URL, AsJson, OfLineage, TokenFile, Url, client_of, tell

Limit = Annotated[int, typer.Option(min=1, max=500, help="How many of the newest.")]
OfIteration = Annotated[int | None, typer.Option(min=1, help="Of this iteration only.")]
Kind = Annotated[Literal["world_model", "policy", "judge"] | None, typer.Option(help="Of this kind only.")]
Episode = Annotated[str, typer.Argument(help="The episode's id.")]
Checkpoint = Annotated[str, typer.Argument(help="The checkpoint's id.")]
Number = Annotated[int, typer.Argument(min=1, help="The iteration's number.")]


def episodes(
    *,
    iteration: OfIteration = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """List recorded episodes, newest first."""
    from daemon.console_look import show_episodes

    answer = client_of(url, token_file).episodes(iteration=iteration, limit=limit)
    tell(answer, as_json, lambda: show_episodes(answer["items"]))


def labels(
    episode: Episode, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show every verdict on an episode, oldest first, and which one counts."""
    from daemon.console_look import show_labels

    answer = client_of(url, token_file).read(f"episodes/{episode}/labels")
    tell(answer, as_json, lambda: show_labels(answer["items"]))


def notes(
    episode: Episode, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show every note on an episode, oldest first."""
    from daemon.console_look import show_notes

    answer = client_of(url, token_file).notes(episode)
    tell(answer, as_json, lambda: show_notes(answer["items"]))


def video(
    episode: Episode,
    out: Annotated[Path, typer.Option(help="Gets the film, mp4.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Fetch an episode's film."""
    film = client_of(url, token_file).video(episode)
    out.write_bytes(film)
    document = {"episode": episode, "file": str(out), "bytes": len(film)}
    tell(document, as_json, lambda: typer.echo(f"the film of episode {episode} is {out}"))


def film_strip(
    number: Number,
    task: Annotated[str, typer.Argument(help="The task.")],
    origin: Annotated[Literal["real", "imagined"], typer.Argument(help="Which of the two.")],
    *,
    out: Annotated[Path, typer.Option(help="Gets the strip, JPEG.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Fetch the film strip that an iteration left of a task, real or imagined."""
    from daemon.errors import PageNotFound

    strip = client_of(url, token_file).film_strip(number, task, origin)
    if strip is None:
        raise PageNotFound(what=f"{origin} film strip of {task} in iteration", key=number)
    out.write_bytes(strip)
    document = {"iteration": number, "task": task, "origin": origin, "file": str(out), "bytes": len(strip)}
    said = f"the {origin} strip of {task} in iteration {number} is {out}"
    tell(document, as_json, lambda: typer.echo(said))


def checkpoints(
    *,
    kind: Kind = None,
    lineage: OfLineage = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """List checkpoints, newest first, each with its parent."""
    from daemon.console_look import show_checkpoints

    answer = client_of(url, token_file).checkpoints(kind=kind, lineage=lineage, limit=limit)
    tell(answer, as_json, lambda: show_checkpoints(answer["items"]))


def trust(
    checkpoint: Checkpoint, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show how far a world model may be trusted, by every measurement of it."""
    from daemon.console_look import show_trust

    answer = client_of(url, token_file).read(f"checkpoints/{checkpoint}/trust")
    tell(answer, as_json, lambda: show_trust(answer["items"]))


def curves(
    number: Number, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show where the training curves of an iteration began and ended; --json has all their points."""
    from daemon.console_look import show_curves

    answer = client_of(url, token_file).curves(number)
    tell(answer, as_json, lambda: show_curves(answer))


def alarms(
    limit: Annotated[int, typer.Option(min=1, max=50, help="How many policies are looked at.")] = 10,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show where real success changed while the policy did not."""
    from daemon.console_look import show_alarms

    answer = client_of(url, token_file).read("alarms", limit=limit)
    tell(answer, as_json, lambda: show_alarms(answer))


def compare(
    one: Annotated[str, typer.Argument(help="A policy's checkpoint id.")],
    other: Annotated[str, typer.Argument(help="Another's.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Compare the real success of two policies, and say how many episodes are missing to tell them apart."""
    from daemon.console_look import show_difference

    answer = client_of(url, token_file).read(f"success-rates/difference/{one}/{other}")
    tell(answer, as_json, lambda: show_difference(answer))
