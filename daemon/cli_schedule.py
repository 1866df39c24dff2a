"""`gymnastd schedule` and `gymnastd hours`: when iterations are asked for, and when robots may move."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.cli_rest import DEFAULT_URL, AsJson, TokenFile, Url, client_of, read_spec, tell

if TYPE_CHECKING:
    from daemon.client import DaemonClient

schedule_commands = typer.Typer(
    name="schedule", help="Iterations that are asked for again and again.", no_args_is_help=True
)
hours_commands = typer.Typer(name="hours", help="When a station's robot may move.", no_args_is_help=True)

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
RUN = r"[a-z]{3}(?:-[a-z]{3})?"  # mon, or mon-fri
WINDOW = re.compile(rf"(?:(?P<days>{RUN}(?:,{RUN})*) )?(?P<begins>\d\d:\d\d)-(?P<ends>\d\d:\d\d)")

Name = Annotated[str, typer.Argument(help="The schedule's name.")]
Station = Annotated[str, typer.Argument(help="The station's id.")]
Timezone = Annotated[str, typer.Option(help="Of the times, like Europe/Berlin.")]
WINDOW_HELP = 'Like "mon-fri 20:00-06:00"; may be repeated.'


@schedule_commands.command("add")
def add(
    name: Name,
    *,
    cron: Annotated[str | None, typer.Option(help='Five fields, like "0 20 * * mon-fri".')] = None,
    timezone: Timezone = "UTC",
    every: Annotated[float | None, typer.Option(min=1, help="Seconds.")] = None,
    after_previous: Annotated[bool, typer.Option("--after-previous", help="One after the other.")] = False,
    pause: Annotated[float, typer.Option(min=0, help="Seconds between them.")] = 0.0,
    spec: Annotated[Path | None, typer.Option(help="A JSON file with the iterations' spec.")] = None,
    until: Annotated[
        str | None, typer.Option(help="Nothing is due after it, like 2026-12-31T06:00Z.")
    ] = None,
    max_runs: Annotated[int | None, typer.Option(min=1, help="Iterations in all.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Ask for iterations at times (--cron), in a beat (--every) or one after the other (--after-previous)."""
    choices: list[dict[str, Any]] = []
    if cron is not None:
        choices.append({"kind": "cron", "expression": cron, "timezone": timezone})
    if every is not None:
        choices.append({"kind": "interval", "seconds": every})
    if after_previous:
        choices.append({"kind": "after_previous", "pause_s": pause})
    if len(choices) != 1:
        raise typer.BadParameter("give one of --cron, --every and --after-previous")
    wish = {
        "name": name,
        "trigger": choices[0],
        "spec": read_spec(spec),
        "ends_at": until,
        "max_runs": max_runs,
    }
    show(client_of(url, token_file).add_schedule(wish), as_json)


@schedule_commands.command("list")
def list_all(as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None) -> None:
    """List all schedules, each with its next time."""
    answer = client_of(url, token_file).schedules()
    tell(answer, as_json, lambda: _list(answer["items"]))


def _list(items: list[dict[str, Any]]) -> None:
    for schedule in items:
        typer.echo(f"{schedule['name']}\t{in_words(schedule['trigger'])}\t{next_time(schedule)}")
    if not items:
        typer.echo("there is no schedule yet")


@schedule_commands.command("show")
def show_one(
    name: Name, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show a schedule, what it did last and when it is due next."""
    show(named(client_of(url, token_file), name), as_json)


@schedule_commands.command("pause")
def pause_schedule(
    name: Name, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Let it ask for nothing until it is resumed; a running iteration goes on."""
    client = client_of(url, token_file)
    show(client.change_schedule(named(client, name), enabled=False), as_json)


@schedule_commands.command("resume")
def resume_schedule(
    name: Name, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Let a paused schedule go on; what it missed is not made up for."""
    client = client_of(url, token_file)
    show(client.change_schedule(named(client, name), enabled=True), as_json)


@schedule_commands.command("run-now")
def run_schedule(
    name: Name, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Ask for one iteration besides its times."""
    client = client_of(url, token_file)
    record = client.run_schedule_now(named(client, name)["id"])
    tell(record, as_json, lambda: typer.echo(f"iteration {record['number']} is {record['state']}"))


@schedule_commands.command("remove")
def remove_schedule(
    name: Name, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Forget a schedule; its iterations stay."""
    client = client_of(url, token_file)
    schedule_id = named(client, name)["id"]
    client.remove_schedule(schedule_id)
    document = {"id": schedule_id, "name": name, "removed": True}
    tell(document, as_json, lambda: typer.echo(f"schedule {name} is removed"))


@hours_commands.command("set")
def set_hours(
    station: Station,
    *,
    open_: Annotated[list[str] | None, typer.Option("--open", help=WINDOW_HELP)] = None,
    quiet: Annotated[list[str] | None, typer.Option(help=WINDOW_HELP)] = None,
    timezone: Timezone = "UTC",
    minutes_per_hour: Annotated[float | None, typer.Option(help="Movement in any sixty minutes.")] = None,
    rest_after: Annotated[float | None, typer.Option(help="Minutes of movement before a rest.")] = None,
    rest: Annotated[float | None, typer.Option(help="Minutes of that rest.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """Set when a robot may move (--open), may not (--quiet), and how much; replaces what was set before."""
    if (rest_after is None) != (rest is None):
        raise typer.BadParameter("--rest-after and --rest go together")
    hours = {
        "timezone": timezone,
        "open": [window(text) for text in open_ or ()],
        "quiet": [window(text) for text in quiet or ()],
        "minutes_per_hour": minutes_per_hour,
        "rest": None if rest is None else {"after_minutes": rest_after, "minutes": rest},
    }
    show_hours(client_of(url, token_file).set_hours(station, hours), as_json)


@hours_commands.command("show")
def show_station_hours(
    station: Station, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Show when a robot may move, and whether it may now."""
    show_hours(client_of(url, token_file).hours(station), as_json)


@hours_commands.command("clear")
def clear_hours(
    station: Station, as_json: AsJson = False, url: Url = DEFAULT_URL, token_file: TokenFile = None
) -> None:
    """Let a robot move at any time."""
    client_of(url, token_file).remove_hours(station)
    document = {"station": station, "removed": True}
    tell(document, as_json, lambda: typer.echo(f"{station} may move at any time"))


def named(client: "DaemonClient", name: str) -> dict[str, Any]:
    """The schedule of a name.

    Raises:
        PageNotFound: there is none.
    """
    from daemon.errors import PageNotFound

    for schedule in client.schedules()["items"]:
        if schedule["name"] == name:
            return dict(schedule)
    raise PageNotFound(what="schedule", key=name)


def window(text: str) -> dict[str, Any]:
    """A weekly window as it is written on the command line.

    Raises:
        typer.BadParameter: it is none.
    """
    found = WINDOW.fullmatch(text.strip().lower())
    if found is None:
        raise typer.BadParameter(f'{text!r} is no window; write it like "mon-fri 20:00-06:00"')
    days = [day for item in (found["days"] or "mon-sun").split(",") for day in _days(item)]
    return {"days": list(dict.fromkeys(days)), "begins": found["begins"], "ends": found["ends"]}


def _days(item: str) -> list[str]:
    first, _, last = item.partition("-")
    last = last or first
    if first not in DAYS or last not in DAYS:
        raise typer.BadParameter(f"{item!r} names no days; write them like mon-fri or sat,sun")
    count = (DAYS.index(last) - DAYS.index(first)) % 7 + 1
    return [DAYS[(DAYS.index(first) + step) % 7] for step in range(count)]


def show(schedule: dict[str, Any], as_json: bool) -> None:
    """A schedule, as JSON or in words."""
    tell(schedule, as_json, lambda: _show(schedule))


def _show(schedule: dict[str, Any]) -> None:
    limits = [f"until {schedule['ends_at']}"] if schedule["ends_at"] else []
    limits += [f"{schedule['runs']} of {schedule['max_runs']} runs"] if schedule["max_runs"] else []
    typer.echo(f"schedule {schedule['name']}: {', '.join([in_words(schedule['trigger']), *limits])}")
    for at in schedule["next_runs"]:
        typer.echo(f"  due {at}")
    if not schedule["next_runs"]:
        typer.echo(f"  {next_time(schedule)}")
    last = schedule["last_result"]
    if last is not None:
        which = f" iteration {last['iteration']}" if last["outcome"] == "requested" else ""
        reason = f": {last['reason']}" if last["reason"] else ""
        typer.echo(f"  last: {last['outcome']}{which} at {last['at']}{reason}")


def in_words(trigger: dict[str, Any]) -> str:
    """A trigger as people say it."""
    if trigger["kind"] == "cron":
        return f"cron {trigger['expression']} {trigger['timezone']}"
    if trigger["kind"] == "interval":
        return f"every {trigger['seconds']:g} s"
    return f"after the previous one, {trigger['pause_s']:g} s later"


def next_time(schedule: dict[str, Any]) -> str:
    """When a schedule is due next, or why that is not known."""
    if not schedule["enabled"]:
        return "paused"
    return f"next {schedule['next_run_at']}" if schedule["next_run_at"] else "waits for its last iteration"


def show_hours(record: dict[str, Any], as_json: bool) -> None:
    """The hours of a station, as JSON or in words."""
    tell(record, as_json, lambda: _show_hours(record))


def _show_hours(record: dict[str, Any]) -> None:
    hours = record["hours"]
    typer.echo(f"station {record['station']}, times of {hours['timezone']}")
    for word in ("open", "quiet"):
        for each in hours[word]:
            typer.echo(f"  {word} {','.join(each['days'])} {each['begins']}-{each['ends']}")
    if hours["minutes_per_hour"] is not None:
        typer.echo(f"  moves {hours['minutes_per_hour']:g} minutes of any sixty")
    if hours["rest"] is not None:
        rest = hours["rest"]
        typer.echo(f"  rests {rest['minutes']:g} minutes after {rest['after_minutes']:g} minutes of movement")
    typer.echo(f"  now: {record['waiting_for'] or 'it may move'}")
