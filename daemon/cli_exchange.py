"""`gymnastd export FORMAT DIR` and `gymnastd import FORMAT DIR`: the store and the formats of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from daemon.cli_rest import AsJson, tell

if TYPE_CHECKING:
    from daemon.exchange import Find
    from storage.interchange.exchange import Intake
    from storage.interchange.worldgym_clips import ImportReport
    from storage.interchange.writer import Counted

FORMATS = ("lerobot", "bridge-raw", "worldgym-clips", "rlds")

export_commands = typer.Typer(
    name="export", help="Write episodes in a format of others.", no_args_is_help=True
)

Target = Annotated[Path, typer.Argument(metavar="DIR", help="An empty folder, or one that is not there yet.")]
DatasetTarget = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="An empty folder, or one that is not there yet. What the same command began there and did not "
        "finish goes on.",
    ),
]
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
def export_lerobot(folder: DatasetTarget, query: Query = None, as_json: AsJson = False) -> None:
    """As a LeRobotDataset v3: parquet and mp4."""
    with needs("pyarrow"):
        from storage.interchange.lerobot_write import LeRobotWriter
    export_as(LeRobotWriter, folder, query, as_json=as_json)


@export_commands.command("bridge-raw")
def export_bridge_raw(folder: DatasetTarget, query: Query = None, as_json: AsJson = False) -> None:
    """As folders of raw BridgeData V2: JPEGs and pickles."""
    from storage.interchange.bridge_raw_write import BridgeRawWriter

    export_as(BridgeRawWriter, folder, query, as_json=as_json)


@export_commands.command("worldgym-clips")
def export_worldgym_clips(folder: DatasetTarget, query: Query = None, as_json: AsJson = False) -> None:
    """As clips that a WorldGym world model is trained on: mp4 and npz."""
    from storage.interchange.worldgym_exchange import WorldGymWriter

    export_as(WorldGymWriter, folder, query, as_json=as_json)


@export_commands.command("rlds")
def export_rlds(folder: DatasetTarget, query: Query = None, as_json: AsJson = False) -> None:
    """As an RLDS dataset that TFDS reads: TFRecord. TensorFlow is not needed."""
    from storage.interchange.rlds_write import RldsWriter

    export_as(RldsWriter, folder, query, as_json=as_json)


def import_lerobot(folder: Source, convention: Convention = None, as_json: AsJson = False) -> None:
    """Bring a LeRobotDataset v3 in. Twice adds nothing; what was broken off goes on."""
    with needs("pyarrow"):
        from storage.interchange.lerobot_read import find_lerobot
    import_as("lerobot", folder, partial(find_lerobot, convention=convention), as_json=as_json)


def import_bridge_raw(folder: Source, as_json: AsJson = False) -> None:
    """Bring folders of raw BridgeData V2 in; nothing in their pickles is run. Twice adds nothing."""
    from storage.interchange.bridge_raw_read import find_bridge_raw

    import_as("bridge-raw", folder, find_bridge_raw, as_json=as_json)


def import_rlds(folder: Source, convention: Convention = None, as_json: AsJson = False) -> None:
    """Bring an RLDS dataset in TFRecord files in. Twice adds nothing; what was broken off goes on."""
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
    from daemon.progress_bar import Bars
    from daemon.settings import load_settings
    from storage.interchange.seal import is_ours
    from storage.interchange.worldgym_exchange import find_worldgym

    if is_ours(folder):
        import_as("worldgym-clips", folder, find_worldgym, as_json=as_json)
        return
    with Bars(shown=not as_json) as bars:
        advance = partial(bars.count, "import worldgym-clips", unit="clips")
        report = import_clips(load_settings(), folder, advance=advance)
    tell_imported(report, as_json=as_json)


def export_as(make: Any, folder: Path, terms: list[str] | None, *, as_json: bool) -> None:
    """Write what answers, with a bar, and say how much it was."""
    from daemon.exchange import export_episodes
    from daemon.progress_bar import Bars
    from daemon.settings import load_settings
    from storage.interchange.exchange import Watch
    from storage.interchange.query import parse_query

    query = parse_query(terms or [])
    with Bars(shown=not as_json) as bars:
        watch = Watch(
            done=partial(bars.count, f"export {make.format}", unit="episodes"),
            checked=partial(bars.count, "check what is there", unit="episodes"),
            together=partial(bars.count, "put files together", unit="episodes"),
        )
        counted = export_episodes(load_settings(), folder, query=query, make=make, watch=watch)
    document = {**asdict(counted), "folder": str(folder), "manifest": str(folder / "manifest.json")}
    tell(document, as_json, lambda: typer.echo(exported(counted, folder)))


def exported(counted: Counted, folder: Path) -> str:
    """How much there is, and what was special about it."""
    said = f"{counted.episodes} episodes in {folder}, sealed by {folder / 'manifest.json'}"
    if counted.before:
        said += f"; {counted.before} of them were there already"
    if counted.later:
        said += f"; {counted.later} that came since it was begun are not among them"
    return said


def import_as(format_name: str, folder: Path, find: Find, *, as_json: bool) -> None:
    """Bring in what is new, with a bar, and say how much it was."""
    from daemon.exchange import import_episodes
    from daemon.progress_bar import Bars
    from daemon.settings import load_settings

    settings = load_settings()
    with Bars(shown=not as_json) as bars:
        advance = partial(bars.count, f"import {format_name}", unit="episodes")
        checked = partial(bars.count, "check digests", unit="files")
        report = import_episodes(
            settings, folder, format_name=format_name, find=find, advance=advance, checked=checked
        )
    tell_imported(report, as_json=as_json)


def tell_imported(report: ImportReport | Intake, *, as_json: bool) -> None:
    """How much there was, and how much of it was new."""
    said = f"{report.episodes} episodes, {report.frames} frames; {report.added} were new"
    tell(asdict(report), as_json, lambda: typer.echo(said))


@contextmanager
def needs(package: str, *, extra: str = "interchange") -> Iterator[None]:
    """Tell of a package that an optional extra would have brought, instead of a trace."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        from storage.interchange.errors import ExtraMissing

        raise ExtraMissing(package=package, extra=extra) from error
