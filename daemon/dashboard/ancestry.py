"""Where a checkpoint comes from, as a graph: the newest on top, its parent below, beside each what was made
of the same parent. It is as narrow as a phone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from daemon.iteration import iteration_numbers
from storage import checkpoints, overviews
from storage.tables import CheckpointRow, IterationRow

MOST_ROWS = 8  # generations; those before are told by number
MOST_BESIDE = 2  # of one parent, beside the one that led here; the others are told by number
BOX_WIDTH, BOX_HEIGHT, GAP, DROP = 108, 58, 14, 26  # user units: with its margin 356 of a phone's 366
LONGEST_NAME = 14  # of a lineage, in letters that fit in a box


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One checkpoint; `mine` was made by the iteration that is looked at, `beside` led to no other here."""

    row: int
    column: int
    id: str
    number: int
    iteration: int | None
    mine: bool = False
    rejected: bool = False
    lineage: str | None = None  # where it is another one

    @property
    def x(self) -> int:
        return self.column * (BOX_WIDTH + GAP)

    @property
    def y(self) -> int:
        return self.row * (BOX_HEIGHT + DROP)

    @property
    def standing(self) -> str:
        """What is to be said of it in its last line."""
        if self.rejected:
            return "rejected"
        if self.mine:
            return "made here"
        name = self.lineage or ""
        return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestry:
    """A checkpoint and those before it; `older` generations and `beside` further children are not drawn."""

    kind: str
    boxes: Sequence[Box]
    older: int
    beside: int

    @property
    def line(self) -> list[Box]:
        """The checkpoint, its parent, and so on."""
        return [box for box in self.boxes if box.column == 0]

    @property
    def edges(self) -> list[str]:
        """From each parent up to its children, as paths."""
        middle = BOX_WIDTH // 2
        parents = {box.row: box for box in self.line}
        return [
            f"M{parent.x + middle},{parent.y} V{parent.y - DROP // 2} H{box.x + middle} V{box.y + BOX_HEIGHT}"
            for box in self.boxes
            if (parent := parents.get(box.row + 1)) is not None
        ]

    @property
    def width(self) -> int:
        return max(box.x for box in self.boxes) + BOX_WIDTH

    @property
    def height(self) -> int:
        return max(box.y for box in self.boxes) + BOX_HEIGHT

    @property
    def box_width(self) -> int:
        return BOX_WIDTH

    @property
    def box_height(self) -> int:
        return BOX_HEIGHT

    @property
    def says(self) -> str:
        """Its ancestors in a sentence, and what was rejected on the way."""
        line = " comes from ".join(f"{self.kind} {box.number}" for box in self.line)
        rejected = [str(box.number) for box in self.boxes if box.rejected]
        return f"{line}; rejected: {', '.join(rejected)}" if rejected else line


def ancestry_of(session: Session, checkpoint_id: str, *, seen_from: IterationRow) -> Ancestry:
    """The ancestry of one checkpoint, as an iteration looks at it.

    Raises:
        RowMissing: there is no such checkpoint.
    """
    line = checkpoints.ancestry(session, checkpoint_id, limit=MOST_ROWS)
    parents = [row.parent_id for row in line if row.parent_id is not None]
    beside = besides(checkpoints.children(session, parents), line)
    drawn = [
        (row, place, column)
        for place, own in enumerate(line)
        for column, row in enumerate([own, *beside.get(own.parent_id or "", ())[:MOST_BESIDE]])
    ]
    rows = [row for row, _, _ in drawn]
    numbers = iteration_numbers(session, {row.iteration_id for row in rows if row.iteration_id})
    rejected = overviews.rejected_among(session, [row.id for row in rows])
    boxes = [
        Box(
            row=place,
            column=column,
            id=row.id,
            number=row.number,
            iteration=numbers.get(row.iteration_id or ""),
            mine=row.iteration_id == seen_from.id,
            rejected=row.id in rejected,
            lineage=row.lineage if row.lineage != seen_from.lineage else None,
        )
        for row, place, column in drawn
    ]
    return Ancestry(
        kind=line[0].kind.replace("_", " "),
        boxes=boxes,
        older=checkpoints.generations(session, line[-1].id) - 1,
        beside=sum(len(own[MOST_BESIDE:]) for own in beside.values()),
    )


def besides(
    children: Sequence[CheckpointRow], line: Sequence[CheckpointRow]
) -> dict[str, list[CheckpointRow]]:
    """By parent, its children that are not in the line, the newest first."""
    inside = {row.id for row in line}
    found: dict[str, list[CheckpointRow]] = {}
    for row in children:
        if row.id not in inside:
            found.setdefault(str(row.parent_id), []).append(row)
    return found
