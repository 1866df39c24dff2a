"""Where a checkpoint comes from, as boxes in a row: the newest at the left, its parent beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from daemon.iteration import iteration_numbers
from storage import checkpoints

MOST_BOXES = 8  # parents beyond are told by number
BOX_WIDTH, BOX_HEIGHT, GAP = 128, 54, 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One checkpoint; `mine` was made by the iteration that is looked at."""

    x: int
    id: str
    number: int
    iteration: int | None
    mine: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestry:
    """A checkpoint and those before it; `older` are not drawn."""

    kind: str
    boxes: Sequence[Box]
    older: int

    @property
    def width(self) -> int:
        return len(self.boxes) * (BOX_WIDTH + GAP) - GAP

    @property
    def height(self) -> int:
        return BOX_HEIGHT

    @property
    def box_width(self) -> int:
        return BOX_WIDTH

    @property
    def says(self) -> str:
        """Its ancestors in a sentence."""
        return " comes from ".join(f"{self.kind} {box.number}" for box in self.boxes)


def ancestry_of(session: Session, checkpoint_id: str, *, iteration_id: str) -> Ancestry:
    """The ancestry of one checkpoint, as an iteration looks at it."""
    rows = checkpoints.ancestry(session, checkpoint_id)
    numbers = iteration_numbers(session, {row.iteration_id for row in rows if row.iteration_id})
    boxes = [
        Box(
            x=place * (BOX_WIDTH + GAP),
            id=row.id,
            number=row.number,
            iteration=numbers.get(row.iteration_id or ""),
            mine=row.iteration_id == iteration_id,
        )
        for place, row in enumerate(rows[:MOST_BOXES])
    ]
    return Ancestry(kind=rows[0].kind.replace("_", " "), boxes=boxes, older=max(0, len(rows) - MOST_BOXES))
