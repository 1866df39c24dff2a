"""Which way of learning imagines best, at equal updates and equal data? One line per way.

    python -m benchmarks.world_model_ablation --updates 400 --batch 8

Every world model starts from nothing and learns from the same expert episodes of the simulated cell. Then the
base policy's own episodes, in cells that nothing was trained on, are imagined from their first frame with
their real actions. Printed: squared error of pictures in [0, 1] by steps, and CPU seconds of the training;
last, the error of repeating the first frame.

* `shipped`: latents, teacher forcing, Muon, as the recipe of the base checkpoint.
* `diffusion`: diffusion forcing instead.
* `adamw`: AdamW instead, at the rate that trainings have unless told otherwise.
* `pixels`: pictures folded into places instead of latents; the same transformer, with wider ends.
* `difference`: what is predicted is the difference to the frame before; an untrained one repeats it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from daemon.learning.batch import Clip
from daemon.learning.drift import AT_ONCE, Drift, Replay, drift_of
from daemon.learning.world_model.attention import Order
from daemon.learning.world_model.autoencoder import DOWN
from daemon.learning.world_model.blocks import Modulations
from daemon.learning.world_model.latents import encode_clips, world_actions
from daemon.learning.world_model.model import NANO_TRANSFORMER, Sampling, WorldModel, nano_world_model
from daemon.learning.world_model.sampling import FrameSampler
from daemon.learning.world_model.schedule import noise_schedule
from daemon.learning.world_model.training import TrainingConfig, train_transformer
from daemon.learning.world_model.transformer import WorldModelTransformer
from daemon.learning.world_model.windows import Pool
from daemon.phases.checkpoints import ASSETS
from daemon.pretrain import recipe
from daemon.pretrain.cell_episodes import EpisodePlan
from daemon.pretrain.recording import Acting, recorded
from daemon.progress_bar import Bars

SHOWN_STEPS = (1, 5, 10, 20, 32)
NAMES = ("shipped", "diffusion", "adamw", "pixels", "difference")
LEAST_SPREAD = 0.1  # of noise: bounds what nearly clean frames divide by


class FoldedPixels(nn.Module):
    """An autoencoder that does nothing: pictures [B, 3, 64, 64] as places [B, 192, 8, 8] and back."""

    def __init__(self, *, scaling_factor: float) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            latent_channels=3 * DOWN**2, image_size=64, scaling_factor=scaling_factor
        )
        self.fold, self.unfold = nn.PixelUnshuffle(DOWN), nn.PixelShuffle(DOWN)

    def encode(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: self.fold(x)))

    def decode(self, z: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.unfold(z))


class Difference(WorldModelTransformer):
    """Predicts how the velocity differs from that of the guess that nothing has moved."""

    def forward(self, x: Tensor, timesteps: Tensor, actions: Tensor, *, order: Order | None = None) -> Tensor:
        """As the parent, for windows of teacher forcing: context frames 0..F-1, noisy frames 1..F-1."""
        predicted: Tensor = super().forward(x, timesteps, actions, order=order)
        frames = (x.shape[1] + 1) // 2
        guess = still_velocity(x[:, frames:], timesteps[:, frames:], before=x[:, : frames - 1])
        return torch.cat((predicted[:, :frames], predicted[:, frames:] + guess), dim=1)


class DifferenceSampler(FrameSampler):
    """One frame at a time with the same guess."""

    def _predicted(self, x: Tensor, told: Modulations, *, keep: int) -> Tensor:
        if keep:  # the pass that begins a frame shows the one before it
            self._before, self._step = x[:, :1], 0
        level = torch.tensor([[self.walk[self._step]]])
        self._step += 1
        predicted = super()._predicted(x, told, keep=keep)
        return predicted + still_velocity(x[:, -1:], level, before=self._before)


def still_velocity(noisy: Tensor, levels: Tensor, *, before: Tensor) -> Tensor:
    """The velocity at these levels [B, F] if the frame were the one before it, as that was shown.

    From noisy = sqrt(kept) frame + s noise and velocity = sqrt(kept) noise - s frame, s² = 1 - kept.
    """
    share = noise_schedule("v_prediction").error_weight(levels)[..., None, None, None]
    return ((1 - share).sqrt() * noisy - before) / share.sqrt().clamp(min=LEAST_SPREAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One line of the table."""

    config: TrainingConfig
    world_model: Callable[[], WorldModel]
    sampler: type[FrameSampler] = FrameSampler


def latent_world_model(transformer: type[WorldModelTransformer] = WorldModelTransformer) -> WorldModel:
    """Untrained, with the base checkpoint's autoencoder."""
    fresh = nano_world_model(seed=0, max_frames=recipe.WORLD_MODEL_FRAMES)
    own = transformer(**{**NANO_TRANSFORMER, "max_frames": recipe.WORLD_MODEL_FRAMES})
    own.load_state_dict(fresh.transformer.state_dict())
    autoencoder = WorldModel.load(ASSETS / "nano" / "world_model.safetensors").autoencoder
    return WorldModel(own.eval(), autoencoder, sampling=Sampling(denoise_steps=recipe.DENOISE_STEPS))


def pixel_world_model(clips: Sequence[Clip]) -> WorldModel:
    """Untrained, on pictures scaled to variance 1."""
    spread = torch.cat([clip.frames for clip in clips]).float().div(127.5).std()
    shape = {"in_channels": 3 * DOWN**2, "max_frames": recipe.WORLD_MODEL_FRAMES}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = WorldModelTransformer(**{**NANO_TRANSFORMER, **shape})
    folded = FoldedPixels(scaling_factor=1 / float(spread))
    return WorldModel(
        transformer.eval(), folded, image_size=64, sampling=Sampling(denoise_steps=recipe.DENOISE_STEPS)
    )


def ways(clips: Sequence[Clip], *, updates: int, batch: int) -> dict[str, Way]:
    shipped = TrainingConfig(
        updates=updates,
        batch=batch,
        frames=recipe.WORLD_MODEL_FRAMES,
        learning_rate=recipe.WORLD_MODEL_LEARNING_RATE,
        optimizer="muon",
        ema=0.98,
    )
    adamw = replace(shipped, optimizer="adamw", learning_rate=TrainingConfig(updates=0).learning_rate)
    return {
        "shipped": Way(config=shipped, world_model=latent_world_model),
        "diffusion": Way(config=replace(shipped, forcing="diffusion"), world_model=latent_world_model),
        "adamw": Way(config=adamw, world_model=latent_world_model),
        "pixels": Way(config=shipped, world_model=lambda: pixel_world_model(clips)),
        "difference": Way(
            config=shipped, world_model=lambda: latent_world_model(Difference), sampler=DifferenceSampler
        ),
    }


def imagined(world_model: WorldModel, sampler: FrameSampler, clips: Sequence[Clip]) -> Drift:
    """How imagination by this sampler differs from what happened, at `SHOWN_STEPS`."""
    replays = []
    for start in range(0, len(clips), AT_ONCE):
        part = clips[start : start + AT_ONCE]
        first = world_model.encode(torch.stack([clip.frames[0] for clip in part]))
        sampler.start(first, seeds=range(start, start + len(part)))
        moved = torch.stack([world_actions(clip.actions[: max(SHOWN_STEPS)]) for clip in part])
        replays.append(Replay(clips=part, latents=torch.cat((first[:, None], sampler.advance(moved)), dim=1)))
    return drift_of(world_model, replays, horizons=SHOWN_STEPS)


def row(name: str, errors: Mapping[int, float]) -> str:
    return f"{name:12}" + "".join(f"  {step}: {errors[step]:.5f}" for step in SHOWN_STEPS)


def told(name: str, way: Way, clips: Sequence[Clip], measured: Sequence[Clip]) -> Drift:
    """Train one, measure it, print its line."""
    world_model = way.world_model()
    pool = Pool(name="experts", clips=encode_clips(world_model, clips))
    begun = time.process_time()
    train_transformer(world_model, [pool], config=way.config, on_update=lambda *_: None)
    spent = time.process_time() - begun
    drift = imagined(world_model, way.sampler(world_model), measured)
    print(f"{row(name, drift.pixels)}  {spent:.0f} CPU s", flush=True)
    return drift


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cells", type=int, default=20, help="training cells, 16 expert episodes of each")
    parser.add_argument("--only", nargs="+", choices=NAMES, help="names of ways; all unless told")
    parser.add_argument("--work", type=Path, help="keeps the recorded episodes for another run")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work or Path(tempfile.mkdtemp(prefix="gymnastd-"))
    work.mkdir(parents=True, exist_ok=True)
    cells = recipe.TRAINING_CELLS[: arguments.cells]
    experts: list[EpisodePlan] = [plan for plan in recipe.world_model_plans() if plan.cell_seed in cells]
    clips = recorded(experts, work, name=f"experts-{arguments.cells}", bars=Bars())
    acting = Acting(ASSETS / "nano" / "policy.safetensors", temperature=0.0)
    plans = recipe.measuring_plans(episodes_per_cell=2)
    measured = recorded(plans, work, name="measuring-2", bars=Bars(), acting=acting)
    for name, way in ways(clips, updates=arguments.updates, batch=arguments.batch).items():
        if not arguments.only or name in arguments.only:
            drift = told(name, way, clips, measured)
    print(row("still", drift.still))


if __name__ == "__main__":
    main()
