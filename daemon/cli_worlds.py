"""`gymnastd what-if`: ask a running daemon what would happen from a picture; `what-ifs`: what was asked."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.cli_policy import read_token
from daemon.cli_rest import DEFAULT_URL, AsJson, TokenFile, Url
from daemon.errors import RequestInvalid

if TYPE_CHECKING:
    from daemon.progress_bar import Bars
    from daemon.world_client import WorldClient


def what_if(
    *,
    image: Annotated[Path | None, typer.Option(help="A PNG or JPEG to start from.")] = None,
    episode: Annotated[str | None, typer.Option(help="Or an episode, by its id.")] = None,
    step: Annotated[int, typer.Option(min=0, help="Which of the episode's observations.")] = 0,
    instruction: Annotated[
        str | None, typer.Option(help="What is asked of the robot; an episode has its own.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="A checkpoint's id, instead of the champion.")] = None,
    lineage: Annotated[str | None, typer.Option(help="Whose models; without it, main's.")] = None,
    rollouts: Annotated[int, typer.Option(min=1, max=16)] = 4,
    steps: Annotated[int, typer.Option(min=1, max=100)] = 40,
    temperature: Annotated[float, typer.Option(min=0.0, max=5.0, help="0 acts greedily.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    out: Annotated[Path | None, typer.Option(help="Gets strips and films; waits for them.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Imagine rollouts from a picture or an episode, and see how they are judged."""
    from daemon.progress_bar import Bars
    from daemon.world_client import WorldClient

    client = WorldClient(url, token=None if token_file is None else read_token(token_file))
    wish: dict[str, Any] = {"rollouts": rollouts, "steps": steps, "temperature": temperature, "seed": seed}
    given = {
        "image": encoded(image), "episode": episode, "instruction": instruction, "policy": policy,
        "lineage": lineage,
    }  # fmt: skip
    wish |= {name: value for name, value in given.items() if value is not None}
    wish |= {} if episode is None else {"step": step}
    record = client.ask_what_if(wish)
    if wait or out is not None:
        with Bars(shown=not as_json) as bars:
            record = client.wait_what_if(record["id"], on_record=partial(show_what_if, bars))
    if out is not None:
        fetch(client, record, out)
    if as_json:
        typer.echo(json.dumps(record, indent=2))
    elif record["result"] is None:
        typer.echo(f"what-if {record['id']} is {record['state']}")
    else:
        for line in lines_of(record):
            typer.echo(line)


def what_ifs(
    *,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many of the newest.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="`next_cursor` of the page before.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """List what was asked so far, newest first."""
    from daemon.cli_lab import say_all
    from daemon.console_lab import WHAT_IFS
    from daemon.world_client import WorldClient

    client = WorldClient(url, token=None if token_file is None else read_token(token_file))
    answer = client.what_ifs(limit=limit, cursor=cursor)
    say_all(answer, WHAT_IFS, as_json, empty="nobody has asked what would happen yet")


def show_what_if(bars: Bars, record: dict[str, Any]) -> None:
    """Bring its bar up to date; one that is over has none to wait for."""
    bars.share("what-if", record["progress"], record["text"] or record["state"])
    if record["finished_at"] is not None:
        bars.close("what-if")


def encoded(image: Path | None) -> str | None:
    """A file as the daemon takes it.

    Raises:
        RequestInvalid: it cannot be read.
    """
    import base64

    if image is None:
        return None
    try:
        return base64.b64encode(image.read_bytes()).decode()
    except OSError as failed:
        raise RequestInvalid(faults={str(image): str(failed)}) from None


def fetch(client: WorldClient, record: dict[str, Any], out: Path) -> None:
    """Write every rollout's strip and film into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    for place, own in enumerate(record["result"]["rollouts"]):
        (out / f"rollout-{place:02d}.jpg").write_bytes(client.picture(own["strip"]))
        (out / f"rollout-{place:02d}.mp4").write_bytes(client.picture(own["film"]))


def lines_of(record: dict[str, Any]) -> list[str]:
    """What came out, for people."""
    result, rate = record["result"], record["result"]["rate"]
    low, high = 100 * rate["wilson_low"], 100 * rate["wilson_high"]
    trusted = result["trusted_steps"]
    believed = (
        "nobody has measured how far it is trusted" if trusted is None else f"trusted to step {trusted}"
    )
    said = {True: "success", False: "failure", None: "not judged"}
    return [
        f"imagined {rate['successes']}/{rate['judged']} (95 % interval {low:.0f} to {high:.0f} %), "
        f"{rate['declined']} not judged; {result['steps']} steps, {believed}",
        *(
            f"  rollout {place}: {said[own['success']]}, probability {own['probability']}"
            for place, own in enumerate(result["rollouts"])
        ),
    ]
