"""`gymnastd autoeval-emulator`: AutoEval's job API and dataset on this machine, over simulated cells."""

import signal
from pathlib import Path
from typing import Annotated

import typer


def autoeval_emulator(
    root: Annotated[Path, typer.Option(help="Database, admin key and recordings.")] = Path("autoeval"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    cell_seed: Annotated[int, typer.Option(min=0, help="0 is the nominal cell, others differ.")] = 0,
    lifelike: Annotated[bool, typer.Option("--lifelike", help="As slow as the real AutoEval.")] = False,
    quirk: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, such as classifier_noise=0.1; may be repeated.")
    ] = None,
    announce: Annotated[
        Path | None, typer.Option(help="Write the address to this file once requests are answered.")
    ] = None,
) -> None:
    """Emulate AutoEval with its quirks on loopback: try an adapter here before a robot is involved."""
    from daemon.cli import announced
    from daemon.logs import configure_logging
    from daemon.signals import interrupted_by
    from robot_bridge.autoeval.emulator.quirks import Quirks, with_texts
    from robot_bridge.autoeval.emulator.serve import serve_emulator

    quirks = with_texts(Quirks.lifelike() if lifelike else Quirks(), quirk or [])
    configure_logging("INFO")
    with interrupted_by(signal.SIGTERM):
        serve_emulator(
            root,
            quirks=quirks,
            cell_seed=cell_seed,
            port=port,
            announce=lambda url: announced(f"autoeval emulator serves {url}", url, announce),
        )
