"""What the nano world model costs: an update, an imagined frame, and the ratio that the frame cache gains.

    python benchmarks/world_model_speed.py [--threads 1] [--batch 96]

Uncached imagination shows every frame of the window again for every denoise step; the ratio of frame passes
follows from arithmetic, the ratio of times is measured here.
"""

import argparse
import time
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from daemon.learning.activations import gelu
from daemon.learning.devices import choose_precision, precision_of
from daemon.learning.drift import BLUR, BLUR_WIDTH, similarity
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.world_model.latents import LatentClip, LatentClips
from daemon.learning.world_model.model import WorldModel, nano_world_model
from daemon.learning.world_model.optimizing import OptimizerName
from daemon.learning.world_model.training import TrainingConfig, train_transformer
from daemon.learning.world_model.windows import Pool

STEPS = 40
CHUNK = 5


def seconds(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def update_seconds(
    model: WorldModel, *, frames: int, updates: int = 6, optimizer: OptimizerName = "adamw"
) -> float:
    """Median seconds of one training update of 16 windows, each frame twice in them; it changes the model."""
    clip = LatentClip(latents=torch.randn(41, 8, 8, 8), actions=torch.randn(40, 10), episode_id="noise")
    at = [time.perf_counter()]
    train_transformer(
        model,
        [Pool(name="noise", clips=LatentClips((clip,)))],
        config=TrainingConfig(updates=updates, batch=16, frames=frames, optimizer=optimizer),
        on_update=lambda *_: at.append(time.perf_counter()),
    )
    took = sorted(later - earlier for earlier, later in pairwise(at[1:]))
    return took[len(took) // 2]


def muon_seconds(model: WorldModel, *, frames: int, orthogonalized_in: torch.dtype) -> float:
    """As `update_seconds`, with Muon in this type; the model's own precision stays what it is."""
    copied = model.copy()
    with precision_of(model.device.type, orthogonalized_in):
        return update_seconds(copied, frames=frames, optimizer="muon")


def imagination(model: WorldModel, *, batch: int) -> tuple[float, float]:
    """Frames per second and passes per frame of rollouts of STEPS actions, decoding once per chunk."""
    env = ImaginedEnv(model, seed=0)
    env.reset(torch.zeros(batch, 3, 64, 64, dtype=torch.uint8))
    env.step(torch.zeros(batch, 1, 7))  # warm up

    def rollout() -> None:
        env.reset(torch.zeros(batch, 3, 64, 64, dtype=torch.uint8))
        for _ in range(STEPS // CHUNK):
            env.step(torch.zeros(batch, CHUNK, 7))

    passes = env.frame_passes
    took = seconds(rollout)
    return batch * STEPS / took, (env.frame_passes - passes) / STEPS


@torch.no_grad()
def cache_gain(model: WorldModel, *, batch: int) -> float:
    """Seconds of a frame with every frame of its window shown again, over seconds of a cached frame."""
    transformer, window = model.transformer, model.transformer.config.max_frames
    latents = torch.randn(batch, window, 8, 8, 8)
    levels, actions = torch.zeros(batch, window, dtype=torch.long), torch.zeros(batch, window, 10)
    cache = transformer.empty_cache(latents[:, 0], dtype=model.precision)

    def one() -> None:
        told = transformer.modulations(levels[:, :1], actions[:, :1])
        transformer.remember(latents[:, :1], told, cache=cache)

    steps = model.sampling.denoise_steps
    with torch.autocast("cpu", dtype=model.precision, enabled=model.precision != torch.float32):
        whole = seconds(lambda: [transformer(latents, levels, actions) for _ in range(steps)])
        cached = seconds(lambda: [one() for _ in range(steps + 1)])
    return whole / cached


@torch.no_grad()
def activation_gain(*, batch: int) -> float:
    """Seconds of torch's tanh form of GELU over ours, in bfloat16, for a pass of `batch` frames."""
    x = torch.randn(batch, 16, 640).bfloat16()
    return fastest(lambda: F.gelu(x, approximate="tanh")) / fastest(lambda: gelu(x))


def blur_gain() -> float:
    """Seconds of SSIM's five blurs as sums over windows, over seconds of a whole SSIM, 64 pictures."""
    a, b = torch.rand(2, 64, 3, 64, 64)
    line = (-((torch.arange(BLUR_WIDTH) - BLUR_WIDTH // 2) ** 2) / (2 * BLUR**2)).exp()
    window = (torch.outer(line, line) / line.sum() ** 2)[None, None]

    def summed(x: Tensor) -> Tensor:
        return F.conv2d(x.flatten(0, 1)[:, None], window)

    return fastest(lambda: [summed(x) for x in (a, b, a * a, b * b, a * b)]) / fastest(
        lambda: similarity(a, b)
    )


def fastest(work: Callable[[], object], *, rounds: int = 7) -> float:
    """Seconds of the fastest round: the others measure other processes."""
    work()
    return min(seconds(work) for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=96)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = nano_world_model(seed=0)
    parameters = sum(p.numel() for part in (model.transformer, model.autoencoder) for p in part.parameters())
    print(f"world model: {parameters / 1e6:.2f} M parameters, {2 * parameters / 1e6:.1f} MB in float16")
    print(f"precision {model.precision}, {arguments.threads} threads, batch {arguments.batch}")
    for frames in (10, 16):
        print(f"update of 16 windows x {frames} frames: {update_seconds(model.copy(), frames=frames):.2f} s")
    before, after = (
        muon_seconds(model, frames=10, orthogonalized_in=kind)
        for kind in (torch.bfloat16, choose_precision(model.device.type))
    )
    print(f"update with Muon: {before:.2f} s with bfloat16, {after:.2f} s as chosen: {before / after:.2f} x")
    rate, passes = imagination(model, batch=arguments.batch)
    print(f"imagination: {rate:.0f} frames/s at {passes:.2f} passes per frame")
    print(f"cache: {cache_gain(model, batch=arguments.batch):.1f} x faster than showing the window again")
    if model.device.type == "cpu":
        print(f"GELU in bfloat16: {activation_gain(batch=arguments.batch):.1f} x faster than its tanh form")
    print(f"SSIM: {blur_gain():.1f} x faster than with its blurs summed window by window")


if __name__ == "__main__":
    main()
