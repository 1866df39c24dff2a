"""A judge that the lineage's last finetuning did not audit is audited before a policy learns from it.

So it is where an iteration updates the policy without finetuning, by another judge than the last one: brought
in, of another kind, asked otherwise or elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.reward.judge import WhileItLasts
from daemon.phases.auditing import Measured, audit_judge
from daemon.phases.clips import load_clips, shelf_of
from daemon.phases.context import PhaseContext
from daemon.phases.judges import judge_for
from daemon.phases.manifest import episode_entries
from daemon.phases.material import OLDER_HELD_OUT, Episodes
from storage import replay


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstAudit:
    """What came out, and on which episodes; nothing where the last finetuning has audited this judge.

    Attributes:
        outcome: `judge_audit` and `judge_exhausted`, as a finetuning tells them.
        entries: the episodes as a manifest names them.
    """

    outcome: Mapping[str, Any] = field(default_factory=dict)
    entries: Sequence[dict[str, Any]] = ()


def first_audit(
    context: PhaseContext, classifier: ClassifierJudge, last: Measured, *, size: int
) -> FirstAudit:
    """Audit the spec's judge on the lineage's newest held-out episodes, unless that was done.

    Args:
        classifier: this iteration's.
        size: pixels on a side of the pictures.

    Raises:
        StorageError, ClipInvalid: an episode is damaged.
        JudgeUnreachable, JudgeRefused: the judge cannot be asked.
    """
    if last.same_judge:
        return FirstAudit()
    query = replay.EpisodeQuery(
        origin="collect", lineage=context.spec.lineage, held_out=True, limit=OLDER_HELD_OUT
    )
    with context.database.read() as session:
        rows = replay.select(session, query)
        held_out = Episodes(rows=rows, clips=load_clips(session, shelf_of(context), rows, size=size))
        entries = episode_entries(session, {"audited": rows})
    judge = WhileItLasts(judge_for(context, classifier, say=partial(context.report, 0.0)))
    audit = audit_judge(context, judge, (held_out,))
    return FirstAudit(outcome={"judge_audit": audit, "judge_exhausted": judge.exhausted}, entries=entries)
