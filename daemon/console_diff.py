"""What differs between two iterations, as tables on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Record = Mapping[str, Any]

SHORT_ID = 8  # characters of an id or digest that people compare by eye


def show_diff(diff: Record, *, console: Console | None = None) -> None:
    """Print a table per kind of difference; kinds without one are not shown."""
    console = console or Console()
    heading = (f"iteration {diff['from']}", f"iteration {diff['to']}")
    for title, rows in (
        ("spec", [row(change["field"], change) for change in diff["spec"]]),
        ("circumstances", circumstance_rows(diff["circumstances"])),
        ("checkpoints", checkpoint_rows(diff["checkpoints"])),
        ("measured", [row(each["what"], each) for each in diff["measured"]]),
    ):
        if rows:
            table = Table("", *heading, title=title, title_justify="left")
            for each in rows:
                table.add_row(*each)
            console.print(table)
    if diff["data"]:
        table = Table("", "added", "removed", "relabelled", "in both", title="episodes read")
        for phase, own in diff["data"].items():
            counts = (str(own[name]["count"]) for name in ("added", "removed", "relabelled"))
            table.add_row(phase, *counts, str(own["kept"]))
        console.print(table)


def circumstance_rows(by_phase: Mapping[str, Sequence[Record]]) -> list[tuple[str, str, str]]:
    return [row(f"{phase}: {each['field']}", each) for phase, own in by_phase.items() for each in own]


def checkpoint_rows(changed: Sequence[Record]) -> list[tuple[str, str, str]]:
    return [row(f"{each['phase']} {each['what']} {each['kind']}", each) for each in changed]


def row(name: str, change: Record) -> tuple[str, str, str]:
    """A named pair, ready to be shown."""
    return name, told(change["from"]), told(change["to"])


def told(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "–"
    if isinstance(value, Mapping) and "wilson_low" in value:
        low, high = 100 * value["wilson_low"], 100 * value["wilson_high"]
        return f"{value['successes']}/{value['episodes']} [{low:.0f} to {high:.0f} %]"
    if isinstance(value, Mapping) and "sha256" in value:
        return f"number {value['number']} ({value['id'][:SHORT_ID]})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
