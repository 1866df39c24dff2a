"""What `gymnastd watch` shows: a bar per running phase, and the last events below."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from daemon.console import moment
from daemon.event_stream import Told

LAST_EVENTS = 12
ENDS = ("phase_finished", "phase_failed", "phase_abandoned", "phase_skipped")

Record = Mapping[str, Any]
Run = tuple[int, str, int]  # iteration, phase, attempt


class View:
    """The picture, brought up to date by what is told."""

    def __init__(self, events: Iterable[Record] = ()) -> None:
        self._running: dict[Run, Record] = {}
        self._events: deque[Record] = deque(events, maxlen=LAST_EVENTS)

    def take(self, told: Told) -> None:
        document = told.document
        if told.position is None:
            self._running[document["iteration"], document["phase"], document["attempt"]] = document
            return
        self._events.append(document)
        if document["kind"] in ENDS:
            facts = document["facts"]
            self._running.pop((document["iteration"], facts["phase"], facts["attempt"]), None)

    def __rich__(self) -> Group:
        bars = Table.grid(padding=(0, 2))
        for own in self._running.values():
            bars.add_row(
                f"iteration {own['iteration']}",
                own["phase"] if own["attempt"] == 1 else f"{own['phase']} #{own['attempt']}",
                ProgressBar(total=1.0, completed=own["progress"], width=30),
                f"{100 * own['progress']:.0f} %",
                Text(own["text"]),
            )
        lines = [Text(event_line(event)) for event in self._events]
        return Group(bars if self._running else Text("no phase runs now"), Text(""), *lines)


def event_line(event: Record) -> str:
    """One event as one line."""
    return f"{moment(event['at'])}  {event['text']}"


def show(view: View, stream: Iterable[Told], *, console: Console | None = None) -> None:
    """Show the view and everything that is told, until the stream ends."""
    with Live(view, console=console, refresh_per_second=4) as live:
        for told in stream:
            view.take(told)
            live.update(view)
