"""What people decide about champions: a policy is promoted without a trial, or rolled back to the one before.

Both are decisions like those of trials, in force at once, and go to the audit log with the one who asked.
While an iteration of the lineage is in work nothing is decided: it has begun with a champion, and what its
trial comes to would undo the decision.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter
from sqlalchemy.orm import Session

from daemon.api.checkpoints import CheckpointId, found_of_kind
from daemon.api.errors import LineageBusy, NoChampionBefore, NotChampion, PolicyUnfit
from daemon.api.iterations import IdempotencyKey
from daemon.api.lab_schemas import ChampionWish, Policy
from daemon.api.policies import KIND, policy_record
from daemon.api.security import Actor
from daemon.api.services import Services, Wired
from daemon.iteration import require_lineage
from storage import adoption, audit, checkpoints, iterations, request_keys, trials
from storage.db import serialise
from storage.errors import Retired
from storage.lineages import MAIN
from storage.tables import CheckpointRow, IterationRow

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/policies/{checkpoint_id}", tags=["policies"])

FOR_GOOD = ("finished", "cancelled")  # an iteration that failed may be tried again
Successor = Callable[[Session, CheckpointRow, str], tuple[CheckpointRow, CheckpointRow] | None]


@router.post("/promote", response_model=Policy)
def promote(
    checkpoint_id: CheckpointId,
    services: Wired,
    actor: Actor,
    wish: ChampionWish | None = None,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Make a policy the champion without a trial. One that is it already stays it, and nothing is noted.

    No later measurement rolls it back by itself: who promotes it takes it back.
    """
    return decided(services, checkpoint_id, act=trials.ADOPTED, wish=wish, key=idempotency_key, actor=actor)


@router.post("/rollback", response_model=Policy)
def roll_back(
    checkpoint_id: CheckpointId,
    services: Wired,
    actor: Actor,
    wish: ChampionWish | None = None,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Put the policy whose place this champion took back; gives that one. 409: it is not the champion."""
    return decided(
        services, checkpoint_id, act=trials.ROLLED_BACK, wish=wish, key=idempotency_key, actor=actor
    )


def decided(
    services: Services,
    checkpoint_id: str,
    *,
    act: str,
    wish: ChampionWish | None,
    key: str | None,
    actor: str,
) -> dict[str, Any]:
    """Decide and note it in one transaction; what was decided under this key is not decided again."""
    now, wish = services.now(), wish or ChampionWish()
    successor = {trials.ADOPTED: promoted, trials.ROLLED_BACK: rolled_back}[act]
    with services.database.write() as session:
        row = found_of_kind(session, None if act == trials.ADOPTED else KIND, checkpoint_id)
        lineage = wish.lineage or row.lineage or MAIN
        require_lineage(session, lineage)
        request = {"lineage": lineage, "reason": wish.reason}

        def decide() -> str:
            serialise(session, iterations.TURNS)  # so that no iteration begins meanwhile
            found = successor(session, row, lineage)
            if found is None:
                return row.id
            require_idle(session, lineage)
            before, after = found
            evidence = {trials.BY: actor, "reason": wish.reason}
            new = trials.NewTrial(
                iteration_id=iteration_to_note_at(session, lineage),
                champion_id=before.id,
                candidate_id=after.id,
                decision=act,
                evidence=evidence,
            )
            trials.save(session, new, now=now)
            note(session, actor, act=act, facts={**request, "from": before.id, "to": after.id}, now=now)
            return after.id

        goes_on, _ = request_keys.once(
            session, key, scope=f"policy {checkpoint_id} {act}", request=request, make=decide, now=now
        )
        return policy_record(session, checkpoints.get(session, goes_on))


def promoted(
    session: Session, row: CheckpointRow, lineage: str
) -> tuple[CheckpointRow, CheckpointRow] | None:
    """The champion of now and the policy that takes its place; None where it is the champion already.

    Raises:
        PolicyUnfit: it is no policy, or another lineage's, or nobody may go on from it.
        Retired: its file was let go.
    """
    why = unfit(session, row, lineage)
    if why is not None:
        raise PolicyUnfit(checkpoint_id=row.id, lineage=lineage, why=why)
    require_file(row)
    champion = adoption.champion(session, lineage)
    if champion is None:
        why = "the lineage has no champion yet whose place it could take; its first iteration begins with one"
        raise PolicyUnfit(checkpoint_id=row.id, lineage=lineage, why=why)
    return None if champion.id == row.id else (champion, row)


def rolled_back(session: Session, row: CheckpointRow, lineage: str) -> tuple[CheckpointRow, CheckpointRow]:
    """The champion and the policy whose place it took.

    Raises:
        NotChampion: another is.
        NoChampionBefore: it took nobody's place.
        Retired: the file of the one before was let go.
    """
    champion = adoption.champion(session, lineage)
    if champion is None or champion.id != row.id:
        found = None if champion is None else champion.id
        raise NotChampion(checkpoint_id=row.id, lineage=lineage, champion=found)
    before = trials.before(session, row.id, lineage=lineage)
    if before is None:
        raise NoChampionBefore(checkpoint_id=row.id, lineage=lineage)
    back = checkpoints.get(session, before)
    require_file(back)
    return row, back


def unfit(session: Session, row: CheckpointRow, lineage: str) -> str | None:
    """Why this checkpoint cannot be the champion of a lineage."""
    if row.kind != KIND:
        return f"it is a {row.kind}, and a policy is wanted"
    if row.lineage not in {None, lineage}:
        return f"it is of lineage {row.lineage}, and only iterations of that one go on from it"
    made_here = row.iteration_id is not None and row.retired_at is None
    if made_here and row.id not in {each.id for each in adoption.adoptable(session, KIND, lineage=lineage)}:
        return "the phase that saved it did not finish, or decided against it"
    return None


def require_file(row: CheckpointRow) -> None:
    if row.retired_at is not None:
        raise Retired(what=f"policy checkpoint {row.id}", at=row.retired_at)


def require_idle(session: Session, lineage: str) -> None:
    """Let a decision pass while no iteration of the lineage is in work; one that waits has begun nothing.

    Raises:
        LineageBusy: one is, maybe paused.
    """
    for row in iterations.unfinished(session):
        if row.lineage == lineage and row.started_at is not None:
            raise LineageBusy(lineage=lineage, number=row.number, state=row.state)


def iteration_to_note_at(session: Session, lineage: str) -> str | None:
    """Where a decision of people is kept: main's at no iteration, another lineage's at its last one.

    Raises:
        LineageBusy: every iteration of the lineage may still begin, or begin again.
    """
    if lineage == MAIN:
        return None
    newest = sa.select(IterationRow).where(IterationRow.lineage == lineage)
    newest = newest.order_by(IterationRow.number.desc()).limit(1)
    over = session.scalars(newest.where(IterationRow.state.in_(FOR_GOOD))).first()
    if over is None:
        row = session.scalars(newest).one()
        raise LineageBusy(lineage=lineage, number=row.number, state=row.state)
    return over.id


def note(session: Session, actor: str, *, act: str, facts: dict[str, Any], now: datetime) -> None:
    """Write an act on a policy into the audit log."""
    action = {trials.ADOPTED: "policy_promoted", trials.ROLLED_BACK: "policy_rolled_back"}[act]
    whose = facts["to"] if act == trials.ADOPTED else facts["from"]
    audit.write(session, actor, action=action, subject=f"policy {whose}", facts=facts, now=now)
    log.info(
        "champion changed by=%s act=%s lineage=%s from=%s to=%s",
        actor, act, facts["lineage"], facts["from"], facts["to"],
    )  # fmt: skip
