"""What the world model costs on an accelerator, at WorldGym's size with random weights.

    python -m benchmarks.world_model_gpu

Imagination of `--batch` rollouts of `--frames` frames, guidance 1, ten denoise steps: frames per second
eager, compiled and as CUDA graphs, the first as the baseline of the ratios; peak memory; and the share of
what this device's matrix products reach in the same run. Then a finetuning step of 4 windows of 20 frames,
keeping activations and computing them again. Latents only: the autoencoder is left out. Engines must imagine
the same frames.

`--config tiny --device cpu` runs the same on a processor, where it shows nothing but that it runs.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.world_model_rollout import SIZES, world_model
from daemon.learning.devices import choose_precision
from daemon.learning.world_model.engine import Engine
from daemon.learning.world_model.latents import LatentClip, LatentClips
from daemon.learning.world_model.model import WORLDGYM_TRANSFORMER, WorldModel
from daemon.learning.world_model.sampling import FrameSampler
from daemon.learning.world_model.training import TrainingConfig, train_transformer
from daemon.learning.world_model.transformer import WORLD_ACTION_DIM
from daemon.learning.world_model.windows import Pool

SHAPES = {**SIZES, "worldgym": dict(WORLDGYM_TRANSFORMER)}
LATENT_SIDES = {"tiny": 8, "nano": 8, "worldgym": 32}
PRODUCT_SIDES = {"cuda": 8192, "cpu": 1024}
AGREEMENT = {torch.float32: 1e-4, torch.bfloat16: 5e-2}  # relative distance of frames of two engines
SPREAD = 0.02  # of the random weights: deep ones of more amplify rounding
TRAINING_BATCH = 4
UPDATES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How one engine imagined."""

    frames: Tensor
    seconds: float
    peak_gib: float


def random_world_model(config: str, device: torch.device) -> WorldModel:
    """Of this size, in the precision that the device is fast at."""
    model = world_model(SHAPES[config], denoise_steps=10, spread=SPREAD)
    model.transformer.to(device)
    model.precision = choose_precision(device.type)
    return model


def finished(device: torch.device) -> float:
    """The time, once the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_gib(device: torch.device) -> float:
    """Most memory in use since the last reset; 0 where nobody counts it."""
    return torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of large matrix products: the peak that shares are told of."""
    side = PRODUCT_SIDES[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    rates = []
    for _ in range(10):
        begun = finished(device)
        a @ b
        rates.append(2 * side**3 / (finished(device) - begun))
    return max(rates)


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and attention in `work`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def rolled_out(sampler: FrameSampler, first: Tensor, actions: Tensor) -> Rollout:
    """One rollout, the second of two: the first one compiles and records."""

    def once() -> Tensor:
        sampler.start(first, range(len(first)))
        return torch.stack([sampler.advance(action[:, None])[:, 0] for action in actions.unbind(1)])

    once()
    reset_peak(first.device)
    begun = finished(first.device)
    frames = once()
    return Rollout(frames=frames, seconds=finished(first.device) - begun, peak_gib=peak_gib(first.device))


def imagination(config: str, *, batch: int, frames: int, device: torch.device, peak: float) -> None:
    model = random_world_model(config, device)
    side, channels = LATENT_SIDES[config], SHAPES[config]["in_channels"]
    first = torch.randn(batch, channels, side, side, device=device)
    actions = (torch.randn(batch, frames, WORLD_ACTION_DIM) * 0.3).to(device)
    eager: Rollout | None = None
    work = 0
    for engine in get_args(Engine):
        if engine == "graphs" and device.type != "cuda":
            print("graphs      need CUDA")
            continue
        sampler = FrameSampler(model, engine=engine)
        found = rolled_out(sampler, first, actions)
        if eager is None:
            eager, work = found, frames * operations(partial(sampler.advance, actions[:, :1]))
        apart = float((found.frames - eager.frames).norm() / eager.frames.norm())
        print(
            f"{engine:10}  {batch * frames / found.seconds:8.1f} frames/s  "
            f"{eager.seconds / found.seconds:5.2f} x eager  {found.peak_gib:6.2f} GiB  "
            f"{work / found.seconds / peak:6.1%} of the peak  {apart:.1e} from eager's frames"
        )
        if apart > AGREEMENT[model.precision]:
            raise SystemExit(f"{engine} imagines other frames")


def finetuning(config: str, *, saves: bool, device: torch.device, peak: float) -> None:
    """A training step of 4 windows of the whole context, each frame twice in them."""
    side, channels, frames = LATENT_SIDES[config], SHAPES[config]["in_channels"], SHAPES[config]["max_frames"]
    clip = LatentClip(
        latents=torch.randn(frames + 1, channels, side, side),
        actions=torch.randn(frames, WORLD_ACTION_DIM) * 0.3,
        episode_id="noise",
    )
    model, at = random_world_model(config, device), [finished(device)]

    def train(updates: int) -> None:
        train_transformer(
            model,
            [Pool(name="noise", clips=LatentClips((clip,)))],
            config=TrainingConfig(updates=updates, batch=TRAINING_BATCH, frames=frames, save_memory=saves),
            on_update=lambda *_: at.append(finished(device)),
        )

    reset_peak(device)
    train(UPDATES)
    took = min(later - earlier for earlier, later in pairwise(at[1:]))
    memory = peak_gib(device)
    share = operations(lambda: train(1)) / took / peak
    name = "activations computed again" if saves else "activations kept"
    print(f"update, {name:26}  {took:7.3f} s  {memory:6.2f} GiB  {share:6.1%} of the peak")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", choices=sorted(SHAPES), default="worldgym")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    precision = choose_precision(device.type)
    peak = product_rate(device, precision)
    named = torch.cuda.get_device_name() if device.type == "cuda" else "processor"
    print(f"{named}, {precision}, matrix products at {peak / 1e12:.1f} TFLOP/s")
    imagination(arguments.config, batch=arguments.batch, frames=arguments.frames, device=device, peak=peak)
    for saves in (False, True):
        finetuning(arguments.config, saves=saves, device=device, peak=peak)


if __name__ == "__main__":
    main()
