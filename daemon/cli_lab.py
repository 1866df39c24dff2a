"""Commands about what a lab has: episodes, checkpoints, policies, judges, stations, tasks; who did what."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.cli_rest import DEFAULT_URL, AsJson, OfLineage, TokenFile, Url, client_of, tell

if TYPE_CHECKING:
    from daemon.console_look import Columns

Limit = Annotated[int, typer.Option(min=1, max=500, help="How many of the newest.")]
Cursor = Annotated[str | None, typer.Option(help="`next_cursor` of the page before.")]
Episode = Annotated[str, typer.Argument(help="The episode's id.")]
Checkpoint = Annotated[str, typer.Argument(help="The checkpoint's id.")]
OnePolicy = Annotated[str | None, typer.Argument(help="Only this one, by its checkpoint's id.")]
OneJudge = Annotated[str | None, typer.Argument(help="Only this one, by its checkpoint's id.")]
OneStation = Annotated[str | None, typer.Argument(help="Only this one.")]
OneTask = Annotated[str | None, typer.Argument(help="Only this one.")]
Policy = Annotated[str, typer.Argument(help="The policy's checkpoint id.")]
WhoseChampion = Annotated[
    str | None, typer.Option("--lineage", help="Whose champion; the policy's own lineage where none.")
]
Reason = Annotated[str, typer.Option(help="Why, for those who read the audit log.")]
Key = Annotated[str | None, typer.Option(help="Idempotency key: with the same key it is done once.")]


def episode(
    episode: Episode, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show one episode, and the notes on it."""
    from daemon.console_look import EPISODES, show_notes

    client = client_of(url, token_file)
    record = client.episode(episode)
    say_one(record, EPISODES, as_json)
    if record["notes"] and not as_json:
        show_notes(client.notes(episode)["items"])


def checkpoint(
    checkpoint: Checkpoint, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show one checkpoint of any kind."""
    from daemon.console_look import CHECKPOINTS

    say_one(client_of(url, token_file).checkpoint(checkpoint), CHECKPOINTS, as_json)


def policies(
    policy: OnePolicy = None,
    *,
    lineage: OfLineage = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """List policies, newest first, and whose champion each is; or show one."""
    from daemon.console_lab import POLICIES

    client = client_of(url, token_file)
    if policy is not None:
        say_one(client.policy(policy), POLICIES, as_json)
        return
    answer = client.policies(lineage=lineage, limit=limit, cursor=cursor)
    say_all(answer, POLICIES, as_json, empty="there is no policy yet")


def promote(
    policy: Policy,
    *,
    lineage: WhoseChampion = None,
    reason: Reason = "",
    key: Key = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Make a policy the champion without a trial; no later measurement rolls it back by itself."""
    wish = {"lineage": lineage, "reason": reason, "idempotency_key": key}
    record = client_of(url, token_file).promote(policy, **wish)
    tell(record, as_json, lambda: typer.echo(champion_now(record)))


def rollback(
    policy: Policy,
    *,
    lineage: WhoseChampion = None,
    reason: Reason = "",
    key: Key = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Put the policy whose place this champion took back into it."""
    wish = {"lineage": lineage, "reason": reason, "idempotency_key": key}
    record = client_of(url, token_file).roll_back(policy, **wish)
    tell(record, as_json, lambda: typer.echo(champion_now(record)))


def judges(
    judge: OneJudge = None,
    *,
    lineage: OfLineage = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """List trained judges, newest first, and which lineages ask each; or show one."""
    from daemon.console_lab import JUDGES

    client = client_of(url, token_file)
    if judge is not None:
        say_one(client.read(f"judges/{judge}"), JUDGES, as_json)
        return
    answer = client.judges(lineage=lineage, limit=limit, cursor=cursor)
    say_all(answer, JUDGES, as_json, empty="there is no trained judge yet")


def stations(
    station: OneStation = None, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show what stations cut and how long steps took, by their newest episodes, and when they were seen."""
    from daemon.console_lab import STATIONS

    client = client_of(url, token_file)
    if station is not None:
        say_one(client.read(f"stations/{station}"), STATIONS, as_json)
        return
    say_all(client.stations(), STATIONS, as_json, empty="no station has been seen yet")


def tasks(
    task: OneTask = None, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """List what robots were asked to do so far, or show one task."""
    from daemon.console_lab import TASKS

    client = client_of(url, token_file)
    if task is not None:
        say_one(client.read(f"tasks/{task}"), TASKS, as_json)
        return
    say_all(client.tasks(), TASKS, as_json, empty="no task has been registered yet")


def audit(
    *,
    actor: Annotated[str | None, typer.Option(help="What this one did only: a token's name.")] = None,
    subject: Annotated[str | None, typer.Option(help="Of this thing only, such as 'iteration 7'.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Show who did what to which thing, newest first. Needs a token with the scope admin."""
    from daemon.console_lab import ACTS

    answer = client_of(url, token_file).audit(actor=actor, subject=subject, limit=limit, cursor=cursor)
    say_all(answer, ACTS, as_json, empty="nobody has done anything yet")


def metrics(as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None) -> None:
    """Print the numbers that Prometheus reads, in its text format."""
    from daemon.exposition import read

    text = client_of(url, token_file).metrics()
    tell({"items": read(text)} if as_json else None, as_json, lambda: typer.echo(text, nl=False))


def champion_now(record: dict[str, Any]) -> str:
    """What a decision about the champion came to."""
    lineages = ", ".join(record["champion_of"]) or "no lineage now"
    return f"policy {record['number']} ({record['id']}) is the champion of {lineages}"


def say_one(record: dict[str, Any], columns: "Columns", as_json: bool) -> None:
    """One thing, as JSON or as the one line of its table."""
    from daemon.console_look import show_table

    tell(record, as_json, lambda: show_table([record], columns, empty=""))


def say_all(answer: dict[str, Any], columns: "Columns", as_json: bool, *, empty: str) -> None:
    """Several, as JSON or as a table; where more are left, the cursor that goes on."""
    from daemon.console_look import show_table

    tell(answer, as_json, lambda: show_table(answer["items"], columns, empty=empty))
    if not as_json and answer.get("next_cursor"):
        typer.echo(f"there are more: --cursor {answer['next_cursor']}")
