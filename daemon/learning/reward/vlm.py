"""Asking a vision-language model whether a robot succeeded: the question, the answer, and counting votes.

Pure text and numbers: who is asked, and over which wire, is in `daemon.judges`. An answer that cannot be read
is no vote, and votes that do not agree are no verdict: a model that fails to answer must never look like a
robot that failed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

PROMPT_VERSION = "2"  # part of every cached answer's key: raise it with any change of the text below
EVERY = 3  # of so many frames one is shown, as World-Gymnast does; the last one always
FAILED, PARTLY, DONE = 0.0, 0.5, 1.0
UNSEEN = "?"  # the answer of a model that cannot see how things stand
SCORE = re.compile(r"[\s*_`#>-]*score\s*[:=]\s*([01](?:\.0+)?|0?\.50*|\?)[\s*_`.]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric:
    """What counts as done, in words; `partly` allows for half a point, None for all or nothing."""

    done: str | None = None
    partly: str | None = None

    @property
    def scores(self) -> tuple[float, ...]:
        """The scores that an answer may give."""
        return (FAILED, DONE) if self.partly is None else (FAILED, PARTLY, DONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Votes on one rollout: `probability` is the share that saw it done, 1/2 where nobody voted."""

    success: bool
    known: bool
    probability: float
    votes: int


def question(instruction: str, rubric: Rubric, *, pictures: int) -> str:
    """The text that goes with so many pictures of one rollout."""
    lines = [
        *_scene(instruction, pictures),
        f"Score 1 if, in the last picture, {_done(instruction, rubric)}.",
    ]
    if rubric.partly is not None:
        lines.append(f"Score 0.5 if that is not so, but {rubric.partly}.")
    lines += [
        f"Score 0 otherwise. Where the last picture does not show how things stand, score {UNSEEN}.",
        "Explain what you see in at most three sentences. Then end with one line that reads exactly",
        f"Score: X    (X is one of {', '.join(f'{score:g}' for score in rubric.scores)}, {UNSEEN})",
    ]
    return "\n".join(lines)


def yes_or_no(instruction: str, rubric: Rubric, *, pictures: int) -> str:
    """The same, to be answered by one digit."""
    asked = f"Answer 1 if, in the last picture, {_done(instruction, rubric)}. Otherwise answer 0."
    return "\n".join([*_scene(instruction, pictures), asked])


def _scene(instruction: str, pictures: int) -> list[str]:
    return [
        f"These {pictures} pictures, in the order of time, show a robot arm that was told: {instruction}",
        "They were taken by a camera or drawn by a model of the world; blur and flicker are not the robot's "
        "fault.",
        "Judge how things stand at the end, not what happened on the way.",
    ]


def _done(instruction: str, rubric: Rubric) -> str:
    return rubric.done or f"the pictures show that this was achieved: {instruction}"


def shown(frames: int) -> list[int]:
    """Which of so many frames are shown: every third counted back from the last, oldest first."""
    return list(range(frames - 1, -1, -EVERY))[::-1]


def read_answer(text: str, rubric: Rubric) -> float | None:
    """The score of an answer, or None where its last line is not one that was asked for, or declines."""
    said = _said(text)
    if said is None or said == UNSEEN:
        return None
    return float(said) if float(said) in rubric.scores else None


def readable(text: str, rubric: Rubric) -> bool:
    """Whether an answer is one that was asked for: a score, or that nothing can be seen."""
    return _said(text) == UNSEEN or read_answer(text, rubric) is not None


def _said(text: str) -> str | None:
    lines = [line for line in text.splitlines() if line.strip()]
    found = SCORE.fullmatch(lines[-1]) if lines else None
    return None if found is None else found.group(1)


def tally(scores: Sequence[float | None], *, agreement: float) -> Tally:
    """Count votes; half a point is no success.

    Args:
        scores: one per vote that was asked for, None where the answer could not be read or declined.
        agreement: share of the readable votes that must say the same, above 1/2. Where fewer do, or where not
            even half of the votes can be read, nothing is known.
    """
    votes = [score for score in scores if score is not None]
    if not votes:
        return Tally(success=False, known=False, probability=0.5, votes=0)
    probability = sum(score >= DONE for score in votes) / len(votes)
    enough = 2 * len(votes) >= len(scores)
    known = enough and probability != 0.5 and max(probability, 1 - probability) >= agreement
    return Tally(success=probability > 0.5, known=known, probability=probability, votes=len(votes))
