"""What the page Now says of a running iteration: a bar for each phase, and the buttons."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daemon.spec import phases_of
from daemon.time_left import time_left
from storage.iterations import UNFINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseBar:
    """The last attempt at a phase; `left_s` is None where nobody can say."""

    phase: str
    attempt: int
    state: str
    progress: float
    says: str
    left_s: float | None
    took_s: float | None

    @property
    def key(self) -> str:
        """Which attempt the live stream's progress is of."""
        return f"{self.phase}-{self.attempt}"


def phase_bars(record: Mapping[str, Any], *, now: datetime) -> list[PhaseBar]:
    """One bar for every phase that the iteration has, begun or not."""
    last = {run["phase"]: run for run in record["phases"]}
    return [_bar(phase, last.get(phase), now=now) for phase in phases_of(record["spec"])]


def controls(record: Mapping[str, Any]) -> list[str]:
    """The buttons that its state allows."""
    state, wish = record["state"], record["wish"]
    if state == "failed":
        return ["retry"]
    if state not in UNFINISHED:
        return []
    goes_on = "resume" if state == "paused" or wish else "pause"
    return [goes_on, "cancel"]


def _bar(phase: str, run: Mapping[str, Any] | None, *, now: datetime) -> PhaseBar:
    if run is None:
        return PhaseBar(
            phase=phase, attempt=1, state="waiting", progress=0.0, says="", left_s=None, took_s=None
        )
    began, ended = run["started_at"], run["finished_at"]
    took_s = None if began is None else ((ended or now) - began).total_seconds()
    return PhaseBar(
        phase=phase,
        attempt=run["attempt"],
        state=run["state"],
        progress=1.0 if run["state"] == "finished" else run["progress"],
        says=run["error"]["message"] if run["error"] else run["text"],
        left_s=time_left(run["progress"], took_s) if run["state"] == "running" else None,
        took_s=took_s,
    )
