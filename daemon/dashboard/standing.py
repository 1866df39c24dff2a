"""What the page Now says of robots and of a running iteration, and what people are asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daemon.spec import phases_of
from daemon.station_watch import Standing
from storage.iterations import UNFINISHED

LEAST_DONE = 0.02  # of a phase; before, nobody can say how long the rest takes

INSTRUCTIONS = {
    "ESTOPPED": "Go to the robot. See that nobody and nothing is in its way, then clear the stop there: "
    "gymnastd clear-estop, on the station's machine.",
    "WAITING_HUMAN": "Do what is asked, then say so at the station: gymnastd station human-done.",
    "FAULT": "A motor or a camera is at fault. Look at the robot and at the station's log.",
    "OFFLINE": "The arm does not answer its station. See to its power and its cable.",
}
SAYS = {
    "IDLE": "is idle",
    "HOMING": "goes home",
    "RESETTING": "puts its scene in order",
    "READY": "is ready for an episode",
    "RUNNING": "runs an episode",
    "HOLD": "holds still: its next action is late",
    "JUDGING": "looks at how an episode ended",
    "RESTING": "rests its motors",
    "WAITING_HUMAN": "waits for a human",
    "ESTOPPED": "is stopped",
    "FAULT": "has a fault",
    "OFFLINE": "is offline",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCard:
    """One robot in words; `todo` is what somebody has to do, and `wants` why."""

    address: str
    says: str
    tone: str
    wants: str | None
    todo: str | None
    facts: Mapping[str, str]


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


def station_card(standing: Standing) -> StationCard:
    """What one station said, for people."""
    status = standing.status
    if status is None:
        return StationCard(
            address=standing.address,
            says="does not answer",
            tone="bad",
            wants=standing.failure,
            todo="If the robot moves, press its red button. Then see whether its station runs.",
            facts={},
        )
    facts = {}
    if status.lease is not None:
        facts["in the hands of"] = status.lease.holder
    if status.episode is not None:
        facts["episode"] = f"{status.episode.task_id}, step {status.episode.next_step}"
    if status.spooled_episodes:
        facts["episodes to be fetched"] = str(status.spooled_episodes)
    todo = INSTRUCTIONS.get(status.state)
    return StationCard(
        address=standing.address,
        says=SAYS.get(status.state, status.state),
        tone="bad" if todo else "good",
        wants=status.estop_reason or status.waiting_for,
        todo=todo,
        facts=facts,
    )


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
        left_s=_left(run, took_s),
        took_s=took_s,
    )


def _left(run: Mapping[str, Any], took_s: float | None) -> float | None:
    """As long again per share as it took so far."""
    done = run["progress"]
    if run["state"] != "running" or took_s is None or done < LEAST_DONE:
        return None
    return float(took_s * (1.0 - done) / done)
