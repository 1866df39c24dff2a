"""`gymnastd export FORMAT DIR` and `gymnastd import FORMAT DIR`: the store and the formats of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from daemon.cli_ops import AsJson
from daemon.cli_rest import tell

if TYPE_CHECKING:
    from daemon.exchange import Advance, Find
    from storage.interchange.exchange import Intake
    from storage.interchange.worldgym_clips import ImportReport

FORMATS = ("lerobot", "bridge-raw", "worldgym-clips", "rlds")

export_commands = typer.Typer(
    name="export", help="Write episodes in a format of others.", no_args_is_help=True
)

Target = Annotated[Path, typer.Argument(metavar="DIR", help="An empty folder, or one that is not there yet.")]
Query = Annotated[
    list[str] | None,
    typer.Option(
        help="KEY=VALUE of task, iteration, policy, station, success, origin, held_out, since, until; "
        "several in one text or one by one."
    ),
]
Source = Annotated[Path, typer.Argument(metavar="DIR", help="An export of gymnastd, or a dataset of others.")]
Convention = Annotated[
    Literal["bridge_v2"] | None,
    typer.Option(help="What the numbers of a dataset of others mean; without it such a dataset is refused."),
]


@export_commands.command("lerobot")
def export_lerobot(folder: Target, query: Query = None, as_json: AsJson = False) -> None:
    """As a LeRobotDataset v3: parquet and mp4."""
    with needs("pyarrow"):
        from storage.interchange.lerobot_write import LeRobotWriter
    export_as(LeRobotWriter, folder, query, as_json=as_json)


@export_commands.command("bridge-raw")
def export_bridge_raw(folder: Target, query: Query = None, as_json: AsJson = False) -> None:
    """As folders of raw BridgeData V2: JPEGs and pickles."""
    from storage.interchange.bridge_raw_write import BridgeRawWriter

    export_as(BridgeRawWriter, folder, query, as_json=as_json)


@export_commands.command("worldgym-clips")
def export_worldgym_clips(folder: Target, query: Query = None, as_json: AsJson = False) -> None:
    """As clips that a WorldGym world model is trained on: mp4 and npz."""
    from storage.interchange.worldgym_exchange import WorldGymWriter

    export_as(WorldGymWriter, folder, query, as_json=as_json)


@export_commands.command("rlds")
def export_rlds(folder: Target, query: Query = None, as_json: AsJson = False) -> None:
    """As an RLDS dataset that TFDS reads: TFRecord. TensorFlow is not needed."""
    from storage.interchange.rlds_write import RldsWriter

    export_as(RldsWriter, folder, query, as_json=as_json)


def import_lerobot(folder: Source, convention: Convention = None, as_json: AsJson = False) -> None:
    """Bring a LeRobotDataset v3 in. Twice adds nothing; what was broken off goes on."""
    from functools import partial

    with needs("pyarrow"):
        from storage.interchange.lerobot_read import find_lerobot
    import_as("lerobot", folder, partial(find_lerobot, convention=convention), as_json=as_json)


def import_bridge_raw(folder: Source, as_json: AsJson = False) -> None:
    """Bring folders of raw BridgeData V2 in; nothing in their pickles is run. Twice adds nothing."""
    from storage.interchange.bridge_raw_read import find_bridge_raw

    import_as("bridge-raw", folder, find_bridge_raw, as_json=as_json)


def import_rlds(folder: Source, convention: Convention = None, as_json: AsJson = False) -> None:
    """Bring an RLDS dataset in TFRecord files in. Twice adds nothing; what was broken off goes on."""
    from functools import partial

    from storage.interchange.rlds_read import find_rlds

    import_as("rlds", folder, partial(find_rlds, convention=convention), as_json=as_json)


def import_autoeval(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Holds runs as AutoEval publishes them, or its eval_data.")
    ],
    as_json: AsJson = False,
) -> None:
    """Bring AutoEval's published pickles in; nothing in them is run. Twice adds nothing."""
    from storage.interchange.autoeval_read import find_autoeval

    import_as("autoeval", folder, find_autoeval, as_json=as_json)


def import_worldgym_clips(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Holds train/ and test/ with pairs of .mp4 and .npz.")
    ],
    as_json: AsJson = False,
) -> None:
    """Bring real robot clips into the replay store; those in test/ are held out. Twice adds nothing."""
    from daemon.imports import import_clips
    from daemon.settings import load_settings
    from storage.interchange.seal import is_ours
    from storage.interchange.worldgym_exchange import find_worldgym

    if is_ours(folder):
        import_as("worldgym-clips", folder, find_worldgym, as_json=as_json)
        return
    report = import_clips(load_settings(), folder)
    tell_imported(report, as_json=as_json)


def export_as(make: Any, folder: Path, terms: list[str] | None, *, as_json: bool) -> None:
    """Write what answers, with a bar, and say how much it was."""
    from daemon.exchange import export_episodes
    from daemon.settings import load_settings
    from storage.interchange.query import parse_query

    query = parse_query(terms or [])
    with bar(f"export {make.format}") as advance:
        count = export_episodes(load_settings(), folder, query=query, make=make, advance=advance)
    seal = folder / "manifest.json"
    document = {"episodes": count, "folder": str(folder), "manifest": str(seal)}
    tell(document, as_json, lambda: typer.echo(f"{count} episodes in {folder}, sealed by {seal}"))


def import_as(format_name: str, folder: Path, find: Find, *, as_json: bool) -> None:
    """Bring in what is new, with a bar, and say how much it was."""
    from daemon.exchange import import_episodes
    from daemon.settings import load_settings

    settings = load_settings()
    with bar(f"import {format_name}") as advance:
        report = import_episodes(settings, folder, format_name=format_name, find=find, advance=advance)
    tell_imported(report, as_json=as_json)


def tell_imported(report: ImportReport | Intake, *, as_json: bool) -> None:
    """How much there was, and how much of it was new."""
    said = f"{report.episodes} episodes, {report.frames} frames; {report.added} were new"
    tell(asdict(report), as_json, lambda: typer.echo(said))


@contextmanager
def bar(what: str) -> Iterator[Advance]:
    """A progress bar with rate and remaining time, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=None, rate="")

        def advance(done: int, of: int | None) -> None:
            speed = progress.tasks[0].speed
            rate = f"{speed:.1f} episodes/s" if speed else ""
            progress.update(task, completed=done, total=of, rate=rate)

        yield advance


@contextmanager
def needs(package: str) -> Iterator[None]:
    """Tell of a package that an optional extra would have brought, instead of a trace."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        from storage.interchange.errors import ExtraMissing

        raise ExtraMissing(package=package, extra="interchange") from error
