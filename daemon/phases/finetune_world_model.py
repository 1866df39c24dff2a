"""Phase 2: the world model learns from what the robot did, and has to prove it before anybody acts inside it.

What was brought in learns from all episodes of the lineage each time: finetunings that go on from one another
add up their faults, and imagination grows pessimistic (benchmarks/RESULTS.md). Held-out episodes of this
iteration are never trained on. On them the candidate is compared with the current model (the gate): one that
is not better is kept, marked rejected, and the iteration goes on with the old one. The judge then learns what
the ends of episodes look like in the model that goes on, and the trust meter says how far that one may be
believed, and for how many steps the next phase may imagine.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from daemon.learning.devices import choose_device
from daemon.learning.finetune import FinetunedWorldModel, finetune_world_model
from daemon.learning.gate import GateDecision
from daemon.learning.resumable import Resumable
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.reward.judge import WhileItLasts
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.training import TrainingConfig
from daemon.phases.auditing import audit_judge
from daemon.phases.checkpoints import Made, keep, newest, origin_of
from daemon.phases.clips import Shelf, shelf_of
from daemon.phases.closed_loop import MEASURING, acting
from daemon.phases.context import Outcome, PhaseContext
from daemon.phases.film import film_strips, imagined, judged_along
from daemon.phases.gating import face_the_gate
from daemon.phases.judges import judge_for
from daemon.phases.judging import load_judge, teach_judge
from daemon.phases.manifest import Inputs, write_manifest
from daemon.phases.material import Episodes, Material, gather, pools_of, window_of
from daemon.phases.resuming import resumable, resumed
from daemon.phases.trusting import Subject, gate_document, report_trust
from daemon.spec import FinetuneSpec
from storage import checkpoints
from storage.tables import CheckpointRow

log = logging.getLogger(__name__)

LEARNED = 0.6  # share of this phase's time after learning, the gate and the judge: for the bar alone
GATED = 0.75
TEACHING = (GATED, MEASURING)
STATE_EVERY_S = 30.0  # an interrupted training loses at most so much


def run(context: PhaseContext) -> Outcome:
    """Finetune the world model and the judge on the replay store and keep both as checkpoints.

    Raises:
        NothingCollected: there is no episode to train on, or none held out.
        NonFiniteLoss: training diverged; nothing was kept.
        StorageError: an episode or a checkpoint is damaged.
    """
    context.report(0.0, "reading episodes")
    shelf = shelf_of(context)
    read, before, material = begun(context, shelf)
    current, judge = read["world_model"], load_judge(context, read["judge"])
    parent = read.get("world_model_base", current)
    state = state_of(context, material, parent=parent, judge=read["judge"])
    taught = before if parent is current else load_world_model(context, parent)
    done = learn(context, shelf, taught, material=material, judge=judge, state=state)
    faced = face_the_gate(context, material, before=before, after=done.world_model, begun=LEARNED)
    gate = faced.decision
    candidate = keep_candidate(context, done.world_model, material, parent=parent, error=faced.error)
    old = Subject(world_model=before, checkpoint=current, rehearsals=faced.before)
    new = Subject(world_model=done.world_model, checkpoint=candidate, rehearsals=faced.after)
    goes_on = new if gate.accepted else old
    tell_verdict(context, gate, candidate)
    teach_judge(context, judge, world_model=goes_on.world_model, clips=material.labelled, share=TEACHING)
    judge_row = keep_judge(context, judge, material, parent=read["judge"])
    asked = WhileItLasts(judge_for(context, judge, say=partial(context.report, MEASURING)))
    measure = partial(report_trust, context, judge=asked, material=material, policy=read.get("policy"))
    context.report(MEASURING, "measuring how far the world model is to be trusted")
    trust = measure(goes_on, gate=gate if gate.accepted else None)
    context.report(MEASURING, "asking the judge about real ends")
    audit = audit_judge(context, asked, (material.held_out, material.held_out_older))
    if not gate.accepted:
        measure(new, gate=gate)
    state.file.unlink(missing_ok=True)  # not before: who dies while measuring need not train again
    made = {"judge": judge_row.id, **({"world_model": candidate.id} if gate.accepted else {})}
    return {
        "held_out_error": faced.error,
        "held_out_episodes": len(material.held_out),
        "fresh_episodes": len(material.fresh),
        "read": {kind: row.id for kind, row in read.items()},
        "made": made,
        "rejected": {} if gate.accepted else {"world_model": candidate.id},
        "gate": gate_document(gate),
        "trust": trust,
        "judge_audit": audit,
        "judge_exhausted": asked.exhausted,
        "updates": done.updates,
        "left_out": list(done.left_out),
        **shown(context, goes_on.world_model, judge, held_out=material.held_out),
    }


def begun(context: PhaseContext, shelf: Shelf) -> tuple[dict[str, CheckpointRow], WorldModel, Material]:
    """What is read: checkpoints by kind, the current world model, episodes; the manifest says so.

    Among the checkpoints is the world model that is taught, `world_model_base`, where it is not the current.
    """
    read = {kind: newest(context, kind) for kind in ("world_model", "judge")}
    if context.spec.world_model.from_base:
        origin = origin_of(context, read["world_model"])
        if origin.id != read["world_model"].id:
            read["world_model_base"] = origin
    before = load_world_model(context, read["world_model"])
    material = gather(context, shelf, size=before.image_size)
    policy = acting(context, material)
    if policy is not None:
        read["policy"] = policy
    write_manifest(context, Inputs(checkpoints=read, episodes=material.entries))
    return read, before, material


def tell_verdict(context: PhaseContext, gate: GateDecision, candidate: CheckpointRow) -> None:
    if not gate.accepted:
        log.warning(
            "world model rejected iteration=%d checkpoint=%s reason=%s",
            context.iteration_number, candidate.id, "; ".join(gate.reasons),
        )  # fmt: skip


def load_world_model(context: PhaseContext, row: CheckpointRow) -> WorldModel:
    return WorldModel.load(checkpoints.path(row, context.blobs), device=choose_device())


def learn(
    context: PhaseContext,
    shelf: Shelf,
    world_model: WorldModel,
    *,
    material: Material,
    judge: ClassifierJudge,
    state: Resumable,
) -> FinetunedWorldModel:
    """Finetune a copy; every update goes to the curves, the progress bar and the lease's heartbeat."""
    spec = context.spec.world_model
    pools = pools_of(world_model, shelf, material=material, spec=spec, judge=judge)
    window = window_of(world_model, material.clips(spec))
    config = training_config(spec, seed=context.spec.seed, frames=window)

    def on_update(update: int, metrics: Mapping[str, float]) -> None:
        context.record({"update": update, **metrics})
        done = LEARNED * update / max(1, spec.updates)
        context.report(done, f"world model, update {update} of {spec.updates}, loss {metrics['loss']:.4f}")

    def attempt() -> FinetunedWorldModel:
        return finetune_world_model(
            world_model, pools, config=config, on_update=on_update, resumable=state, mixing=spec.mixing
        )

    return resumed(context, state, attempt)


def training_config(spec: FinetuneSpec, *, seed: int, frames: int) -> TrainingConfig:
    """What the spec asks for; `frames` is the window where it asks for none."""
    return TrainingConfig(
        updates=spec.updates,
        batch=spec.batch,
        frames=spec.frames or frames,
        accumulate=spec.accumulate,
        learning_rate=spec.learning_rate,
        optimizer=spec.optimizer,
        ema=spec.ema_decay,
        action_dropout=spec.action_dropout,
        lora_rank=spec.lora_rank,
        forcing=spec.forcing,
        save_memory=spec.save_memory,
        seed=seed,
    )


def state_of(
    context: PhaseContext, material: Material, *, parent: CheckpointRow, judge: CheckpointRow
) -> Resumable:
    """Where this training goes on from when it is interrupted."""
    episodes = sorted(material.learned_from(context.spec.world_model))
    inputs = {"parent": parent.sha256, "judge": judge.sha256, "episodes": episodes}
    return resumable(context, "world_model", inputs=inputs, every_s=STATE_EVERY_S)


def keep_candidate(
    context: PhaseContext,
    world_model: WorldModel,
    material: Material,
    *,
    parent: CheckpointRow,
    error: dict[str, object],
) -> CheckpointRow:
    card: dict[str, Any] = {"held_out_error": error, "iteration": context.iteration_number}
    learned_from = material.learned_from(context.spec.world_model)
    made = Made(kind="world_model", parent=parent, card=card, episode_ids=learned_from)
    return keep(context, world_model, made)


def keep_judge(
    context: PhaseContext, judge: ClassifierJudge, material: Material, *, parent: CheckpointRow
) -> CheckpointRow:
    clips = material.labelled
    card = {"iteration": context.iteration_number, "labelled_episodes": len(clips)}
    made = Made(kind="judge", parent=parent, card=card, episode_ids=[clip.episode_id for clip in clips])
    return keep(context, judge, made)


def shown(
    context: PhaseContext, world_model: WorldModel, judge: ClassifierJudge, *, held_out: Episodes
) -> Outcome:
    """A film strip, and what the judge says along it, of the first held-out episode of each task."""
    films: dict[str, object] = {}
    along: dict[str, object] = {}
    for row, clip in zip(held_out.rows, held_out.clips, strict=True):
        if row.task_id not in films:
            film = imagined(world_model, clip, seed=context.spec.seed)
            films[row.task_id] = film_strips(context.blobs, clip, film)
            along[row.task_id] = judged_along(judge, clip, film)
    return {"film_strips": films, "judge_along": along}
