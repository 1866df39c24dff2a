"""`gymnastd`: one command for everything. Reading its help imports no torch; commands import what they need.

The processes of the daemon are here; the REST clients are in `cli_rest.py`, what works without a daemon in
`cli_offline.py`.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from daemon import cli_offline, cli_rest
from daemon.errors import DaemonError
from robot_bridge.errors import RobotBridgeError
from storage.errors import StorageError

app = typer.Typer(
    name="gymnastd",
    help="Collect on the robot, finetune the world model, improve the policy inside it: night after night.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
database_commands = typer.Typer(name="db", help="The database.", no_args_is_help=True)
app.add_typer(database_commands)
app.add_typer(cli_offline.import_commands)
for rest_command in (cli_rest.iterate, cli_rest.status, cli_rest.success_rates):
    app.command()(rest_command)
for offline_command in (cli_offline.pretrain, cli_offline.finetune_world_model, cli_offline.demo):
    app.command()(offline_command)

Announce = Annotated[
    Path | None, typer.Option(help="Write the address to this file once requests are answered.")
]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")]


def main() -> None:
    """Run the command line. Errors of ours become one sentence and exit status 1, not a trace."""
    try:
        app()
    except (DaemonError, StorageError, RobotBridgeError) as error:
        typer.echo(f"gymnastd: {error} [{error.code}]", err=True)
        sys.exit(1)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind to.")] = None,
    port: Port = None,
    data_dir: Annotated[Path | None, typer.Option(help="Blobs, checkpoints, SQLite file.")] = None,
    announce: Announce = None,
) -> None:
    """Run the daemon: REST API, iterations, worker processes. Settings are GYMNASTD_ variables."""
    from daemon.app import serve as serve_daemon
    from daemon.logs import configure_logging
    from daemon.settings import load_settings

    settings = load_settings(host=host, port=port, data_dir=data_dir)
    configure_logging(settings.log_level)
    serve_daemon(settings, announce=lambda url: announced(f"gymnastd serves {url}", url, announce))


@app.command()
def worker(name: Annotated[str | None, typer.Option(help="Shown in phase runs.")] = None) -> None:
    """Run phases of iterations, as `serve` lets its own workers do."""
    from daemon.settings import load_settings
    from daemon.supervisor import thread_environment

    os.environ.update(thread_environment(load_settings().threads_per_worker))  # torch reads it when imported
    from daemon.worker import main as work

    raise typer.Exit(work([] if name is None else ["--name", name]))


@app.command()
def station(
    sim: Annotated[bool, typer.Option("--sim", help="A simulated WidowX cell; nothing else is offered yet.")],
    cell_seed: Annotated[int, typer.Option(min=0, help="0 is the nominal cell, others differ.")] = 0,
    spool: Annotated[Path, typer.Option(help="Where episodes wait until they are fetched.")] = Path("spool"),
    port: Port = 8401,
    announce: Announce = None,
) -> None:
    """Serve a robot cell over HTTP on loopback (robot-station/v1)."""
    from daemon.logs import configure_logging
    from daemon.signals import interrupted_by
    from robot_bridge.drivers.cell import cell_variant
    from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
    from robot_bridge.station.serve import Binding, serve_station

    if not sim:
        raise typer.BadParameter("only --sim is offered yet")
    configure_logging("INFO")
    with interrupted_by(signal.SIGTERM):
        serve_station(
            MujocoWidowX(cell=cell_variant(cell_seed), renderer="auto"),
            binding=Binding(port=port or 0),
            spool=spool,
            station_id=f"sim-widowx-{cell_seed}",
            announce=lambda url: announced(f"station serves {url}", url, announce),
        )


@app.command()
def clear_estop(
    spool: Annotated[Path, typer.Option(help="The spool of the station that was stopped.")] = Path("spool"),
) -> None:
    """Release an emergency stop, at the station itself, after a look at the arm. HTTP has no way to do it."""
    from robot_bridge.station.estop import EStopLatch

    latch = EStopLatch(spool)
    stopped = latch.read()
    if stopped is None:
        typer.echo(f"no emergency stop is latched in {spool}")
        return
    typer.confirm(
        f"stopped since {stopped['since']} ({stopped['reason']}). Is the arm free to move?", abort=True
    )
    latch.clear()
    typer.echo("cleared; the arm may move again")


@database_commands.command("upgrade")
def upgrade_database() -> None:
    """Bring the database to this release's tables; `serve` does so by itself."""
    from daemon.settings import load_settings
    from daemon.stores import open_database

    database = open_database(load_settings())
    database.upgrade()
    typer.echo(f"database is at revision {database.revision()}")
    database.dispose()


def announced(sentence: str, url: str, file: Path | None) -> None:
    """Tell people, and whoever waits for the file, where a server answers."""
    if file is not None:
        unfinished = file.with_name(file.name + ".new")
        unfinished.write_text(url + "\n", encoding="utf-8")
        unfinished.replace(file)
    typer.echo(sentence)


if __name__ == "__main__":
    main()
