"""Which checkpoints a lineage may go on from, and which policy is its champion.

What an attempt saved before it was killed stays, but nobody goes on from it; nor from what was brought in to
be kept only.
"""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import checkpoints, lineages, trials
from storage.tables import CheckpointRow, PhaseRunRow

CANDIDATE = "candidate"  # in a card: true for a checkpoint that nobody adopted


def adoptable(session: Session, kind: str, *, lineage: str) -> list[CheckpointRow]:
    """Checkpoints that a lineage may go on from: brought in, or made by its finished phases; newest first.

    Those whose files were let go are none of them.
    """
    finished = sa.select(PhaseRunRow.outcome).where(PhaseRunRow.state == "finished")
    made = {(outcome or {}).get("made", {}).get(kind) for outcome in session.scalars(finished)}
    query = sa.select(CheckpointRow).where(
        CheckpointRow.kind == kind, CheckpointRow.retired_at.is_(None), checkpoints.may_be_of(lineage)
    )
    return [
        row
        for row in session.scalars(query.order_by(CheckpointRow.number.desc()))
        if row.id in made or (row.iteration_id is None and not row.card.get(CANDIDATE))
    ]


def champion(session: Session, lineage: str) -> CheckpointRow | None:
    """The policy that a lineage acts with; before any decision the oldest that it may go on from, if any."""
    decided = trials.latest(session, lineage)
    if decided is not None:
        return checkpoints.get(session, decided.goes_on_id)
    return next(reversed(adoptable(session, "policy", lineage=lineage)), None)


def champions(session: Session) -> dict[str, CheckpointRow]:
    """The champion of every lineage that has one."""
    found = {name: champion(session, name) for name in lineages.with_main(session)}
    return {name: row for name, row in found.items() if row is not None}


def newest(session: Session, kind: str) -> dict[str, CheckpointRow]:
    """Of every lineage the newest checkpoint of a kind that it may go on from."""
    found = {name: adoptable(session, kind, lineage=name)[:1] for name in lineages.with_main(session)}
    return {name: rows[0] for name, rows in found.items() if rows}
