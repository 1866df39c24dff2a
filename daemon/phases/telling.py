"""What a phase tells as events: what begins and ends, and a judge that may not be asked any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from torch import Tensor

from daemon.learning.reward.judge import Judge, JudgeExhausted, Verdicts
from daemon.phases.context import PhaseContext
from storage import events


class Spell:
    """Something that begins and, it is hoped, ends. Each is told once, however often it is said."""

    def __init__(self, context: PhaseContext, *, begins: str, ends: str) -> None:
        self._context, self._begins, self._ends = context, begins, ends
        self._lock = threading.Lock()
        self._on = False

    def on(self, **facts: str) -> None:
        """It goes on, or has just begun."""
        self._turn(True, facts)

    def off(self, **facts: str) -> None:
        """It is over, if it ever was."""
        self._turn(False, facts)

    def _turn(self, on: bool, facts: dict[str, str]) -> None:
        with self._lock:
            if on != self._on:
                tell(self._context, self._begins if on else self._ends, **facts)
                self._on = on


class ToldJudge:
    """A judge whose spent budget is told. Obeys `Judge`."""

    def __init__(self, judge: Judge, context: PhaseContext) -> None:
        self._judge, self._context = judge, context
        self._told = False

    @property
    def frames(self) -> int:
        return self._judge.frames

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        """Verdicts on uint8 [B, F, 3, H, W].

        Raises:
            JudgeExhausted: it may not be asked any more, in this iteration or today; and whatever else the
                judge raises.
        """
        try:
            return self._judge.judge(frames, instructions)
        except JudgeExhausted as spent:
            if not self._told:
                tell(self._context, "judge_budget_spent", reason=str(spent))
                self._told = True
            raise


def outage(context: PhaseContext, share: float) -> Callable[[str | None], None]:
    """What a judge tells while its endpoint is away, None once it is back: as progress, and as events."""
    spell = Spell(context, begins="judge_away", ends="judge_back")

    def waiting(text: str | None) -> None:
        if text is None:
            spell.off()
            return
        context.report(share, text)
        spell.on(reason=text)

    return waiting


def tell(context: PhaseContext, kind: str, **facts: str) -> None:
    """Write an event of this iteration."""
    with context.database.write() as session:
        events.note(session, kind, at=context.now(), facts=facts, iteration_id=context.iteration_id)
