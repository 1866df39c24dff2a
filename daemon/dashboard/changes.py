"""What changed since the iteration before of the same lineage, as tables of text: what was measured first."""

from collections.abc import Mapping, Sequence
from typing import Any

from daemon.dashboard import words
from daemon.time_left import NONE

Change = Mapping[str, Any]
Line = tuple[str, str, str]  # what, before, now
Table = tuple[str, Sequence[Line]]  # caption and lines


def tables_of(diff: Mapping[str, Any]) -> list[Table]:
    """The tables that have a line, as `daemon.iteration_diff` found them; the spec has one in any case."""
    tables = [
        ("What was measured", [_line(each["what"], each) for each in diff["measured"]]),
        ("Checkpoints", [_line(_checkpoint(each), each) for each in diff["checkpoints"]]),
        ("Spec", [_line(each["field"], each) for each in diff["spec"]]),
    ]
    for phase, own in diff["circumstances"].items():
        tables.append((f"Circumstances, {words.phase(phase)}", [_line(each["field"], each) for each in own]))
    return [(caption, lines) for caption, lines in tables if lines or caption == "Spec"]


def told(value: Any) -> str:
    """A value of either side: a rate with its interval, a checkpoint by its number, yes or no, a number."""
    if value is None:
        return NONE
    if isinstance(value, Mapping) and "wilson_low" in value:
        return f"{words.count(value)} ({words.interval(value)})"
    if isinstance(value, Mapping) and "sha256" in value:
        return f"number {value['number']} ({words.short(value['id'])})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return words.number(value) if isinstance(value, float) else str(value)


def _line(what: str, change: Change) -> Line:
    return what, told(change["from"]), told(change["to"])


def _checkpoint(change: Change) -> str:
    return f"{words.phase(change['phase'])}: {change['what']} {change['kind'].replace('_', ' ')}"
