"""`gymnastd station check`: go through a robot's bring-up list and leave a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from daemon.cli_json import aside, tell_kept
from daemon.cli_rest import AsJson

if TYPE_CHECKING:
    from robot_bridge.check.verdicts import CheckReport


def check(  # noqa: PLR0917 - a command's options are its arguments
    driver: Annotated[
        Literal["sim", "widowx-envs", "manipulator-gym"],
        typer.Option(help="The package that speaks to the arm; sim is a simulated cell."),
    ] = "sim",
    sim: Annotated[bool, typer.Option("--sim", help="The same as --driver sim.")] = False,
    cell_seed: Annotated[int, typer.Option(min=0, help="Which simulated cell; 0 is the nominal one.")] = 0,
    address: Annotated[str | None, typer.Option(help="host:port of the package's server.")] = None,
    tasks: Annotated[
        Path | None, typer.Option(help="JSON file of the lab's own tasks; AutoEval's without it.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task whose box and home are used.")] = None,
    out: Annotated[Path, typer.Option(help="Gets check.json and check.md.")] = Path("station-check"),
    yes: Annotated[bool, typer.Option("--yes", help="Move without asking; stand at the arm.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Move nothing; look only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a robot before it works: limits, motors, camera, small slow motions, rotation, stop, park.

    Nothing moves before somebody agrees. Exit status: 0 all is well, 1 something failed, 2 nobody agreed to
    motion.
    """
    import time

    from daemon.logs import configure_logging
    from robot_bridge.check.bring_up import CheckPlan, run_check
    from robot_bridge.drivers.opening import open_driver

    if sim and driver != "sim":
        raise typer.BadParameter(f"--sim and --driver {driver} exclude each other")
    configure_logging("WARNING")

    opened = open_driver(driver, cell_seed=cell_seed, address=address, tasks=tasks)
    try:
        with aside(as_json):
            report = run_check(
                opened,
                clock=time.monotonic,
                ask=agree if yes else typer.confirm,
                report=typer.echo,
                plan=CheckPlan(dry_run=dry_run, task_id=task),
            )
    finally:
        opened.close()
    raise typer.Exit(told(report, out, as_json))


def told(report: "CheckReport", out: Path, as_json: bool) -> int:
    """Leave the report, say where, and give the exit status."""
    document, text = report.write(out)
    failed = ", ".join(item.name for item in report.failed)
    with aside(as_json):
        typer.echo(f"{'failed: ' + failed if failed else 'nothing failed'}; the report is {text}")
    tell_kept(document, as_json)
    return report.exit_status


def agree(question: str) -> bool:
    """The answer of somebody who said --yes."""
    typer.echo(f"{question} [--yes]")
    return True
