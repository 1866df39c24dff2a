"""Trials on the robot: what the episodes of a collect phase say of its candidate, and what follows.

How sure one has to be is in `daemon.trial`. Here counts are read from the store, the slots of a policy that
has lost are given up, and what was decided gets its row. In a trial that is carried on the episodes of the
iterations before count on. A champion that does worse than the one before it, in episodes that came after its
own trial, is rolled back. What is decided early gets its row at once: an attempt after this one goes by it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy.orm import Session

from daemon.phases.arms import CANDIDATE, Arms, record
from daemon.phases.context import PhaseContext
from daemon.phases.ending import full_length
from daemon.phases.slots import CHAMPION
from daemon.phases.todo import Todo
from daemon.trial import FEWEST, Count, Decision, Evidence, Thresholds, carried_text, decide
from storage import checkpoints, end_rules, iterations, success_counts, trials
from storage.end_rules import EndRule, same_rule
from storage.success_counts import PolicyCount
from storage.tables import CheckpointRow

log = logging.getLogger(__name__)


class Referee:
    """Watches one collect phase. Safe to use from the robots' threads.

    Args:
        conditions: under which the episodes are counted, see `carrying.conditions_of`.
        planned: by task, how many episodes the iteration wants of each policy.
    """

    def __init__(
        self, context: PhaseContext, arms: Arms, *, conditions: Mapping[str, Any], planned: Mapping[str, int]
    ) -> None:
        self._context, self._arms = context, arms
        self._conditions, self._planned = conditions, planned
        self._looking = threading.Lock()
        self._decision = self._decided_before()

    def look(self, todo: Todo) -> None:
        """After an episode: once it is clear who is better, the other's slots are given up.

        Raises:
            LeaseLost: another worker has this phase run by now; nothing was decided.
        """
        if self._arms.candidate is None:
            return
        with self._looking:
            if self._decision is None:
                evidence = self._evidence()
                self._decision = self._decide(evidence, spent=False)
                if self._decision is not None:
                    self._record(self._decision, evidence)
        loser = {trials.PROMOTED: CHAMPION, trials.REJECTED: CANDIDATE}.get(self._decision or "")
        if loser is not None:
            todo.give_up(lambda slot: slot.arm == loser)

    def conclude(self) -> dict[str, Any] | None:
        """Decide, now that no episode is to come, and keep the decision; None where there was nothing to.

        What this iteration has decided before stands: early, or in an attempt that was killed since. The
        counts are those of now, the winner's episodes after an early decision among them.

        Raises:
            LeaseLost: another worker has this phase run by now; nothing was decided.
        """
        if self._arms.candidate is None:
            return None if self._decision is None else {"decision": self._decision}
        evidence = self._evidence()
        if self._decision is None:
            self._decision = self._decide(evidence, spent=True) or trials.UNDECIDED
            self._record(self._decision, evidence)
        return {"decision": self._decision, **self._document(evidence)}

    def _decided_before(self) -> str | None:
        """What this iteration has decided about its candidate, in an attempt before this one."""
        with self._context.database.read() as session:
            rows = trials.of_iteration(session, self._context.iteration_id)
        return next((row.decision for row in reversed(rows) if row.decision != trials.ROLLED_BACK), None)

    def _decide(self, evidence: Evidence, *, spent: bool) -> Decision | None:
        return decide(evidence, self._thresholds, planned=self._planned, spent=spent)

    def _record(self, decision: str, evidence: Evidence) -> None:
        candidate = self._arms.candidate
        if candidate is None:
            return
        document = self._document(evidence)
        record(self._context, self._arms.champion.row, candidate.row, decision=decision, evidence=document)
        log.info("trial decided decision=%s better=%.3f", decision, evidence.better())

    def _document(self, evidence: Evidence) -> dict[str, Any]:
        return {**evidence_document(evidence), **self._circumstances(evidence)}

    @property
    def said(self) -> str | None:
        """What there is to say of a trial that goes on, before its next episode; None of any other."""
        carried = self._arms.carried
        if carried is None:
            return None
        told = {"from": carried.legs[-1].number, "episodes": self._before, "of": self._wanted}
        return f"trial {carried_text(told)}"

    @property
    def _thresholds(self) -> Thresholds:
        spec = self._context.spec.trial
        own = Thresholds(**spec.model_dump(exclude={"enabled", "carries"}))
        return own.shared(carries=spec.carries)

    @property
    def _wanted(self) -> int:
        """Episodes of both policies that the trial wants until the end of this iteration."""
        return self._both_planned + (self._arms.carried.planned if self._arms.carried else 0)

    @property
    def _both_planned(self) -> int:
        """Episodes of both policies that this iteration wants."""
        return 2 * sum(self._planned.values())

    @property
    def _legs(self) -> list[str]:
        """The iterations that the trial is carried on from."""
        return [leg.iteration_id for leg in self._arms.carried.legs] if self._arms.carried else []

    @property
    def _before(self) -> int:
        """Judged episodes of both policies in those iterations."""
        return _episodes(self._counted(self._legs))

    def _evidence(self) -> Evidence:
        """Judged episodes of this iteration, and of those that the trial is carried on from."""
        return self._counted([*self._legs, self._context.iteration_id])

    def _counted(self, iteration_ids: Sequence[str]) -> Evidence:
        """Judged episodes of these iterations, by who acted."""
        with self._context.database.read() as session:
            champion, candidate = (
                _added(
                    success_counts.by_task(session, iteration_id=iteration_id, checkpoint_id=arm.row.id)
                    for iteration_id in iteration_ids
                )
                for arm in self._arms.every
            )
        return Evidence(champion=champion, candidate=candidate)

    def _circumstances(self, evidence: Evidence) -> dict[str, Any]:
        """What the next iteration has to know to carry the trial on, and whether this one has."""
        carried, carries = self._arms.carried, self._context.spec.trial.carries
        found = {"planned": self._both_planned, "conditions": dict(self._conditions)}
        if carried is None:
            return {**found, "carries_left": carries}
        told = {
            "from": carried.legs[-1].number,
            "iterations": [leg.number for leg in carried.legs],
            "before": self._before,
            "episodes": _episodes(evidence),
            "of": self._wanted,
        }
        return {**found, "carried": told, "carries_left": max(0, carries - len(carried.legs))}


def roll_back(context: PhaseContext, champion: CheckpointRow) -> dict[str, Any] | None:
    """Put the champion of before in the place of one that turned out worse; what was decided, or None.

    Compared are the lineage's episodes of the one before with those of the champion in iterations after the
    one that made it champion: those of its own trial chose it, and would flatter it. Of these, only such as
    were acted in and ended as this iteration's are: ended early, or warmer, the same policy is another. And
    only those at stations that both have acted at: robots differ too. Left out are tasks with a
    handful of episodes of either.

    Raises:
        LeaseLost: another worker has this phase run by now; nothing was decided.
    """
    here = context.spec.lineage
    with context.database.read() as session:
        known = trials.of_iteration(session, context.iteration_id)
        for row in known:
            if row.decision == trials.ROLLED_BACK:  # by an attempt that was killed since
                return {"decision": row.decision, **row.evidence}
        crowned = trials.crowning(session, champion.id, lineage=here)
        if crowned is None or crowned.iteration_id is None or crowned.decision == trials.ROLLED_BACK:
            return None
        if trials.by_people(crowned):  # what people decided, people take back
            return None
        before = checkpoints.get(session, crowned.champion_id)
        after = iterations.get(session, crowned.iteration_id).number
        counts = success_counts.by_iteration(session, (before.id, champion.id), lineage=here)
        alike = [
            count
            for count, number in _in_the_same_way(session, context, counts)
            if count.judged and (count.checkpoint_id == before.id or number > after)
        ]
    own = {
        policy.id: [one for one in alike if one.checkpoint_id == policy.id] for policy in (before, champion)
    }
    theirs, ours = _at_the_same_stations(own[before.id], own[champion.id])
    evidence = Evidence(champion=ours, candidate=theirs).of_at_least(FEWEST)
    if not evidence.tasks or evidence.better() < context.spec.trial.promote:
        return None
    document = evidence_document(evidence)
    record(context, champion, before, decision=trials.ROLLED_BACK, evidence=document)
    log.warning(
        "champion rolled back from=%s to=%s probability=%.3f", champion.id, before.id, evidence.better()
    )
    return {"decision": trials.ROLLED_BACK, **document}


def _in_the_same_way(
    session: Session, context: PhaseContext, counts: Sequence[PolicyCount]
) -> Iterator[tuple[PolicyCount, int]]:
    """Those of the counts whose episodes are this iteration's kind, each with its iteration's number."""
    these = {count.iteration_id for count in counts}
    rules, specs = end_rules.of_iterations(session, these), iterations.specs(session, these)
    wanted = _acting(context.spec.document())
    kept = frozenset(full_length(context))
    own = EndRule(number=context.iteration_number, early=context.spec.stop_on_success, full_length=kept)
    rules[context.iteration_id] = own
    for count in counts:
        rule = rules.get(count.iteration_id, EndRule())
        alike = _acting(specs.get(count.iteration_id, {})) == wanted
        if alike and same_rule(rule, own, task=count.task_id):
            yield count, rule.number


def _at_the_same_stations(one: Sequence[PolicyCount], other: Sequence[PolicyCount]) -> list[dict[str, Count]]:
    """The counts of two policies at tasks that both did at a station; each station's apart if several."""
    pairs = [{(count.task_id, count.station_id) for count in counts} for counts in (one, other)]
    both = pairs[0] & pairs[1]
    several = len({station for _, station in both}) > 1

    def named(count: PolicyCount) -> str:
        return f"{count.task_id} at {count.station_id}" if several else count.task_id

    return [
        _added(
            {named(count): (count.successes, count.judged)}
            for count in counts
            if (count.task_id, count.station_id) in both
        )
        for counts in (one, other)
    ]


def _acting(spec: Mapping[str, Any]) -> tuple[Any, Any]:
    """Of a spec what decides how a policy acts: how long, and how warm."""
    return spec.get("steps"), (spec.get("collect") or {}).get("temperature")


def evidence_document(evidence: Evidence) -> dict[str, Any]:
    """The counts and what they say, as the record holds them."""
    return {
        "probability_better": evidence.better(),
        "by_task": {
            task: {
                "champion": asdict(evidence.champion[task]),
                "candidate": asdict(evidence.candidate[task]),
                "probability_better": evidence.better_at(task),
            }
            for task in evidence.tasks
        },
    }


def _episodes(evidence: Evidence) -> int:
    """Judged episodes of both policies."""
    return sum(count.episodes for side in (evidence.champion, evidence.candidate) for count in side.values())


def _added(found: Iterable[dict[str, tuple[int, int]]]) -> dict[str, Count]:
    """The counts of several iterations together, by task."""
    total: dict[str, Count] = {}
    for counts in map(_counts, found):
        for task, count in counts.items():
            before = total.get(task, Count(successes=0, episodes=0))
            total[task] = Count(
                successes=before.successes + count.successes, episodes=before.episodes + count.episodes
            )
    return total


def _counts(found: dict[str, tuple[int, int]]) -> dict[str, Count]:
    return {task: Count(successes=won, episodes=judged) for task, (won, judged) in found.items()}
