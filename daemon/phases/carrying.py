"""Trials that go on: one that was undecided is carried on in the lineage's next iteration.

The episodes of before count on, so that what the robot has spent on a candidate is not thrown away. While a
trial is carried on, a newer candidate waits; it is the scarcer thing, robot time, that is finished first, and
once the trial is decided the newest candidate has its turn. The update is not skipped meanwhile: it starts
from the champion as always, and its candidate is there where the trial turns out not to go on after all.

Counts of two iterations may be added only where both were counted under the same conditions. These stand in
the evidence of every trial; what has changed is the reason why a trial is not carried on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from daemon.phases.context import PhaseContext
from storage import checkpoints, iterations, outcomes, trials
from storage.canonical import json_digest
from storage.tables import CheckpointRow, TrialRow

OF_THE_MOMENT = ("online", "message")  # of what a robot says of itself: no part of what it is

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One iteration in which an undecided trial was run, and how many episodes it wanted there."""

    iteration_id: str
    number: int
    planned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A trial that was undecided so far.

    Attributes:
        legs: where it was run, oldest first.
        conditions: of the last of them; empty where an older release ran it.
        begun: its candidate has acted in this iteration already, in an attempt before this one.
        overtaken: another candidate has.
    """

    candidate: CheckpointRow
    champion_id: str
    legs: tuple[Leg, ...]
    conditions: Mapping[str, Any]
    begun: bool
    overtaken: bool

    @property
    def planned(self) -> int:
        """Episodes of both policies that the legs wanted."""
        return sum(leg.planned for leg in self.legs)

    def meets(self, now: Mapping[str, Any]) -> str | None:
        """Why it cannot go on under these conditions; None where it can, or where it does already."""
        if self.begun:
            return None
        other = "another candidate acts in this iteration already" if self.overtaken else None
        return next(_changes(self.conditions, now), other)

    def refused(self, why: str) -> str:
        """The sentence that the record keeps where it is not carried on."""
        policy, last = self.candidate.number, self.legs[-1].number
        return f"the trial of policy {policy}, undecided in iteration {last}, is not carried on: {why}"


def undecided_before(context: PhaseContext) -> tuple[Carried | None, str | None]:
    """The trial that goes on in this iteration as far as can be known before its robots are; else why not.

    Both are None where there is no undecided trial, and where the spec carries none on.
    """
    if not context.spec.trial.carries:
        return None, None
    with context.database.read() as session:
        rows = trials.undecided(session, context.spec.lineage, besides=context.iteration_id)
        if not rows:
            return None, None
        carried = _carried(session, context, rows)
        why = _in_the_way(session, context, carried)
    return (carried, None) if why is None else (None, carried.refused(why))


def conditions_of(
    context: PhaseContext,
    *,
    tasks: Iterable[str],
    may_end_early: Iterable[str],
    stations: Mapping[str, Mapping[str, object]],
) -> Document:
    """What has to be the same for counts to be added: the question, the robots and what they do.

    Args:
        may_end_early: those of the tasks whose episodes a judge may end.
        stations: by name, what each robot says of itself.
    """
    spec = context.spec
    return {
        "tasks": sorted(set(tasks)),
        "steps": spec.steps,
        "temperature": spec.collect.temperature,
        "may_end_early": sorted(set(may_end_early)),
        "collect_via": context.settings.collect_via,
        "stations": {name: _digest(facts) for name, facts in sorted(stations.items())},
        "trial": dict(spec.trial),
    }


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is another one now, each as a reason."""
    for name, value in now.items():
        old = before.get(name)
        if old == value:
            continue
        if name == "stations":
            yield _stations_changed(old or {}, value)
        elif name == "trial":
            yield from (f"trial.{why}" for why in _changes(old or {}, value))
        else:
            yield f"{name} was {_told(old)} and is {_told(value)}"


def _stations_changed(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    if old.keys() != new.keys():
        return f"the robots were {_told(sorted(old))} and are {_told(sorted(new))}"
    other = ", ".join(name for name in new if old[name] != new[name])
    return f"what {other} says of itself has changed; `gymnastd diff` tells in what"


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _digest(facts: Mapping[str, object]) -> str:
    lasting = {name: value for name, value in facts.items() if name not in OF_THE_MOMENT}
    return json_digest(lasting, what="what a robot says of itself")


def _carried(session: Session, context: PhaseContext, rows: list[TrialRow]) -> Carried:
    last = rows[-1]
    own = trials.of_iteration(session, context.iteration_id)
    acted = {row.id for row in outcomes.policies_of(session, context.iteration_id)}
    candidates = (acted | {row.candidate_id for row in own}) - {last.champion_id}
    return Carried(
        candidate=checkpoints.get(session, last.candidate_id),
        champion_id=last.champion_id,
        legs=tuple(_leg(session, row) for row in rows),
        conditions=last.evidence.get("conditions") or {},
        begun=last.candidate_id in candidates,
        overtaken=bool(candidates - {last.candidate_id}),
    )


def _leg(session: Session, row: TrialRow) -> Leg:
    number = iterations.get(session, str(row.iteration_id)).number
    return Leg(
        iteration_id=str(row.iteration_id), number=number, planned=int(row.evidence.get("planned") or 0)
    )


def _in_the_way(session: Session, context: PhaseContext, carried: Carried) -> str | None:
    """Why the trial cannot go on, whatever the robots are."""
    spec, carries = context.spec, len(carried.legs) - 1
    if not spec.trial.enabled:
        return "trial.enabled is false"
    if not carried.conditions:
        return "the release that ran it did not write down under which conditions"
    if carries >= spec.trial.carries:
        return f"it was carried on as often as trial.carries allows, {spec.trial.carries}"
    in_force = trials.latest(session, spec.lineage, besides=context.iteration_id)
    if in_force is not None and in_force.goes_on_id != carried.champion_id:
        champion = checkpoints.get(session, in_force.goes_on_id)
        return f"the champion has changed since; it is policy {champion.number} now"
    if carried.candidate.retired_at is not None:
        return "the file of its candidate was let go"
    return None
