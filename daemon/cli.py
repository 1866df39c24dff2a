"""`gymnastd`: one command for everything. Reading its help imports no torch; commands import what they need.

The processes of the daemon are here; the REST clients are in `cli_rest.py`, what works without a daemon in
`cli_offline.py`, what operators do in `cli_ops.py`.
"""

import gc
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from daemon import (
    cli_autoeval,
    cli_bench,
    cli_control,
    cli_exchange,
    cli_hub,
    cli_lab,
    cli_ledger,
    cli_look,
    cli_manifest,
    cli_offline,
    cli_ops,
    cli_pictures,
    cli_policy,
    cli_rest,
    cli_schedule,
    cli_station,
    cli_token,
    cli_watch,
    cli_worlds,
    exit_status,
)

app = typer.Typer(
    name="gymnastd",
    help="Collect on the robot, finetune the world model, improve the policy inside it: night after night.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help is plain text: rich would take longer to load than all the rest
)
app.add_typer(cli_ops.database_commands)
app.add_typer(cli_exchange.export_commands)
app.add_typer(cli_offline.import_commands)
for import_command in (
    cli_exchange.import_worldgym_clips,
    cli_exchange.import_lerobot,
    cli_exchange.import_bridge_raw,
    cli_exchange.import_rlds,
    cli_exchange.import_autoeval,
):
    name = import_command.__name__.removeprefix("import_").replace("_", "-")
    cli_offline.import_commands.command(name)(import_command)
cli_exchange.export_commands.command("tensorboard")(cli_hub.export_tensorboard)
cli_exchange.export_commands.command("wandb")(cli_hub.export_wandb)
cli_exchange.export_commands.command("checkpoint")(cli_hub.export_checkpoint)
cli_offline.import_commands.command("checkpoint")(cli_hub.import_checkpoint)
cli_offline.import_commands.command("vlm-policy")(cli_hub.import_vlm_policy)
app.add_typer(cli_bench.bench_commands)
app.add_typer(cli_station.station_commands)
app.add_typer(cli_token.token_commands)
app.add_typer(cli_schedule.schedule_commands)
app.add_typer(cli_schedule.hours_commands)
app.add_typer(cli_pictures.start_image_commands)
app.command("clear-estop")(cli_station.clear_estop)
app.command()(cli_policy.policy_server)
app.command()(cli_worlds.what_if)
app.command()(cli_worlds.what_ifs)
app.command()(cli_pictures.snapshot)
for operation in (cli_ops.doctor, cli_ops.backup, cli_ops.restore, cli_ops.gc):
    app.command()(operation)
app.command()(cli_autoeval.autoeval_emulator)
for rest_command in (cli_rest.iterate, cli_rest.status, cli_rest.success_rates, cli_ledger.ledger):
    app.command()(rest_command)
for control_command in (
    cli_control.pause,
    cli_control.resume,
    cli_control.cancel,
    cli_control.retry,
    cli_control.skip,
    cli_control.estop,
):
    app.command()(control_command)
for manifest_command in (cli_manifest.manifest, cli_manifest.diff, cli_manifest.rerun):
    app.command()(manifest_command)
for watch_command in (cli_watch.watch, cli_watch.events, cli_watch.logs, cli_watch.label, cli_watch.note):
    app.command()(watch_command)
for look_command in (
    cli_look.episodes,
    cli_look.labels,
    cli_look.notes,
    cli_look.video,
    cli_look.film_strip,
    cli_look.checkpoints,
    cli_look.trust,
    cli_look.curves,
    cli_look.alarms,
    cli_look.compare,
):
    app.command()(look_command)
for lab_command in (
    cli_lab.episode,
    cli_lab.checkpoint,
    cli_lab.policies,
    cli_lab.promote,
    cli_lab.rollback,
    cli_lab.judges,
    cli_lab.stations,
    cli_lab.tasks,
    cli_lab.audit,
    cli_lab.metrics,
):
    app.command()(lab_command)
for offline_command in (
    cli_offline.pretrain,
    cli_offline.finetune_world_model,
    cli_offline.sft,
    cli_offline.demo,
):
    app.command()(offline_command)

Announce = Annotated[
    Path | None, typer.Option(help="Write the address to this file once requests are answered.")
]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")]


def main() -> None:
    """Run the command line. What was refused or failed becomes one sentence and exit status 1, no trace."""
    try:
        app()
    except (*exit_status.ours(), *exit_status.of_the_machine()) as error:
        typer.echo(exit_status.sentence(error), err=True)
        sys.exit(exit_status.FAILED)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind to.")] = None,
    port: Port = None,
    data_dir: Annotated[Path | None, typer.Option(help="Blobs, checkpoints, SQLite file.")] = None,
    announce: Announce = None,
) -> None:
    """Run the daemon: REST API, iterations, worker processes. Settings are GYMNASTD_ variables."""
    gc.disable()  # what is imported stays: looking through it again and again takes a fifth of the start
    from daemon.app import serve as serve_daemon
    from daemon.logs import configure_logging
    from daemon.redaction import secrets_of
    from daemon.settings import load_settings

    gc.enable()
    gc.freeze()  # and no answer waits until a million old objects have been looked through
    settings = load_settings(host=host, port=port, data_dir=data_dir)
    configure_logging(settings.log_level, secrets_of(settings), form=settings.log_format)
    serve_daemon(settings, announce=lambda url: announced(f"gymnastd serves {url}", url, announce))


@app.command()
def worker(name: Annotated[str | None, typer.Option(help="Shown in phase runs.")] = None) -> None:
    """Run phases of iterations, as `serve` lets its own workers do."""
    from daemon.settings import load_settings
    from daemon.supervisor import thread_environment

    os.environ.update(thread_environment(load_settings().threads_per_worker))  # torch reads it when imported
    from daemon.worker import main as work

    raise typer.Exit(work([] if name is None else ["--name", name]))


def announced(sentence: str, url: str, file: Path | None) -> None:
    """Tell people, and whoever waits for the file, where a server answers."""
    if file is not None:
        unfinished = file.with_name(file.name + ".new")
        unfinished.write_text(url + "\n", encoding="utf-8")
        unfinished.replace(file)
    typer.echo(sentence)


if __name__ == "__main__":
    main()
