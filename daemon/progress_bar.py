"""How far long work is, told on standard error: a bar with rate and remaining time for each stage of it.

Where standard error is no terminal there is a plain line now and then instead. What is said of the work in
whole sentences goes to standard output, above the bars.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from daemon.time_left import duration

LINE_EVERY_S: Final = 30.0  # between two lines of work that has no bar
RATE_OVER_S: Final = 600.0  # remaining time goes by the speed of so long: phases move in steps
SHARE: Final = "%"  # the unit of work that only knows its share


class Bars:
    """A bar for each stage of some work, made when the stage is first told of. Used as a context.

    Args:
        shown: False shows nothing of how far it is, as with --json.
        say: gets the sentences.
        console: of standard error.
        clock: seconds.
    """

    def __init__(
        self,
        *,
        shown: bool = True,
        say: Callable[[str], object] = typer.echo,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.say = say
        self._console = console or Console(stderr=True)
        self._shown, self._clock = shown, clock
        self._stages: dict[str, TaskID] = {}
        self._line_at: float | None = None
        columns = (
            TextColumn("{task.description:<22}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[amount]} {task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
        )
        self._progress = Progress(
            *columns,
            console=self._console,
            get_time=clock,
            speed_estimate_period=RATE_OVER_S,
            redirect_stdout=sys.stdout.isatty(),  # sentences into a file stay whole
            disable=not (shown and self._console.is_terminal),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def count(self, stage: str, done: float, of: float | None, *, unit: str = "", text: str = "") -> None:
        """So much of a stage is done; of how much, if that is known. When all is, the stage is over."""
        task = self._task(stage)
        self._progress.update(task.id, completed=done, total=of)
        said = amount(done, of, unit=unit)
        self._progress.update(task.id, amount=said, rate=rate(task.speed, unit=unit), text=text)
        if of is not None and done >= of:
            self.close(stage)
        elif task.stop_time is None:
            self._line(task)

    def share(self, stage: str, share: float, text: str = "") -> None:
        """Such a share of a stage is done, between 0 and 1."""
        self.count(stage, share, 1.0, unit=SHARE, text=text)

    def close(self, stage: str) -> None:
        """The stage is over, whether or not all of it was done; closing it again does nothing."""
        task = self._task(stage)
        if task.stop_time is None:
            self._progress.stop_task(task.id)
            self._line(task, last=True)

    def _task(self, stage: str) -> Task:
        if stage not in self._stages:
            self._stages[stage] = self._progress.add_task(stage, total=None, amount="", rate="", text="")
        return self._progress.tasks[self._stages[stage]]

    def _line(self, task: Task, *, last: bool = False) -> None:
        """A plain line where there is no bar, unless there was one just now."""
        if not self._shown or self._console.is_terminal:
            return
        now = self._clock()
        if last or self._line_at is None or now - self._line_at >= LINE_EVERY_S:
            self._line_at = now
            self._console.print(line_of(task), markup=False, highlight=False, soft_wrap=True)


def amount(done: float, of: float | None, *, unit: str) -> str:
    """`50 %`, `3/4`, `3`."""
    if unit == SHARE and of:
        return f"{100 * done / of:.0f} %"
    return f"{done:g}" if of is None else f"{done:g}/{of:g}"


def rate(speed: float | None, *, unit: str) -> str:
    """How much a second, or a minute where that is less than one; empty where nobody can say."""
    if not speed:
        return ""
    if unit == SHARE:
        return f"{6000 * speed:.1f} %/min"
    return f"{speed:.1f} {unit}/s" if speed >= 1 else f"{60 * speed:.1f} {unit}/min"


def line_of(task: Task) -> str:
    """A bar as a line of text."""
    ahead = None if task.stop_time is not None else task.time_remaining
    left = "" if ahead is None else f"{duration(ahead)} left"
    facts = (task.fields["amount"], task.fields["rate"], left, task.fields["text"])
    return f"{task.description}: {', '.join(fact for fact in facts if fact)}"
