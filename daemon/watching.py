"""What `gymnastd watch` shows: the robots, a bar per running phase, and the last events below.

For programs it is a document in a line for every change instead.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from daemon.console import moment
from daemon.errors import DaemonError
from daemon.event_stream import Told
from daemon.time_left import duration, time_left

LAST_EVENTS = 12
STATIONS_EVERY_S = 2.0  # between two looks at the robots
ENDS = ("phase_finished", "phase_failed", "phase_abandoned", "phase_skipped")

Record = Mapping[str, Any]
Run = tuple[int, str, int]  # iteration, phase, attempt


class View:
    """The picture, brought up to date by what is told."""

    def __init__(self, events: Iterable[Record] = (), *, now: Callable[[], datetime] | None = None) -> None:
        self.stations: Sequence[Record] | None = ()
        self._now = now or (lambda: datetime.now(UTC))
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
        robots = [Text(line) for station in self.stations or () for line in station_lines(station)]
        if self.stations is None:
            robots = [Text("the daemon does not say how the robots stand")]
        bars = Table.grid(padding=(0, 2))
        for own in self._running.values():
            bars.add_row(
                f"iteration {own['iteration']}",
                own["phase"] if own["attempt"] == 1 else f"{own['phase']} #{own['attempt']}",
                ProgressBar(total=1.0, completed=own["progress"], width=30),
                f"{100 * own['progress']:.0f} %",
                left_text(own, now=self._now()),
                Text(own["text"]),
            )
        lines = [Text(event_line(event)) for event in self._events]
        return Group(*robots, bars if self._running else Text("no phase runs now"), Text(""), *lines)


class Lines:
    """The same for programs: a JSON document in a line for whatever is told, by its `kind`.

    An event is told as the API tells it; how far a phase is has the kind progress, and how the robots stand,
    whenever that has changed, standing. Its `items` are null while the daemon does not say it.

    Args:
        say: gets the lines; those of robots from a thread of their own.
    """

    def __init__(self, events: Iterable[Record] = (), *, say: Callable[[str], object]) -> None:
        self._say = say
        self._stations: Sequence[Record] | None = None
        self._standing_told = False
        for event in events:
            self._line(event)

    @property
    def stations(self) -> Sequence[Record] | None:
        return self._stations

    @stations.setter
    def stations(self, stations: Sequence[Record] | None) -> None:
        if stations == self._stations and self._standing_told:
            return
        self._stations, self._standing_told = stations, True
        with suppress(BrokenPipeError):  # whoever takes what is told meets it too
            self._line({"kind": "standing", "items": None if stations is None else list(stations)})

    def take(self, told: Told) -> None:
        self._line({"kind": told.kind, **told.document})

    def _line(self, document: Record) -> None:
        self._say(json.dumps(document))


def event_line(event: Record) -> str:
    """One event as one line."""
    return f"{moment(event['at'])}  {event['text']}"


def station_lines(station: Record) -> list[str]:
    """A robot in a line; a second one says what somebody has to do."""
    facts = [f"{name} {fact}" for name, fact in station["facts"].items()]
    lines = [f"robot at {station['address']} {station['says']}{''.join(f', {fact}' for fact in facts)}"]
    if station["todo"]:
        why = f"{station['wants']}. " if station["wants"] else ""
        lines.append(f"  {why}{station['todo']}")
    return lines


def left_text(run: Record, *, now: datetime) -> str:
    """For how long a phase will still run, as the page Now says it; empty where nobody can say."""
    if not run.get("started_at"):
        return ""
    took_s = (now - datetime.fromisoformat(run["started_at"])).total_seconds()
    left_s = time_left(run["progress"], took_s)
    return "" if left_s is None else f"about {duration(left_s)} left"


@contextmanager
def looking_at(view: View | Lines, stations: Callable[[], Sequence[Record]]) -> Iterator[None]:
    """Keep the robots of a view as they stand, beside whatever is done meanwhile.

    While they cannot be asked `stations` is None: an old state is worse than none.
    """
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            try:
                view.stations = stations()
            except DaemonError:
                view.stations = None
            over.wait(STATIONS_EVERY_S)

    looker = threading.Thread(target=look, name="stations", daemon=True)  # Ctrl-C waits for no answer
    looker.start()
    try:
        yield
    finally:
        over.set()


def show(view: View, stream: Iterable[Told], *, console: Console | None = None) -> None:
    """Show the view and everything that is told, until the stream ends."""
    with Live(view, console=console, refresh_per_second=4) as live:
        for told in stream:
            view.take(told)
            live.update(view)
