"""Commands that need no running daemon: pretrain, import, finetune-world-model, demo."""

import signal
from pathlib import Path
from typing import Annotated, Literal

import typer

from daemon.cli_json import aside, tell_kept, tell_made
from daemon.cli_rest import AsJson
from daemon.exit_status import INTERRUPTED

AllLineages = Annotated[bool, typer.Option("--all-lineages", help="Also what other lineages have collected.")]

import_commands = typer.Typer(name="import", help="Bring recorded data in.", no_args_is_help=True)


def pretrain(
    out: Annotated[Path, typer.Option(help="Where the checkpoints and their card go.")],
    preset: Annotated[Literal["nano"], typer.Option(help="The size of the models.")] = "nano",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Make the base checkpoints from scratch in the simulated cell. Takes more than an hour on two cores."""
    from daemon.logs import configure_logging
    from daemon.pretrain.run import pretrain as make_base
    from daemon.progress_bar import Bars

    configure_logging("INFO")
    with aside(as_json), Bars() as bars:
        make_base(out=out, seed=seed, bars=bars)
    tell_kept(out / "card.json", as_json)


@import_commands.command("worldgym-checkpoint")
def worldgym_checkpoint(
    *,
    file: Annotated[Path, typer.Argument(help="A published checkpoint, ckpt_….pt.")],
    out: Annotated[Path, typer.Option(help="Gets config.json, safetensors and origin.json.")],
    rotary: Annotated[
        Literal["standard", "pixel"], typer.Option(help="pixel for the release trained on Bridge alone.")
    ] = "standard",
    autoencoder: Annotated[
        Path | None,
        typer.Option(help="Folder of Stable Diffusion 3's autoencoder; adds a whole world model."),
    ] = None,
    guidance: Annotated[
        float, typer.Option(help="3 for the release trained on Open-X, 1 for the one on Bridge alone.")
    ] = 1.0,
    horizon: Annotated[int, typer.Option(min=1, help="Frames that are denoised together.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Turn a WorldGym checkpoint into safetensors that diffusers can read; nothing in it is run."""
    from daemon.learning.world_model.worldgym import ORIGIN_FILE, import_worldgym, with_autoencoder

    whole = out / "world_model.safetensors"
    with aside(as_json):
        transformer = import_worldgym(file, out, rotary=rotary)
        typer.echo(f"{transformer.num_parameters() / 1e6:.2f} M parameters in {out}")
        if autoencoder is not None:
            world_model = with_autoencoder(transformer, autoencoder, guidance=guidance, horizon=horizon)
            world_model.save(whole, {"imported": str(file.name), "guidance": guidance, "horizon": horizon})
            typer.echo(f"a whole world model in {whole}")
    parts = {
        "parameters": transformer.num_parameters(),
        "world_model": None if autoencoder is None else str(whole),
    }
    tell_kept(out / ORIGIN_FILE, as_json, **parts)


def finetune_world_model(
    episodes: Annotated[
        Literal["imported", "collect", "base"], typer.Option(help="Episodes of this origin.")
    ] = "imported",
    updates: Annotated[int, typer.Option(min=1)] = 200,
    film: Annotated[
        Path | None, typer.Option(help="Gets a JPEG: a held-out episode real, imagined before and after.")
    ] = None,
    lineage: Annotated[str, typer.Option(help="Whose world model, and whose collected episodes.")] = "main",
    all_lineages: AllLineages = False,
    as_json: AsJson = False,
) -> None:
    """Finetune the world model on stored episodes and show the held-out error before and after."""
    from daemon.logs import configure_logging
    from daemon.redaction import secrets_of
    from daemon.settings import load_settings

    settings = load_settings()
    configure_logging("WARNING", secrets_of(settings))
    from daemon.offline import finetune_offline  # brings torch, so wrong settings are told before
    from daemon.progress_bar import Bars
    from storage.replay import EpisodeQuery

    query = EpisodeQuery(origin=episodes, lineage=None if all_lineages else lineage, unowned=True)
    with aside(as_json), Bars() as bars:
        row = finetune_offline(settings, query, lineage=lineage, updates=updates, bars=bars, film=film)
    tell_made(settings, row.id, as_json)


def sft(
    *,
    episodes: Annotated[
        Literal["collect", "imported", "base", "all"], typer.Option(help="Episodes of this origin.")
    ] = "collect",
    task: Annotated[list[str] | None, typer.Option(help="Only of this task; may be given again.")] = None,
    failures: Annotated[bool, typer.Option(help="Also what failed or was not judged.")] = False,
    keep_only: Annotated[bool, typer.Option(help="Store the policy and never try it.")] = False,
    policy: Annotated[
        str, typer.Option(help="Whose copy imitates: an id, champion, or newest, taught or not.")
    ] = "champion",
    updates: Annotated[int, typer.Option(min=1)] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Decisions of one update; fewer need less memory.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=1e-9, max=0.1)] = 1e-4,
    lora_rank: Annotated[
        int,
        typer.Option(min=0, help="Of the adapters that learn of a vision-language policy; 0: all learns."),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    lineage: Annotated[str, typer.Option(help="Whose champion, and whose collected episodes.")] = "main",
    all_lineages: AllLineages = False,
    as_json: AsJson = False,
) -> None:
    """Let a policy imitate stored successes; the next iteration tries what comes out of it."""
    from daemon.logs import configure_logging
    from daemon.redaction import secrets_of
    from daemon.settings import load_settings

    settings = load_settings()
    configure_logging("WARNING", secrets_of(settings))
    from daemon.learning.sft import SftConfig
    from daemon.offline_sft import Wanted, sft_offline
    from daemon.progress_bar import Bars

    origin = None if episodes == "all" else episodes
    wanted = Wanted(
        origin=origin,
        tasks=task or None,
        failures=failures,
        keep_only=keep_only,
        policy=policy,
        lora_rank=lora_rank,
        lineage=lineage,
        all_lineages=all_lineages,
    )
    config = SftConfig(updates=updates, batch=batch, lr=learning_rate, seed=seed)
    with aside(as_json), Bars() as bars:
        row = sft_offline(settings, wanted, config=config, bars=bars)
    tell_made(settings, row.id, as_json)


def demo(
    out: Annotated[Path, typer.Option(help="Gets summary.json and report.html.")] = Path("demo-output"),
    cell_seed: Annotated[int, typer.Option(min=0, help="Which cell; 0 is the one of pretraining.")] = 7,
    iterations: Annotated[int, typer.Option(min=1)] = 2,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    via: Annotated[
        Literal["station", "station-callback", "autoeval-emulator"],
        typer.Option(help="Who runs the episodes: the daemon, the station asking the policy, or AutoEval."),
    ] = "station",
    as_json: AsJson = False,
) -> None:
    """Run the whole loop on this machine: station, daemon, two iterations, a report."""
    from daemon.demo import run_demo
    from daemon.signals import interrupted_by

    with interrupted_by(signal.SIGTERM), interrupted_by(signal.SIGINT):
        with aside(as_json):
            code = run_demo(out=out, cell_seed=cell_seed, iterations=iterations, seed=seed, via=via)
        tell_kept(out / "summary.json", as_json)
        raise typer.Exit(code)
    raise typer.Exit(INTERRUPTED)
