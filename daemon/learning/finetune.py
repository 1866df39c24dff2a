"""Bringing a world model up to date with what the robot did last, and measuring whether it helped.

Finetuning works on a copy: the world model that it starts from is never changed. Fresh episodes are mixed
with base ones, so that what the robot did not do lately is not forgotten.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daemon.learning.batch import Clip, NoWindow
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.world_model.latents import LatentClips, encode_clips
from daemon.learning.world_model.model import WorldModel
from daemon.learning.world_model.training import TrainingConfig, train_transformer

HELD_OUT_BATCH = 64  # rollouts at once while measuring

OnUpdate = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig:
    """One finetuning run; the fields mean what they mean in `TrainingConfig`."""

    updates: int = 150
    batch: int = 32
    frames: int = 16
    learning_rate: float = 2e-4
    fresh_share: float = 0.5
    ema: float = 0.98
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetunedWorldModel:
    """The new world model, its mean loss over the last tenth of updates, and episodes too short to teach."""

    world_model: WorldModel
    updates: int
    loss: float
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutError:
    """Mean squared error of imagined against real frames, by how many steps after the real first frame.

    Attributes:
        pixels: of decoded pictures in [0, 1].
        latents: of latents, whose standard deviation is about 1.
        still: of repeating the first real picture, in [0, 1]: the error of imagining that nothing moves.
    """

    pixels: dict[int, float]
    latents: dict[int, float]
    still: dict[int, float]


def finetune_world_model(
    world_model: WorldModel,
    fresh: Sequence[Clip] | LatentClips,
    base: Sequence[Clip] | LatentClips,
    *,
    config: FinetuneConfig,
    on_update: OnUpdate,
) -> FinetunedWorldModel:
    """Train a copy of `world_model` on windows of fresh and base clips.

    Raises:
        ClipInvalid: a clip breaks its contract; nothing was trained.
        NoWindow: every clip is shorter than a window.
        NonFiniteLoss: names the episodes of the update that diverged.
    """
    losses: list[float] = []

    def record(update: int, metrics: dict[str, float]) -> None:
        losses.append(metrics["loss"])
        on_update(update, metrics)

    candidate = world_model.copy()
    training = TrainingConfig(
        updates=config.updates,
        batch=config.batch,
        frames=config.frames,
        learning_rate=config.learning_rate,
        ema=config.ema,
        fresh_share=config.fresh_share,
        seed=config.seed,
    )
    left_out = train_transformer(
        candidate,
        _encoded(world_model, base),
        fresh=_encoded(world_model, fresh),
        config=training,
        on_update=record,
    )
    last = losses[-max(1, len(losses) // 10) :]
    loss = sum(last) / len(last) if last else float("nan")
    return FinetunedWorldModel(world_model=candidate, updates=config.updates, loss=loss, left_out=left_out)


def held_out_error(
    world_model: WorldModel, clips: Sequence[Clip], *, horizons: Sequence[int] = (1, 10), seed: int
) -> dict[int, float]:
    """`measure_held_out(...).pixels`: the number that says whether finetuning helped."""
    return measure_held_out(world_model, clips, horizons=horizons, seed=seed).pixels


def measure_held_out(
    world_model: WorldModel, clips: Sequence[Clip], *, horizons: Sequence[int] = (1, 10), seed: int
) -> HeldOutError:
    """Replay the real actions of episodes from their real first frame and compare with what happened.

    Args:
        clips: episodes that training has not seen; one shorter than a horizon does not count for it.
        seed: of the imagination's noise.

    Raises:
        ClipInvalid: a clip breaks its contract.
        NoWindow: no clip reaches the longest horizon.
    """
    for clip in clips:
        clip.validate()
    longest = max((clip.steps for clip in clips), default=0)
    if longest < max(horizons):
        raise NoWindow(frames=max(horizons) + 1, longest=longest + 1, clips=len(clips))
    env = ImaginedEnv(world_model, seed=seed)
    sums = {horizon: torch.zeros(4, dtype=torch.float64) for horizon in horizons}  # three errors, count
    for start in range(0, len(clips), HELD_OUT_BATCH):
        _replay(world_model, env, clips[start : start + HELD_OUT_BATCH], sums=sums)
    means = {horizon: (total[:3] / total[3]).tolist() for horizon, total in sums.items()}
    pixels, latents, still = ({h: mean[i] for h, mean in means.items()} for i in range(3))
    return HeldOutError(pixels=pixels, latents=latents, still=still)


def _replay(
    world_model: WorldModel, env: ImaginedEnv, clips: Sequence[Clip], *, sums: dict[int, Tensor]
) -> None:
    """Imagine these clips together; shorter ones are padded with actions whose frames do not count."""
    steps = max(sums)
    first = torch.stack([clip.frames[0] for clip in clips])
    actions = torch.zeros(len(clips), steps, clips[0].actions.shape[1])
    for row, clip in zip(actions, clips, strict=True):
        reached = min(steps, clip.steps)
        row[:reached] = clip.actions[:reached]
    env.reset(first)
    env.step(actions)
    imagined = env.latents()  # [B, steps + 1, c, h, w]
    for horizon, total in sums.items():
        long_enough = [i for i, clip in enumerate(clips) if clip.steps >= horizon]
        if not long_enough:
            continue
        real = torch.stack([clips[i].frames[horizon] for i in long_enough])
        frame = imagined[long_enough, horizon]
        total[0] += _squared(world_model.decode(frame) / 255, real / 255)
        total[1] += _squared(frame, world_model.encode(real))
        total[2] += _squared(first[long_enough] / 255, real / 255)
        total[3] += len(long_enough)


def _squared(a: Tensor, b: Tensor) -> float:
    """Mean squared error of each item, summed over the batch."""
    return float((a - b).square().flatten(1).mean(1).sum())


def _encoded(world_model: WorldModel, clips: Sequence[Clip] | LatentClips) -> LatentClips:
    return clips if isinstance(clips, LatentClips) else encode_clips(world_model, clips)
