"""Phase 2: the world model learns from what the robot did, and the judge learns what imagination looks like.

Held-out episodes of this iteration are never trained on; the error on them, before and after, says whether it
helped. The judge sees the last frames of real episodes and of the same episodes imagined by the new world
model, both with the real label: a judge that knows only the camera is easily fooled by a blurred picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from daemon.errors import NothingCollected
from daemon.learning.batch import Clip
from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.finetune import FinetuneConfig, HeldOutError, finetune_world_model, measure_held_out
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.reward.classifier import JUDGED_FRAMES, ClassifierJudge
from daemon.learning.reward.training import JudgeConfig, JudgeExamples, train_judge
from daemon.learning.world_model.model import WorldModel
from daemon.phases.checkpoints import Made, keep, newest
from daemon.phases.clips import load_clips
from daemon.phases.context import Outcome, PhaseContext
from daemon.phases.film import film_strips
from storage import checkpoints, replay
from storage.tables import CheckpointRow

HORIZONS = (1, 10)  # steps at which the held-out error is measured; the last one is the headline
OLDER_EPISODES = 200  # newest episodes of earlier iterations that are mixed in against forgetting
WORLD_MODEL_SHARE = 0.7  # of this phase's time, for the progress bar alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What there is to learn from: this iteration's clips, earlier ones, and those kept for measuring."""

    fresh: Sequence[Clip]
    older: Sequence[Clip]
    held_out: Sequence[Clip]


def run(context: PhaseContext) -> Outcome:
    """Finetune the world model and the judge on the replay store and keep both as checkpoints.

    Raises:
        NothingCollected: the iteration has no episode to train on, or none held out.
        NonFiniteLoss: training diverged; nothing was kept.
        StorageError: an episode or a checkpoint is damaged.
    """
    context.report(0.0, "reading episodes")
    material = gather(context)
    parent = newest(context, "world_model")
    before = load_world_model(context, parent)
    error_before = measure_held_out(before, material.held_out, horizons=HORIZONS, seed=context.spec.seed)
    after = learn(context, before, material)
    error_after = measure_held_out(after, material.held_out, horizons=HORIZONS, seed=context.spec.seed)
    error = held_out_record(error_before, error_after)
    learned_from = [clip.episode_id for clip in (*material.fresh, *material.older)]
    model_card = {"held_out_error": error, "iteration": context.iteration_number}
    world_model_row = keep(
        context,
        after,
        Made(kind="world_model", parent=parent, card=model_card, episode_ids=learned_from),
    )
    judge_parent, judge_row = refresh_judge(context, after, material)
    return {
        "held_out_error": error,
        "held_out_episodes": len(material.held_out),
        "read": {"world_model": parent.id, "judge": judge_parent.id},
        "made": {"world_model": world_model_row.id, "judge": judge_row.id},
        "updates": context.spec.world_model.updates,
        "film_strips": strips(context, after, material.held_out),
    }


def gather(context: PhaseContext) -> Material:
    """Clips of the replay store, decoded once."""
    here = (context.iteration_id,)
    with context.database.read() as session:
        fresh = replay.select(session, replay.EpisodeQuery(iteration_ids=here, held_out=False))
        held_out = replay.select(session, replay.EpisodeQuery(iteration_ids=here, held_out=True))
        earlier = replay.EpisodeQuery(origin="collect", held_out=False, limit=OLDER_EPISODES + len(fresh))
        fresh_ids = {row.id for row in fresh}
        older = [row for row in replay.select(session, earlier) if row.id not in fresh_ids]
        if not fresh or not held_out:
            wanted = "an episode of this iteration " + ("to train on" if not fresh else "that is held out")
            raise NothingCollected(phase="finetune_world_model", wanted=wanted)
        rows = (fresh, older[:OLDER_EPISODES], held_out)
        clips = [load_clips(session, context.blobs, part) for part in rows]
    return Material(fresh=clips[0], older=clips[1], held_out=clips[2])


def load_world_model(context: PhaseContext, row: CheckpointRow) -> WorldModel:
    return WorldModel.load(checkpoints.path(row, context.blobs), device=choose_device())


def learn(context: PhaseContext, world_model: WorldModel, material: Material) -> WorldModel:
    """Finetune a copy; every update goes to the curves, the progress bar and the lease's heartbeat."""
    spec = context.spec.world_model
    config = FinetuneConfig(
        updates=spec.updates,
        batch=spec.batch,
        frames=spec.frames,
        learning_rate=spec.learning_rate,
        fresh_share=spec.fresh_share,
        ema=spec.ema_decay,
        seed=context.spec.seed,
    )

    def on_update(update: int, metrics: Mapping[str, float]) -> None:
        context.record({"update": update, **metrics})
        done = WORLD_MODEL_SHARE * update / max(1, spec.updates)
        context.report(done, f"world model, update {update} of {spec.updates}, loss {metrics['loss']:.4f}")

    return finetune_world_model(
        world_model, material.fresh, material.older, config=config, on_update=on_update
    ).world_model


def refresh_judge(
    context: PhaseContext, world_model: WorldModel, material: Material
) -> tuple[CheckpointRow, CheckpointRow]:
    """Teach the judge the last frames, real and imagined; gives the rows of the old and the new judge."""
    parent = newest(context, "judge")
    device = choose_device()
    judge = ClassifierJudge.load(
        checkpoints.path(parent, context.blobs), device=device, precision=choose_precision(device.type)
    )
    clips = [clip for clip in (*material.fresh, *material.older) if clip.success is not None]
    spec = context.spec.judge
    if clips and spec.updates:
        config = JudgeConfig(updates=spec.updates, lr=spec.learning_rate, seed=context.spec.seed)

        def on_update(update: int, metrics: Mapping[str, float]) -> None:
            context.record({"update": update, **{f"judge_{name}": value for name, value in metrics.items()}})
            done = WORLD_MODEL_SHARE + (1 - WORLD_MODEL_SHARE) * update / spec.updates
            context.report(done, f"judge, update {update} of {spec.updates}")

        examples = last_frames(world_model, clips, seed=context.spec.seed)
        train_judge(judge, examples, config=config, on_update=on_update)
    card = {"iteration": context.iteration_number, "labelled_episodes": len(clips)}
    made = Made(kind="judge", parent=parent, card=card, episode_ids=[clip.episode_id for clip in clips])
    return parent, keep(context, judge, made)


def last_frames(world_model: WorldModel, clips: Sequence[Clip], *, seed: int) -> JudgeExamples:
    """The frames that a judge sees at the end of an episode, real and imagined, all with the real label."""
    imagined = imagined_ends(world_model, clips, seed=seed)  # [X, F, 3, H, W]
    real = torch.stack([clip.frames[-JUDGED_FRAMES:] for clip in clips])  # [X, F, 3, H, W]
    both = torch.cat([real, imagined])  # [2X, F, 3, H, W]
    labels = torch.tensor([bool(clip.success) for clip in clips]).repeat(2)
    instructions = tuple(clip.instruction for clip in clips) * 2
    return JudgeExamples(
        frames=both.flatten(0, 1),
        instructions=tuple(sentence for sentence in instructions for _ in range(JUDGED_FRAMES)),
        success=labels.repeat_interleave(JUDGED_FRAMES),
    )


def imagined_ends(world_model: WorldModel, clips: Sequence[Clip], *, seed: int) -> torch.Tensor:
    """Last frames uint8 [X, F, 3, H, W] imagined from real first frames and real actions, lengths apart."""
    ends: dict[int, torch.Tensor] = {}
    env = ImaginedEnv(world_model, seed=seed)
    for steps in sorted({clip.steps for clip in clips}):
        places = [place for place, clip in enumerate(clips) if clip.steps == steps]
        env.reset(torch.stack([clips[place].frames[0] for place in places]))
        env.step(torch.stack([clips[place].actions for place in places]))
        ends.update(zip(places, env.recent_frames(JUDGED_FRAMES).cpu(), strict=True))
    return torch.stack([ends[place] for place in range(len(clips))])


def held_out_record(before: HeldOutError, after: HeldOutError) -> dict[str, object]:
    """The error as it is told everywhere: mean squared, pixels in [0, 1], at the longest horizon."""
    headline = HORIZONS[-1]
    return {
        "before": before.pixels[headline],
        "after": after.pixels[headline],
        "by_horizon": {
            str(horizon): {
                "before": before.pixels[horizon],
                "after": after.pixels[horizon],
                "still": before.still[horizon],
            }
            for horizon in HORIZONS
        },
        "unit": f"mean squared error of pixels in [0, 1], {headline} steps after a real first frame",
    }


def strips(context: PhaseContext, world_model: WorldModel, held_out: Sequence[Clip]) -> dict[str, object]:
    """One film strip per task, of the first held-out episode of each instruction."""
    with context.database.read() as session:
        by_id = {
            row.id: row.task_id
            for row in replay.select(session, replay.EpisodeQuery(iteration_ids=(context.iteration_id,)))
        }
    shown: dict[str, object] = {}
    for clip in held_out:
        task = by_id[clip.episode_id]
        if task not in shown:
            shown[task] = film_strips(world_model, context.blobs, clip, seed=context.spec.seed)
    return shown
