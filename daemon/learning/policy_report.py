"""What updates of a policy amounted to: one update as numbers, and all of them together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

REPORTED_SHARE = 0.25  # share of the updates, at the end, that "last" success is measured over


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaginedSuccess:
    """Share of judged rollouts that succeeded, None where none was judged.

    `first` is the first update's, before any learning; `last` that of the last quarter of those that judged.
    """

    first: float | None
    last: float | None
    rollouts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What became of an update's groups.

    Attributes:
        imagined: in this update.
        informative: of those, worth learning from.
        learned: groups that this update learned from, carried ones included.
        carried: wait for the next update.
        expired: had waited too long, and were given up.
        wasted_rollouts: those of groups that taught nothing or expired, and those without a verdict.
    """

    imagined: int
    informative: int
    learned: int
    carried: int
    expired: int
    wasted_rollouts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOutcome:
    """One update as numbers: rollouts judged and succeeded by instruction; `learned` is a mean over steps.

    `known_share` of the rollouts have a verdict; None where none was imagined, since enough groups waited.
    `stopped_share` were over before their last chunk; None where none may be.
    """

    judged: dict[str, int]
    succeeded: dict[str, int]
    known_share: float | None
    groups: Groups
    optimizer_steps: int
    learned: dict[str, float]
    stopped_share: float | None = None

    @property
    def informative_share(self) -> float | None:
        return self.groups.informative / self.groups.imagined if self.groups.imagined else None

    def metrics(self) -> dict[str, float]:
        """For curves; what there was nothing of is absent: loss and its kin, and shares."""
        by_instruction = {
            f"imagined_success/{sentence}": self.succeeded[sentence] / count
            for sentence, count in self.judged.items()
            if count
        }
        judged = sum(self.judged.values())
        overall = {"imagined_success": sum(self.succeeded.values()) / judged} if judged else {}
        names = "known_share", "informative_share", "stopped_share"
        shares = {name: share for name in names if (share := getattr(self, name)) is not None}
        return {
            **overall,
            **by_instruction,
            **shares,
            "groups_learned": float(self.groups.learned),
            "groups_carried": float(self.groups.carried),
            "groups_dropped": float(self.groups.imagined - self.groups.informative + self.groups.expired),
            "wasted_rollouts": float(self.groups.wasted_rollouts),
            "optimizer_steps": float(self.optimizer_steps),
            **self.learned,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyUpdateReport:
    """What the updates amounted to; shares are means over all updates that imagined."""

    updates: int
    optimizer_steps: int
    imagined_success: dict[str, ImaginedSuccess]  # by task
    known_share: float
    informative_share: float
    wasted_rollouts: int


def report_of(
    history: Sequence[UpdateOutcome], *, tasks: Mapping[str, str] | None = None
) -> PolicyUpdateReport:
    """All updates together; instructions of one task as one, those without a task by themselves."""
    named = tasks or {}
    judged = [outcome for outcome in history if sum(outcome.judged.values())]
    tail = judged[-math.ceil(len(judged) * REPORTED_SHARE) :] if judged else []
    sentences: dict[str, list[str]] = {}
    for sentence in dict.fromkeys(sentence for outcome in history for sentence in outcome.judged):
        sentences.setdefault(named.get(sentence, sentence), []).append(sentence)
    return PolicyUpdateReport(
        updates=len(history),
        optimizer_steps=sum(outcome.optimizer_steps for outcome in history),
        imagined_success={
            task: ImaginedSuccess(
                first=_success(judged[:1], own),
                last=_success(tail, own),
                rollouts=_judged(history, own),
            )
            for task, own in sentences.items()
        },
        known_share=_mean([outcome.known_share for outcome in history]),
        informative_share=_mean([outcome.informative_share for outcome in history]),
        wasted_rollouts=sum(outcome.groups.wasted_rollouts for outcome in history),
    )


def _judged(outcomes: Sequence[UpdateOutcome], sentences: Sequence[str]) -> int:
    return sum(outcome.judged.get(sentence, 0) for outcome in outcomes for sentence in sentences)


def _success(outcomes: Sequence[UpdateOutcome], sentences: Sequence[str]) -> float | None:
    judged = _judged(outcomes, sentences)
    won = sum(outcome.succeeded.get(sentence, 0) for outcome in outcomes for sentence in sentences)
    return won / judged if judged else None


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0
