"""Who acts in a collect phase: the champion of its lineage, and a candidate that wants to take its place.

The champion is what the newest decision says (`storage.trials`). The candidate is the newest policy after it
that a finished phase made, or that was brought in, and about which nothing was decided yet. A candidate whose
trial is carried on (`carrying`) comes before it: the newer one waits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from daemon.errors import ContractMismatch
from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.policy.contract import ActionContract
from daemon.learning.policy.loading import load_policy
from daemon.learning.policy.policy import AdaptersUnknown, Policy
from daemon.phases.carrying import Carried
from daemon.phases.checkpoints import current
from daemon.phases.context import PhaseContext
from daemon.phases.slots import CHAMPION
from robot_bridge.episode import PolicyRef
from storage import adoption, checkpoints, manifests, phase_runs, trials
from storage.blobs import BlobStore
from storage.db import Database
from storage.tables import CheckpointRow

CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One of the policies that act. The robot and whoever judges there see an id, not which arm it is."""

    name: str
    row: CheckpointRow
    policy: Policy

    @property
    def ref(self) -> PolicyRef:
        return PolicyRef(name="policy", version=self.row.id, digest=f"sha256:{self.row.sha256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """The policies of one collect phase.

    Attributes:
        carried: the trial of before that goes on with them.
        not_carried: why one that was undecided does not.
    """

    champion: Arm
    candidate: Arm | None = None
    carried: Carried | None = None
    not_carried: str | None = None

    @property
    def every(self) -> tuple[Arm, ...]:
        return (self.champion,) if self.candidate is None else (self.champion, self.candidate)

    def named(self, name: str) -> Arm:
        return next(arm for arm in self.every if arm.name == name)

    def version(self, checkpoint_id: str) -> Arm:
        """The arm whose policy is this checkpoint."""
        return next(arm for arm in self.every if arm.row.id == checkpoint_id)


def require_contract(arms: Arms, robot: ActionContract, *, station: str) -> None:
    """Refuse a robot at which an action means something else than to one of the policies.

    Raises:
        ContractMismatch: names what differs; nothing has moved.
    """
    for arm in arms.every:
        if differences := arm.policy.contract.differences(robot):
            policy = f"policy {arm.row.number} ({arm.row.id})"
            raise ContractMismatch(policy=policy, station=station, differences=differences)


def champion(context: PhaseContext) -> CheckpointRow:
    """`champion_of`, asked by a phase."""
    lineage, preset = context.spec.lineage, context.settings.preset
    return champion_of(context.database, context.blobs, lineage=lineage, preset=preset, now=context.now())


def champion_of(
    database: Database, blobs: BlobStore, *, lineage: str, preset: str, now: datetime
) -> CheckpointRow:
    """The policy to act and to go on from; the preset's committed base where nothing was decided yet.

    Raises:
        AssetMissing: this installation has no base checkpoint of the preset.
        StorageError: the store cannot take or read it.
    """
    with database.read() as session:
        found = adoption.champion(session, lineage)
    return found or current(database, blobs, "policy", lineage=lineage, preset=preset, now=now)


def candidate(context: PhaseContext, champion: CheckpointRow) -> CheckpointRow | None:
    """The policy to be tried against the champion; None when there is none.

    Where an attempt before this one has begun with the same champion it is the one of then, or none as then:
    one that was made or brought in since waits for the next iteration.
    """
    lineage = context.spec.lineage
    with context.database.read() as session:
        begun = _begun_with(session, context)
        for row in adoption.adoptable(session, "policy", lineage=lineage):
            may_act = begun.get("policy") != champion.id or begun.get("candidate") == row.id
            newer = may_act and row.number > champion.number
            if newer and not trials.was_tried(session, row.id, lineage=lineage):
                return row
    return None


def load_arms(context: PhaseContext, *, carried: Carried | None = None) -> Arms:
    """The policies that act in this iteration, the same ones however often its collect phase is attempted.

    Without trials (`spec.trial.enabled` false) a candidate is adopted before it acts.

    Args:
        carried: the trial that goes on; its candidate acts before any newer one.

    Raises:
        AssetMissing, StorageError, CheckpointUnreadable: a policy is not there, or damaged.
        LeaseLost: another worker has this phase run by now.
        AdaptersUnknown: the spec wants adapters to learn, of a policy that has none.
    """
    with context.database.read() as session:
        first = next(iter(trials.of_iteration(session, context.iteration_id)), None)
        if first is not None and first.decision != trials.ADOPTED:
            old, new = (checkpoints.get(session, id_) for id_ in (first.champion_id, first.candidate_id))
            if first.decision == trials.ROLLED_BACK:  # the champion that acted alone
                return Arms(champion=_arm(context, CHAMPION, old))
            return _both(context, old, new, carried=carried)
    old = champion(context)
    newer = candidate(context, old) if carried is None else carried.candidate
    if newer is None:
        return Arms(champion=_arm(context, CHAMPION, old))
    if not context.spec.trial.enabled:
        record(context, old, newer, decision=trials.ADOPTED, evidence={})
        return Arms(champion=_arm(context, CHAMPION, newer))
    return _both(context, old, newer, carried=carried)


def record(
    context: PhaseContext,
    champion: CheckpointRow,
    candidate: CheckpointRow,
    *,
    decision: str,
    evidence: Mapping[str, Any],
) -> None:
    """Keep a decision; it is in force at once.

    Raises:
        LeaseLost: another worker has this phase run by now; nothing was decided.
    """
    new = trials.NewTrial(
        iteration_id=context.iteration_id,
        champion_id=champion.id,
        candidate_id=candidate.id,
        decision=decision,
        evidence=evidence,
    )
    with context.database.write() as session:
        phase_runs.require_held(session, context.phase_run_id, fence=context.fence)
        trials.save(session, new, now=context.now())


def _begun_with(session: Session, context: PhaseContext) -> dict[str, str]:
    """Ids of the checkpoints that an attempt before this one at the collect phase began with, by kind."""
    kept = manifests.of_iteration(session, context.iteration_id).get("collect")
    if kept is None:
        return {}
    return {kind: own["id"] for kind, own in json.loads(kept.manifest.content)["checkpoints"].items()}


def _both(context: PhaseContext, old: CheckpointRow, new: CheckpointRow, *, carried: Carried | None) -> Arms:
    champion, candidate = _arm(context, CHAMPION, old), _arm(context, CANDIDATE, new)
    return Arms(champion=champion, candidate=candidate, carried=carried)


def _arm(context: PhaseContext, name: str, row: CheckpointRow) -> Arm:
    device = choose_device()
    file = checkpoints.path(row, context.blobs)
    policy = load_policy(file, device=device, precision=choose_precision(device.type))
    if context.spec.policy.lora_rank and not policy.takes_adapters:
        raise AdaptersUnknown  # here, before the robot has moved for an update that cannot be
    return Arm(name=name, row=row, policy=policy)
