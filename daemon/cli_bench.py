"""`gymnastd bench`: proofs that take long, resumable, with tables and figures."""

import json
import signal
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from daemon.cli_json import aside, tell_kept
from daemon.cli_rest import AsJson
from daemon.exit_status import INTERRUPTED

bench_commands = typer.Typer(
    name="bench", help="Long measurements with tables and figures.", no_args_is_help=True
)


@bench_commands.command("learning")
def learning(
    *,
    out: Annotated[
        Path, typer.Option(help="Gets the labs, learning.md, .json and .svg; goes on from there.")
    ],
    preset: Annotated[Literal["nano"], typer.Option(help="The size of the models.")] = "nano",
    iterations: Annotated[int, typer.Option(min=1)] = 6,
    cell_seed: Annotated[int, typer.Option(min=0, help="Which cell; 0 is the one of pretraining.")] = 7,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    spec: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON in the place of the preset's spec.")
    ] = None,
    control: Annotated[
        bool, typer.Option(help="Also run the loop without its world model learning.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the loop for K iterations and show real success per task and iteration, with intervals."""
    from daemon.learning_proof import PRESETS, Plan, prove_learning
    from daemon.signals import interrupted_by

    asked = PRESETS[preset] if spec is None else read_spec(spec)
    plan = Plan(iterations=iterations, cell_seed=cell_seed, seed=seed, spec=asked)
    with interrupted_by(signal.SIGTERM), interrupted_by(signal.SIGINT):
        with aside(as_json):
            code = prove_learning(plan, out=out, arms=("loop", "control") if control else ("loop",))
        tell_kept(out / "learning.json", as_json)
        raise typer.Exit(code)
    raise typer.Exit(INTERRUPTED)


def read_spec(file: Path) -> dict[str, Any]:
    """Fields of a spec that are not to have their defaults.

    Raises:
        SpecInvalid, SpecUnknownField: it is no spec.
    """
    from daemon.errors import SpecInvalid
    from daemon.spec import parse_spec

    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise SpecInvalid(faults={str(file): f"not JSON: {error}"}) from error
    parse_spec(found)
    return dict(found)
