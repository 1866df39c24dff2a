"""Trials on the robot: what the episodes of a collect phase say of its candidate, and what follows.

How sure one has to be is in `daemon.trial`. Here counts are read from the store, the slots of a policy that
has lost are given up, and what was decided gets its row. A champion that does worse than the one before it,
in episodes that came after its own trial, is rolled back.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict
from typing import Any

from daemon.phases.arms import CANDIDATE, Arms, record
from daemon.phases.context import PhaseContext
from daemon.phases.slots import CHAMPION
from daemon.phases.todo import Todo
from daemon.trial import Count, Decision, Evidence, Thresholds, decide
from storage import checkpoints, episodes, iterations, trials
from storage.tables import CheckpointRow

log = logging.getLogger(__name__)


class Referee:
    """Watches one collect phase. Safe to use from the robots' threads."""

    def __init__(self, context: PhaseContext, arms: Arms) -> None:
        self._context, self._arms = context, arms
        self._looking = threading.Lock()
        self._decision: Decision | None = None

    def look(self, todo: Todo) -> None:
        """After an episode: once it is clear who is better, the other's slots are given up."""
        if self._arms.candidate is None or self._decision is not None:
            return
        with self._looking:
            found = decide(self._evidence(), self._thresholds, spent=False)
            if found is None or self._decision is not None:
                return
            self._decision = found
        loser = CHAMPION if found == trials.PROMOTED else CANDIDATE
        given_up = todo.give_up(lambda slot: slot.arm == loser)
        log.info("trial decided early decision=%s slots_given_up=%d", found, given_up)

    def conclude(self) -> dict[str, Any] | None:
        """Decide, now that no episode is to come, and keep the decision; None where there was nothing to.

        What this iteration has decided before, in an attempt that was killed since, stands.

        Raises:
            LeaseLost: another worker has this phase run by now; nothing was decided.
        """
        context, arms = self._context, self._arms
        with context.database.read() as session:
            known = trials.of_iteration(session, context.iteration_id)
        if known:
            return {"decision": known[-1].decision, **known[-1].evidence}
        if arms.candidate is None:
            return None
        evidence = self._evidence()
        decision = self._decision or decide(evidence, self._thresholds, spent=True) or trials.UNDECIDED
        document = evidence_document(evidence)
        record(context, arms.champion.row, arms.candidate.row, decision=decision, evidence=document)
        log.info("trial decided decision=%s better=%.3f", decision, evidence.better())
        return {"decision": decision, **document}

    @property
    def _thresholds(self) -> Thresholds:
        return Thresholds(**self._context.spec.trial.model_dump(exclude={"enabled"}))

    def _evidence(self) -> Evidence:
        """Judged episodes of this iteration, by who acted."""
        with self._context.database.read() as session:
            champion, candidate = (
                episodes.success_counts(session, self._context.iteration_id, checkpoint_id=arm.row.id)
                for arm in self._arms.every
            )
        return Evidence(champion=_counts(champion), candidate=_counts(candidate))


def roll_back(context: PhaseContext, champion: CheckpointRow) -> dict[str, Any] | None:
    """Put the champion of before in the place of one that turned out worse; what was decided, or None.

    Compared are the lineage's episodes of the one before with those of the champion in iterations after the
    one that made it champion: those of its own trial chose it, and would flatter it.

    Raises:
        LeaseLost: another worker has this phase run by now; nothing was decided.
    """
    here = context.spec.lineage
    with context.database.read() as session:
        crowned = trials.crowning(session, champion.id, lineage=here)
        if crowned is None or crowned.iteration_id is None or crowned.decision == trials.ROLLED_BACK:
            return None
        before = checkpoints.get(session, crowned.champion_id)
        after = iterations.get(session, crowned.iteration_id).number
        theirs = episodes.success_counts(session, checkpoint_id=before.id, lineage=here)
        ours = episodes.success_counts(session, checkpoint_id=champion.id, after=after, lineage=here)
    evidence = Evidence(champion=_counts(ours), candidate=_counts(theirs))
    if not evidence.tasks or evidence.better() < context.spec.trial.promote:
        return None
    document = evidence_document(evidence)
    record(context, champion, before, decision=trials.ROLLED_BACK, evidence=document)
    log.warning(
        "champion rolled back from=%s to=%s probability=%.3f", champion.id, before.id, evidence.better()
    )
    return {"decision": trials.ROLLED_BACK, **document}


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


def _counts(found: dict[str, tuple[int, int]]) -> dict[str, Count]:
    return {task: Count(successes=won, episodes=judged) for task, (won, judged) in found.items()}
