"""What people do to an iteration: pause, resume, cancel, retry it, skip one of its phases.

Every act answers with the iteration as it is then, and goes to the audit log with the one who asked. What the
state does not allow is a 409 `illegal_move`. A key makes an act happen once however often it is sent: one
that was resumed and paused since is not resumed again by a request that comes late.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from daemon.api.iterations import IdempotencyKey
from daemon.api.pages import Number
from daemon.api.schemas import IterationRecord
from daemon.api.security import Actor
from daemon.api.services import Services, Wired
from daemon.iteration import completed, find_iteration, iteration_standing
from daemon.spec import PhaseName
from storage import audit, request_keys, steering
from storage.tables import IterationRow

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/iterations/{number}", tags=["iterations"])

Act = Callable[[Session, str, datetime], object]


class PhaseToSkip(BaseModel):
    """Which phase the iteration is to do without."""

    model_config = ConfigDict(extra="forbid")

    phase: PhaseName


@router.post("/pause", response_model=IterationRecord)
def pause(
    number: Number, services: Wired, actor: Actor, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Let it wait where it is, and those after it with it. A phase that runs stops at its next report.

    Until it has, the record's `wish` is "pause". What the phase has done is kept; it goes on from there.
    """
    return steered(
        services, number, act="paused", key=idempotency_key, do=acting(steering.pause), actor=actor
    )


@router.post("/resume", response_model=IterationRecord)
def resume(
    number: Number, services: Wired, actor: Actor, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Let a paused one go on, or take back that it was to be paused."""
    return steered(
        services, number, act="resumed", key=idempotency_key, do=acting(steering.resume), actor=actor
    )


@router.post("/cancel", response_model=IterationRecord)
def cancel(
    number: Number, services: Wired, actor: Actor, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """End it for good. A phase that runs is told at its next heartbeat and lets go of the robot."""
    return steered(
        services, number, act="cancelled", key=idempotency_key, do=acting(steering.cancel), actor=actor
    )


@router.post("/retry", response_model=IterationRecord)
def retry(
    number: Number, services: Wired, actor: Actor, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Let a failed one go on from the phase that failed, with fresh attempts, when its turn comes."""
    return steered(
        services, number, act="retried", key=idempotency_key, do=acting(steering.retry), actor=actor
    )


@router.post("/skip", response_model=IterationRecord)
def skip(
    number: Number,
    wanted: PhaseToSkip,
    services: Wired,
    actor: Actor,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Let it do without a phase that has not finished. A failed one goes on without the phase that failed.

    Without finetuning, the policy learns in the current world model; without an update there is no new
    candidate; without collecting, the others learn from what earlier iterations collected.
    """

    def do(session: Session, iteration_id: str, now: datetime) -> object:
        return steering.skip(session, iteration_id, phase=wanted.phase, now=now)

    return steered(services, number, act=f"skipped_{wanted.phase}", key=idempotency_key, do=do, actor=actor)


def acting(act: Callable[..., IterationRow]) -> Act:
    return lambda session, iteration_id, now: act(session, iteration_id, now=now)


def steered(
    services: Services, number: int, *, act: str, key: str | None, do: Act, actor: str
) -> dict[str, Any]:
    """Do an act and note it in one transaction; an act whose key is noted already is not done again."""
    now, action, subject = services.now(), f"iteration_{act}", f"iteration {number}"
    with services.database.write() as session:
        row = find_iteration(session, number)

        def steer() -> str:
            before = row.state
            do(session, row.id, now)
            facts = {"from": before, "to": row.state, "wish": row.wish, "idempotency_key": key}
            audit.write(session, actor, action=action, subject=subject, facts=facts, now=now)
            log.info(
                "iteration steered iteration=%d act=%s from=%s to=%s wish=%s",
                number, act, before, row.state, row.wish,
            )  # fmt: skip
            return row.id

        request_keys.once(session, key, scope=f"{subject} {act}", request={}, make=steer, now=now)
        standing = iteration_standing(session, row)
    with services.database.read() as session:
        return completed(session, row, standing)
