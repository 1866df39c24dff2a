"""Which real episodes a judge may end before their last step, where the spec asks for that.

A judge that errs cuts episodes short that were not over. So a task where its audit says that it is surely too
wrong keeps the full length: the same bound by which the next policy update leaves a task out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from daemon.phases.auditing import too_wrong_to_end
from daemon.phases.checkpoints import newest
from daemon.phases.context import PhaseContext
from storage.tables import CheckpointRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The judge that is asked after every chunk, and the tasks at which it is not, each with the reason."""

    judge: CheckpointRow
    full_length: Mapping[str, str]


def ending(context: PhaseContext) -> Ending | None:
    """Who may end this iteration's episodes early: the lineage's newest judge; None: all have full length."""
    if not context.spec.stop_on_success:
        return None
    judge = newest(context, "judge")
    return Ending(judge=judge, full_length=too_wrong_to_end(context, judge))


def full_length(context: PhaseContext) -> dict[str, str]:
    """Tasks whose episodes are not ended early although the spec asks for it, each with the reason."""
    ends = ending(context)
    return {} if ends is None else dict(ends.full_length)
