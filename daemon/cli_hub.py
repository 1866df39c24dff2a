"""`gymnastd export checkpoint`, `import checkpoint`, `export tensorboard`: what other tools read."""

from pathlib import Path
from typing import Annotated

import typer

from daemon.cli_exchange import Target, bar


def export_checkpoint(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A checkpoint's id, or champion.")],
    folder: Target,
    licence: Annotated[
        str, typer.Option(help="For the model card; what the data allows, you know.")
    ] = "apache-2.0",
    lineage: Annotated[str, typer.Option(help="Whose champion.")] = "main",
) -> None:
    """As a diffusers or transformers folder with a model card."""
    from daemon.hub.exchange import export_checkpoint as export
    from daemon.settings import load_settings

    row = export(load_settings(), wanted, folder, licence=licence, lineage=lineage)
    typer.echo(f"{row.kind} {row.number} ({row.id}) in {folder}")


def import_checkpoint(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What export checkpoint wrote.")],
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Go on from this world model or judge, untried.")
    ] = False,
    lineage: Annotated[str, typer.Option(help="For this lineage.")] = "main",
) -> None:
    """Bring a checkpoint in, checked by its digests. A policy is tried by the next iteration."""
    from daemon.hub.exchange import import_checkpoint as bring_in
    from daemon.settings import load_settings

    row, new = bring_in(load_settings(), folder, adopt=adopt, lineage=lineage)
    typer.echo(f"{row.kind} {row.number} ({row.id}) {'is new' if new else 'was there already'}")


def export_tensorboard(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="For tensorboard --logdir DIR.")],
) -> None:
    """The curves of all phase runs as TensorBoard's event files. Again brings them up to date."""
    from daemon.settings import load_settings
    from daemon.tensorboard import export_curves

    with bar("export tensorboard") as advance:
        count = export_curves(load_settings(), folder, advance=advance)
    typer.echo(f"curves of {count} phase runs in {folder}")
