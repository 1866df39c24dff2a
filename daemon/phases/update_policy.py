"""Phase 3: the policy acts in groups inside the refreshed world model, the judge rewards, GRPO updates.

Starts are the real first observations of this iteration's episodes, or of earlier ones where it does not
collect, and pictures that people brought where the spec asks for them. The world model and the judge are
those that this iteration made, or the current ones; the policy is the champion.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.grpo import ClipRange
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.learner import PolicyUpdateConfig
from daemon.learning.policy.loading import load_policy
from daemon.learning.policy.policy import Policy
from daemon.learning.policy_report import ImaginedSuccess, PolicyUpdateReport
from daemon.learning.policy_update import Arena, update_policy
from daemon.learning.resumable import Resumable
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.rollout import Starts, ToldEnv
from daemon.learning.world_model.model import WorldModel
from daemon.phases.arms import champion
from daemon.phases.auditing import distrusted, last_measured
from daemon.phases.checkpoints import Made, keep, made_by, newest
from daemon.phases.context import Outcome, PhaseContext
from daemon.phases.first_audit import FirstAudit, first_audit
from daemon.phases.judges import judge_for
from daemon.phases.manifest import Inputs, write_manifest
from daemon.phases.real_episodes import all_starts, anchored_episodes, proven_episodes
from daemon.phases.resuming import resumable, resumed
from daemon.phases.telling import ToldUpdates
from daemon.phases.user_starts import brought
from daemon.phases.verdict_log import VerdictLog
from daemon.spec import IterationSpec
from storage import checkpoints, trust_reports
from storage.canonical import json_digest
from storage.tables import CheckpointRow

log = logging.getLogger(__name__)

NOTHING: Outcome = {"imagined_success": {}, "made": {}, "updates": 0, "optimizer_steps": 0}


def run(context: PhaseContext) -> Outcome:
    """Update the policy in imagination and keep it as a candidate.

    Tasks that are not to be trusted are left out; nothing is made where none is left or no group taught.

    Raises:
        NothingCollected: there is no episode to start from.
        NonFiniteLoss: the update diverged; nothing was kept.
        StorageError: an episode or a checkpoint is damaged.
    """
    rows = {kind: refreshed(context, kind) for kind in ("policy", "world_model", "judge")}
    policy, judge, world_model = load(context, rows)
    left_out, audit = left_out_of_it(context, rows, judge, size=world_model.image_size)
    horizon = trusted_steps(context, rows["world_model"])
    own = brought(context, size=world_model.image_size, without=left_out)
    starts, tasks, begun_from = all_starts(context, own, size=world_model.image_size, without=left_out)
    proven, imitated = proven_episodes(context, size=policy.image_size)
    anchored, held = anchored_episodes(context, tasks.values(), size=policy.image_size)
    trusted = {"imagined_steps": horizon, "tasks_left_out": left_out}
    more = {"trusted": trusted, **({"start_images": own.entries} if own.rows else {})}
    read = Inputs(checkpoints=rows, episodes=[*begun_from, *imitated, *held, *audit.entries], more=more)
    write_manifest(context, read)
    done = {**trusted, **audit.outcome, "read": {kind: found.id for kind, found in rows.items()}}
    why_not = _in_the_way(starts, world_model, steps=horizon, chunk=policy.chunk)
    if starts is None or why_not:
        log.warning("no policy update iteration=%d reason=%s", context.iteration_number, why_not)
        return {**done, **NOTHING, "no_update": why_not}
    env = ImaginedEnv(world_model, seed=context.spec.seed, engine=context.settings.imagination_engine)
    progress = ToldUpdates(context, chunks=horizon // policy.chunk)
    state = state_of(context, read, start_images=[row.id for row in own.rows], steps=horizon)
    said, asked = VerdictLog(state.file), judge_for(context, judge, say=progress.say)
    arena = Arena(
        env=ToldEnv(env, progress.chunk),
        judge=asked,
        starts=starts,
        tasks=tasks,
        proven=proven,
        anchored=anchored,
        told=said.add,
    )
    config = config_of(context.spec, policy.chunk, steps=horizon)
    report = resumed(context, state, lambda: updated(policy, arena, config, progress=progress, state=state))
    imagined = rates(report.imagined_success)
    made = {}
    if report.optimizer_steps:  # what is still the champion need not be tried against it
        made["policy"] = keep_candidate(context, policy, imagined, parent=rows["policy"]).id
    did = {**shares_of(report), "frame_passes": env.frame_passes, "verdicts": said.keep(context.blobs)}
    state.file.unlink(missing_ok=True)
    said.drop()
    return {**done, "imagined_success": imagined, "made": made, **did}


def left_out_of_it(
    context: PhaseContext, rows: Mapping[str, CheckpointRow], judge: ClassifierJudge, *, size: int
) -> tuple[dict[str, str], FirstAudit]:
    """Tasks that are not to be trusted, each with the reason, and the audit if it had to be made for that."""
    last = last_measured(context, {kind: row.id for kind, row in rows.items()})
    audit = first_audit(context, judge, last, size=size)
    return distrusted(context, last, audit=audit.outcome), audit


def state_of(context: PhaseContext, read: Inputs, *, start_images: Sequence[str], steps: int) -> Resumable:
    """Where interrupted updates are gone on from; another one where anything that they learn from differs."""
    roles = [[entry["id"], entry["use"]] for entry in read.episodes]
    inputs: dict[str, Any] = {kind: row.sha256 for kind, row in read.checkpoints.items()}
    inputs["episodes"] = json_digest({"roles": roles}, what="the episodes of an update")
    if start_images:
        inputs["start_images"] = " ".join(start_images)
    return resumable(context, "policy", inputs={**inputs, "steps": steps}, every_s=0.0)


def keep_candidate(
    context: PhaseContext, policy: Policy, imagined: dict[str, Any], *, parent: CheckpointRow
) -> CheckpointRow:
    """The updated policy as a checkpoint that the next collection tries."""
    card = {"iteration": context.iteration_number, "imagined_success": imagined}
    return keep(context, policy, Made(kind="policy", parent=parent, card=card))


def _in_the_way(starts: Starts | None, world_model: WorldModel, *, steps: int, chunk: int) -> str | None:
    """Why nothing is to be imagined and so nothing made; None where something is."""
    if starts is None:
        return "no task is trusted"
    if steps < chunk:
        return f"the world model is trusted for {steps} steps, and the policy decides on {chunk} at once"
    if chunk % (stride := world_model.stride):
        return f"the world model imagines every {stride} steps, and the policy decides on {chunk} at once"
    return None


def shares_of(report: PolicyUpdateReport) -> dict[str, Any]:
    """What all updates together did, as the record holds it."""
    told = ("updates", "optimizer_steps", "known_share", "informative_share", "wasted_rollouts")
    return {name: getattr(report, name) for name in told}


def load(
    context: PhaseContext, rows: Mapping[str, CheckpointRow]
) -> tuple[Policy, ClassifierJudge, WorldModel]:
    """The three models, on this machine's device; the policy with the adapters that are to learn."""
    context.report(0.0, "loading the models")
    device = choose_device()
    precision = choose_precision(device.type)
    files = {kind: checkpoints.path(row, context.blobs) for kind, row in rows.items()}
    policy = load_policy(files["policy"], device=device, precision=precision)
    if context.spec.policy.lora_rank:
        policy.adapt(rank=context.spec.policy.lora_rank, seed=context.spec.seed)
    judge = ClassifierJudge.load(files["judge"], device=device, precision=precision)
    world_model = WorldModel.load(files["world_model"], device=device)
    sizes = policy.image_size, world_model.image_size
    if sizes[0] > sizes[1]:
        log.warning("imagination is coarser than the robot policy_pixels=%d world_model_pixels=%d", *sizes)
    return policy, judge, world_model


def updated(
    policy: Policy, arena: Arena, config: PolicyUpdateConfig, *, progress: ToldUpdates, state: Resumable
) -> PolicyUpdateReport:
    """All updates, from the first or from where they were interrupted."""
    if not state.file.is_file():
        VerdictLog(state.file).drop()  # they begin anew
    return update_policy(
        policy,
        arena,
        config=config,
        on_update=progress.update,
        on_step=progress.step,
        resumable=state,
    )


def refreshed(context: PhaseContext, kind: str) -> CheckpointRow:
    """The champion; of the others what this iteration's finetuning made, else what is current."""
    if kind == "policy":
        return champion(context)
    with context.database.read() as session:
        made = made_by(session, context.iteration_id, phase="finetune_world_model", kind=kind)
    if made is not None:
        return made
    return newest(context, kind)


def trusted_steps(context: PhaseContext, world_model: CheckpointRow) -> int:
    """How long rollouts may be: an episode's length, or less where the world model is not believed so far."""
    with context.database.read() as session:
        reports = trust_reports.of_checkpoint(session, world_model.id)
    return min(context.spec.steps, reports[0].horizon) if reports else context.spec.steps


def config_of(spec: IterationSpec, chunk: int, *, steps: int) -> PolicyUpdateConfig:
    """What the spec asks for, of a policy with chunks of so many actions, in rollouts of so many steps."""
    own = spec.policy
    return PolicyUpdateConfig(
        updates=own.updates,
        groups=own.groups,
        group_size=own.group_size,
        chunks=steps // chunk,
        informative_groups=own.informative_groups,
        most_batches=own.most_batches,
        by_promise=own.start_curriculum,
        common_noise=own.common_noise,
        stop_on_success=spec.stop_on_success,
        remote_judge=spec.judge.kind == "vlm_http",
        temperature=own.temperature,
        lr=own.learning_rate,
        clip=ClipRange(low=own.clip_low, high=own.clip_high),
        ratio_of=own.ratio_of,
        kl=own.kl,
        imitation=own.imitation,
        anchor=own.anchor,
        epochs=own.epochs,
        minibatch=own.minibatch,
        accumulate=own.accumulate,
        seed=spec.seed,
    )


def rates(imagined: Mapping[str, ImaginedSuccess]) -> dict[str, dict[str, float | int | None]]:
    """Imagined success per task at the first update and over the last ones, as the record holds it."""
    return {
        task: {"first": success.first, "last": success.last, "rollouts": success.rollouts}
        for task, success in imagined.items()
    }
