"""Which policy is the champion of a lineage, and how it became so: one row per decision, never changed.

A candidate is tried against the champion on the robot; what is decided, and by which numbers, is the daemon's
business. The champion is what the newest decision of the lineage's iterations says goes on.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage import checkpoints, events
from storage.canonical import as_json
from storage.db import serialise
from storage.lineages import in_lineage
from storage.tables import TrialRow

PROMOTED, REJECTED, UNDECIDED = "promoted", "rejected", "undecided"
ROLLED_BACK, ADOPTED = "rolled_back", "adopted"
OF_TRIALS = (PROMOTED, REJECTED, UNDECIDED)  # what a trial on the robot comes to
CHANGES = (PROMOTED, ROLLED_BACK, ADOPTED)  # after these the candidate goes on

BY = "by"  # in the evidence of what people decided: who did
LONGEST_TRIAL = 100  # iterations that are looked back over; a spec carries a trial on ten times at most


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTrial:
    """A decision, and what it rests on.

    Attributes:
        champion_id: the policy that was champion.
        candidate_id: the one that was to take its place; after a rollback, the champion of before.
    """

    iteration_id: str | None
    champion_id: str
    candidate_id: str
    decision: str
    evidence: Mapping[str, Any]


def save(session: Session, new: NewTrial, *, now: datetime) -> TrialRow:
    """Add a decision; it is in force at once.

    Raises:
        RowMissing: there is no such checkpoint.
        NotJson: the evidence holds something that JSON cannot, such as NaN.
    """
    serialise(session, "trials")
    for checkpoint_id in (new.champion_id, new.candidate_id):
        checkpoints.get(session, checkpoint_id)
    row = TrialRow(
        number=1 + (session.scalar(sa.select(sa.func.max(TrialRow.number))) or 0),
        iteration_id=new.iteration_id,
        champion_id=new.champion_id,
        candidate_id=new.candidate_id,
        goes_on_id=new.candidate_id if new.decision in CHANGES else new.champion_id,
        decision=new.decision,
        evidence=as_json(new.evidence, what="the evidence of a trial"),
        decided_at=now,
    )
    session.add(row)
    session.flush()
    policies = {"champion_id": row.champion_id, "candidate_id": row.candidate_id}
    facts = {**policies, "goes_on_id": row.goes_on_id, "trial": row.number}
    events.note(session, f"trial_{new.decision}", at=now, facts=facts, iteration_id=new.iteration_id)
    return row


def latest(session: Session, lineage: str, *, besides: str | None = None) -> TrialRow | None:
    """The decision that is in force in a lineage, or was before the iteration `besides` decided anything."""
    return session.scalars(_newest_first(lineage, besides=besides).limit(1)).first()


def undecided(session: Session, lineage: str, *, besides: str) -> list[TrialRow]:
    """The undecided decisions that a lineage's newest trial consists of, one an iteration, oldest first.

    Empty where the newest trial was decided. A rollback or an adoption since is no trial.

    Args:
        besides: what this iteration decided is left out, so that it finds the same before and after.
    """
    query = _newest_first(lineage, besides=besides).where(TrialRow.decision.in_(OF_TRIALS))
    rows = session.scalars(query.limit(LONGEST_TRIAL)).all()
    found = takewhile(lambda row: row.decision == UNDECIDED and _pair(row) == _pair(rows[0]), rows)
    return [row for row in found if row.iteration_id is not None][::-1]


def of_iteration(session: Session, iteration_id: str) -> list[TrialRow]:
    """What an iteration decided, in order."""
    query = sa.select(TrialRow).where(TrialRow.iteration_id == iteration_id)
    return list(session.scalars(query.order_by(TrialRow.number)))


def policies_that_went_on(session: Session, iteration_ids: Collection[str]) -> dict[str, str]:
    """By iteration, the policy that its trial let go on; where nothing was decided, none."""
    query = sa.select(TrialRow.iteration_id, TrialRow.goes_on_id).where(
        TrialRow.iteration_id.in_(iteration_ids), TrialRow.decision.in_(OF_TRIALS)
    )
    first: dict[str, str] = {}
    for iteration_id, goes_on_id in session.execute(query.order_by(TrialRow.number)):
        first.setdefault(str(iteration_id), goes_on_id)
    return first


def crowning(session: Session, champion_id: str, *, lineage: str) -> TrialRow | None:
    """The decision by which this policy last became champion of a lineage."""
    query = sa.select(TrialRow).where(
        TrialRow.goes_on_id == champion_id,
        TrialRow.decision.in_(CHANGES),
        in_lineage(TrialRow.iteration_id, lineage),
    )
    return session.scalars(query.order_by(TrialRow.number.desc()).limit(1)).first()


def before(session: Session, champion_id: str, *, lineage: str) -> str | None:
    """The champion whose place this policy took in a lineage; None where it took nobody's.

    That it came back itself when another was rolled back does not count: its own predecessor is asked for.
    """
    query = sa.select(TrialRow.champion_id).where(
        TrialRow.goes_on_id == champion_id,
        TrialRow.decision.in_((PROMOTED, ADOPTED)),
        in_lineage(TrialRow.iteration_id, lineage),
    )
    return session.scalars(query.order_by(TrialRow.number.desc()).limit(1)).first()


def by_people(row: TrialRow) -> bool:
    """Whether somebody decided this, and not what a policy did on the robot."""
    return BY in row.evidence


def was_tried(session: Session, checkpoint_id: str, *, lineage: str) -> bool:
    """Whether a lineage decided something about this policy as a candidate."""
    query = sa.select(TrialRow.id).where(
        TrialRow.candidate_id == checkpoint_id, in_lineage(TrialRow.iteration_id, lineage)
    )
    return session.scalars(query.limit(1)).first() is not None


def _pair(row: TrialRow) -> tuple[str, str]:
    return row.champion_id, row.candidate_id


def _newest_first(lineage: str, *, besides: str | None) -> sa.Select[TrialRow]:
    query = sa.select(TrialRow).where(in_lineage(TrialRow.iteration_id, lineage))
    if besides is not None:
        query = query.where(sa.or_(TrialRow.iteration_id.is_(None), TrialRow.iteration_id != besides))
    return query.order_by(TrialRow.number.desc())
