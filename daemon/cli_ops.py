"""What operators do: doctor, backup, restore, gc, and the database's migrations."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli_json import aside
from daemon.cli_rest import AsJson, tell

database_commands = typer.Typer(name="db", help="The database.", no_args_is_help=True)

MARKS = {"ok": "ok     ", "warning": "WARNING", "fault": "FAULT  "}


def doctor(
    as_json: AsJson = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read every checkpoint and compare digests.")
    ] = False,
) -> None:
    """Look the whole installation over. Exit status: 0 no fault (warnings may be), 1 a fault."""
    from daemon.operations.doctor import examine
    from daemon.operations.findings import exit_status
    from daemon.settings import load_settings
    from daemon.stores import utc_now

    findings = []
    for finding in examine(load_settings(), deep=deep, now=utc_now):
        findings.append(finding)
        if not as_json:
            remedy = f"\n        {finding.remedy}" if finding.remedy else ""
            typer.echo(f"{MARKS[finding.verdict]} {finding.check}: {finding.found}{remedy}")
    if as_json:
        verdict = "fault" if exit_status(findings) else "ok"
        typer.echo(
            json.dumps({"verdict": verdict, "findings": [asdict(each) for each in findings]}, indent=2)
        )
    raise typer.Exit(exit_status(findings))


def backup(
    folder: Annotated[
        Path, typer.Argument(help="Holds all backups of one store; what is there is not copied.")
    ],
    keep: Annotated[int, typer.Option(min=1, help="So many backups stay; older ones are removed.")] = 14,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read what is there again; replace damage.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy rows, episodes and checkpoints, also while the daemon runs. Exit status 1: not all was whole."""
    from daemon.operations.backup import back_up
    from daemon.progress_bar import Bars
    from daemon.settings import load_settings
    from daemon.stores import utc_now

    with Bars(shown=not as_json) as bars:
        report = partial(bars.share, "backup")
        done = back_up(load_settings(), folder, keep=keep, verify=verify, report=report, now=utc_now)
    said = (
        f"backup {done.name}: {done.rows} rows, {done.files} files, {done.total_bytes} bytes; "
        f"{done.copied_bytes} bytes were new"
    )
    typer.echo(json.dumps(asdict(done), indent=2) if as_json else said)
    for damaged in done.damaged:
        typer.echo(f"damaged in the store itself, not in the backup: {damaged}", err=True)
    raise typer.Exit(1 if done.damaged else 0)


def restore(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="What `backup` wrote to.")],
    name: Annotated[str | None, typer.Option(help="Which backup; the newest without it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup into an empty data directory and an empty database. Everything is verified before."""
    from daemon.operations.restore import restore as put_back
    from daemon.progress_bar import Bars
    from daemon.settings import load_settings
    from daemon.stores import utc_now

    settings = load_settings()
    with Bars(shown=not as_json) as bars:
        report = partial(bars.share, "restore")
        done = put_back(settings, folder, name=name, report=report, now=utc_now)
    files = len(done.blobs) + len(done.files)
    counts = {"name": done.name, "rows": done.rows, "files": files, "damaged": list(done.damaged)}
    said = f"backup {done.name} is in {settings.data_dir}: {done.rows} rows, {files} files"
    typer.echo(json.dumps(counts, indent=2) if as_json else said)
    for damaged in done.damaged:
        typer.echo(f"was damaged when the backup was made and is missing: {damaged}", err=True)


def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would go.")] = False,
    keep_iterations: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Checkpoints of so many newest iterations stay; else as GYMNASTD_ITERATIONS_KEPT says, "
            "and without both ten.",
        ),
    ] = None,
    grace_hours: Annotated[
        float, typer.Option(min=0.0, help="Between letting a file go and deleting it.")
    ] = 24.0,
    episodes_older_than_days: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Also let go of episodes; else as GYMNASTD_EPISODE_DAYS_KEPT says; by neither none goes.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let go of files that nobody needs, also while the daemon runs. Rows stay."""
    from daemon.operations.gc import collect_garbage, retention_of
    from daemon.progress_bar import Bars
    from daemon.settings import load_settings
    from daemon.stores import utc_now

    settings = load_settings()
    retention = retention_of(
        settings,
        iterations=keep_iterations,
        grace_s=3600 * grace_hours,
        episode_days=episodes_older_than_days,
    )
    with Bars(shown=not as_json) as bars:
        report = partial(bars.share, "gc")
        done = collect_garbage(settings, retention, dry_run=dry_run, report=report, now=utc_now)
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=2))
        return
    verb = "would be " if dry_run else ""
    for what, heap in done.heaps().items():
        typer.echo(f"{what} {verb}{'let go' if what.startswith('retired') else 'deleted'}: {heap}")


@database_commands.command("upgrade")
def upgrade_database(as_json: AsJson = False) -> None:
    """Bring the database to this release's tables; `serve` does so by itself."""
    from daemon.operations.migrating import revisions
    from daemon.settings import load_settings
    from daemon.stores import open_database

    settings = load_settings()
    database = open_database(settings)
    database.upgrade()
    database.dispose()
    found, newest = revisions(settings)
    tell_revisions(found, newest, as_json, said=f"database is at revision {found}")


@database_commands.command("downgrade")
def downgrade_database(
    revision: Annotated[str, typer.Argument(help="Such as 0004; what later revisions added is lost.")],
    yes: Annotated[bool, typer.Option("--yes", help="There is a backup; do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take the database back to an earlier release's tables, while no daemon runs."""
    from daemon.operations.migrating import downgrade, revisions
    from daemon.settings import load_settings

    if not yes:
        with aside(as_json):
            typer.confirm("What later revisions added is lost. Go on?", abort=True)
    settings = load_settings()
    found = downgrade(settings, revision)
    tell_revisions(found, revisions(settings)[1], as_json, said=f"database is at revision {found}")


@database_commands.command("current")
def current_revision(as_json: AsJson = False) -> None:
    """Say which revision the database is at, and which this release has."""
    from daemon.operations.migrating import revisions
    from daemon.settings import load_settings

    found, newest = revisions(load_settings())
    said = f"database is at revision {found or 'none'}, this release has {newest}"
    tell_revisions(found, newest, as_json, said=said)
    raise typer.Exit(0 if found == newest else 1)


def tell_revisions(found: str | None, newest: str, as_json: bool, *, said: str) -> None:
    """Where the database is and where this release's is; in words, what is said of it."""
    tell({"database": found, "release": newest}, as_json, lambda: typer.echo(said))
