"""What a phase tells: as events what begins, ends or is spent, as progress how far an update is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from daemon.learning.reward.judge import Judge, JudgeExhausted, Verdicts, require_films
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


class ToldVerdicts:
    """A judge that is asked about one rollout after the other, each of which is told. Obeys `Judge`.

    One in this process takes seconds for each, and a phase may not be silent for long.
    """

    def __init__(self, judge: Judge, say: Callable[[str], None]) -> None:
        self._judge, self._say = judge, say

    @property
    def frames(self) -> int:
        return self._judge.frames

    def judge(self, frames: Tensor, instructions: Sequence[str]) -> Verdicts:
        """Verdicts on uint8 [B, F, 3, H, W].

        Raises:
            BadTensor: frames of another type or shape, or not one instruction each.
        """
        require_films(frames, instructions)
        given: list[Verdicts] = []
        for place, sentence in enumerate(instructions):
            given.append(self._judge.judge(frames[place : place + 1], [sentence]))
            self._say(f"{place + 1} of {len(instructions)} rollouts are judged")
        if not given:
            return self._judge.judge(frames, instructions)
        return Verdicts(
            success=torch.cat([one.success for one in given]),
            known=torch.cat([one.known for one in given]),
            probability=torch.cat([one.probability for one in given]),
        )


def outage(context: PhaseContext, say: Callable[[str], None]) -> Callable[[str | None], None]:
    """What a judge tells while its endpoint is away, None once it is back: as progress, and as events."""
    spell = Spell(context, begins="judge_away", ends="judge_back")

    def waiting(text: str | None) -> None:
        if text is None:
            spell.off()
            return
        say(text)
        spell.on(reason=text)

    return waiting


class ToldUpdates:
    """What an update of a policy tells: its curves every update, the progress bar chunks and verdicts too.

    An update can take longer than a phase may be silent.
    """

    def __init__(self, context: PhaseContext, *, chunks: int) -> None:
        self._context, self._chunks, self._total = context, chunks, context.spec.policy.updates
        self._done = 0

    def update(self, update: int, metrics: Mapping[str, float]) -> None:
        """So many updates are made."""
        self._done = update
        self._context.record({"update": update, **metrics})
        success = metrics.get("imagined_success")
        self.say("nothing judged" if success is None else f"imagined success {success:.2f}")

    def step(self, made: int, steps: int) -> None:
        """So many updates are made, and so many optimizer steps of the next."""
        self._done = made
        if steps:
            self.say(f"learning the next, step {steps}")

    def chunk(self, done: int) -> None:
        """So many chunks of the next one's rollouts are imagined."""
        self.say(f"imagining the next, chunk {done} of {self._chunks}")

    def say(self, text: str) -> None:
        """What goes on meanwhile."""
        self._context.report(self._done / self._total, f"update {self._done} of {self._total}, {text}")


def tell(context: PhaseContext, kind: str, **facts: str) -> None:
    """Write an event of this iteration."""
    with context.database.write() as session:
        events.note(session, kind, at=context.now(), facts=facts, iteration_id=context.iteration_id)
