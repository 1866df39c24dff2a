"""`gymnastd export checkpoint`, `tensorboard`, `wandb`, and `import checkpoint`: what other tools read."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli_exchange import Target, needs
from daemon.cli_json import aside, tell_made
from daemon.cli_rest import AsJson, tell


def export_checkpoint(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A checkpoint's id, or champion.")],
    folder: Target,
    licence: Annotated[
        str, typer.Option(help="For the model card; what the data allows, you know.")
    ] = "apache-2.0",
    lineage: Annotated[str, typer.Option(help="Whose champion.")] = "main",
    as_json: AsJson = False,
) -> None:
    """As a diffusers or transformers folder with a model card."""
    from daemon.hub.exchange import export_checkpoint as export
    from daemon.progress_bar import Bars
    from daemon.settings import load_settings

    settings = load_settings()
    with aside(as_json), Bars(shown=not as_json) as bars:
        report = partial(bars.share, "export checkpoint")
        row = export(settings, wanted, folder, licence=licence, lineage=lineage, report=report)
        typer.echo(f"{row.kind} {row.number} ({row.id}) in {folder}")
    tell_made(settings, row.id, as_json, folder=str(folder), licence=licence)


def import_checkpoint(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A folder that export checkpoint wrote, or a checkpoint file."),
    ],
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Go on from this world model or judge, untried.")
    ] = False,
    lineage: Annotated[str, typer.Option(help="For this lineage.")] = "main",
    as_json: AsJson = False,
) -> None:
    """Bring a checkpoint in, once it was read and checked. A policy is tried by the next iteration."""
    from daemon.hub.exchange import import_checkpoint as bring_in
    from daemon.progress_bar import Bars
    from daemon.settings import load_settings

    settings = load_settings()
    with aside(as_json), Bars(shown=not as_json) as bars:
        report = partial(bars.share, "import checkpoint")
        row, new = bring_in(settings, path, adopt=adopt, lineage=lineage, report=report)
        typer.echo(f"{row.kind} {row.number} ({row.id}) {'is new' if new else 'was there already'}")
    tell_made(settings, row.id, as_json, new=new)


def import_vlm_policy(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A transformers folder, in safetensors.")],
    image_size: Annotated[
        int, typer.Option(min=16, help="Pixels on a side that it sees; the world model's, or fewer.")
    ] = 64,
    chunk: Annotated[int, typer.Option(min=1, help="Actions that it decides on at once.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of its action head.")] = 0,
    lineage: Annotated[str, typer.Option(help="For this lineage.")] = "main",
    as_json: AsJson = False,
) -> None:
    """Make a policy of a vision-language model (SmolVLM, Qwen-VL, PaliGemma); its head knows nothing yet.

    Teach it with `gymnastd sft --policy ID`, or `--policy newest`; what comes out of that is tried.
    """
    from daemon.hub.exchange import import_backbone
    from daemon.settings import load_settings

    settings = load_settings()
    with aside(as_json):
        row, new = import_backbone(
            settings, folder, lineage=lineage, image_size=image_size, chunk=chunk, seed=seed
        )
        typer.echo(f"{row.kind} {row.number} ({row.id}) {'is new' if new else 'was there already'}")
    tell_made(settings, row.id, as_json, new=new)


def export_tensorboard(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="For tensorboard --logdir DIR.")],
    as_json: AsJson = False,
) -> None:
    """The curves of all phase runs as TensorBoard's event files. Again brings them up to date."""
    from daemon.curve_export import export_curves
    from daemon.progress_bar import Bars
    from daemon.settings import load_settings
    from daemon.tensorboard import EventFiles

    with Bars(shown=not as_json) as bars:
        advance = partial(bars.count, "export tensorboard", unit="runs")
        count = export_curves(load_settings(), EventFiles(folder), advance=advance)
    tell_curves(count, folder, as_json)


def export_wandb(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Gets W&B's files, and who is told of.")],
    project: Annotated[str, typer.Option(help="Of Weights & Biases.")] = "gymnastd",
    as_json: AsJson = False,
) -> None:
    """The curves of phase runs that are over as runs of Weights & Biases. Again adds what is new.

    W&B's own variables say where they go; with WANDB_MODE=offline nothing leaves this machine.
    """
    from daemon.curve_export import export_curves
    from daemon.progress_bar import Bars
    from daemon.redaction import redactor_of
    from daemon.settings import load_settings

    settings = load_settings()
    with needs("wandb", extra="wandb"):
        from daemon.wandb_runs import WandbRuns
    sink = WandbRuns(folder=folder, project=project, redactor=redactor_of(settings))
    with aside(as_json), Bars(shown=not as_json) as bars:  # W&B speaks of its own
        advance = partial(bars.count, "export wandb", unit="runs")
        count = export_curves(settings, sink, advance=advance)
    tell_curves(count, folder, as_json)


def tell_curves(count: int, folder: Path, as_json: bool) -> None:
    """How many phase runs' curves were taken, and where to."""
    document = {"phase_runs": count, "folder": str(folder)}
    tell(document, as_json, lambda: typer.echo(f"curves of {count} phase runs in {folder}"))
