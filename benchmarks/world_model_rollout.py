"""What an imagined frame costs: without a cache, with one that lasts for one frame, and with ours.

    python -m benchmarks.world_model_rollout --config tiny --frames 40 --batch 8

* uncached: every denoise step shows the whole window again.
* per-frame cache: the first denoise step of a frame shows the window, the others reuse what it computed, and
  the next frame begins anew. Source: the schedule of WorldGym's inference, as its description has it.
* ours: `FrameSampler`; a frame is remembered once, in the pass that begins the next one, for as long as it is
  in the window.

* ours, compiled, with `--compiled` and a C++ compiler: the same after a chunk that compiles; the baselines
  run as written, as the reference does.
* ours, in chunks: the same passes for `--horizons` frames at once, each a denoise step behind the one before
  it; these are other frames, as a frame sees its predecessors while they are noisy.

Weights are random: the cost is the same. Up to a full window all but the chunks must imagine the same frames,
which is checked. Time is processor time of this process, autoencoder left out; at a full window it is the
median of the frames, which a busy machine disturbs least.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median

import torch
from torch import Tensor

from daemon.learning.world_model.autoencoder import NanoAutoencoder
from daemon.learning.world_model.engine import Engine
from daemon.learning.world_model.model import NANO_TRANSFORMER, Sampling, WorldModel
from daemon.learning.world_model.sampling import FrameSampler
from daemon.learning.world_model.schedule import VPrediction
from daemon.learning.world_model.transformer import WORLD_ACTION_DIM, WorldModelTransformer

SIZES = {
    "tiny": {"in_channels": 4, "patch": 2, "dim": 128, "layers": 4, "heads": 4, "max_frames": 20},
    "nano": dict(NANO_TRANSFORMER),
}
SIDE = 8  # latent places on a side
AGREEMENT = 1e-5


@dataclass(slots=True)
class Cost:
    """Frames imagined one after the other, passes of one frame through the transformer, seconds per frame."""

    name: str
    frames: list[Tensor] = field(default_factory=list)
    passes: int = 0
    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def timed(self, *, frames: int = 1) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds += [(time.process_time() - began) / frames] * frames


def world_model(size: dict[str, int], *, denoise_steps: int, spread: float = 0.05) -> WorldModel:
    """Random weights, also where training begins with zeros: nothing is skipped."""
    torch.manual_seed(0)
    transformer = WorldModelTransformer(**size)
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    autoencoder = NanoAutoencoder(latent_channels=size["in_channels"])
    model = WorldModel(transformer.eval(), autoencoder.eval(), sampling=Sampling(denoise_steps=denoise_steps))
    model.precision = torch.float32
    return model


def ours(
    model: WorldModel, first: Tensor, actions: Tensor, *, horizon: int = 1, engine: Engine = "eager"
) -> Cost:
    """Imagine as the product does, `horizon` frames at once; they share their chunk's seconds."""
    chunked = replace(model.sampling, horizon=horizon)
    model = WorldModel(model.transformer, model.autoencoder, sampling=chunked)
    model.precision = torch.float32
    name = "ours" if horizon == 1 else f"ours, {horizon} at once"
    cost = Cost(name if engine == "eager" else f"{name}, {engine}")
    sampler = FrameSampler(model, engine=engine)
    if engine != "eager":
        sampler.start(first, range(len(first)))
        sampler.advance(actions[:horizon].transpose(0, 1))
        sampler.frame_passes = 0
    sampler.start(first, range(len(first)))
    for chunk in actions.split(horizon):
        with cost.timed(frames=len(chunk)):
            cost.frames += sampler.advance(chunk.transpose(0, 1)).unbind(1)
    cost.passes = sampler.frame_passes
    return cost


@torch.no_grad()
def shown_again(name: str, model: WorldModel, first: Tensor, actions: Tensor) -> Cost:
    """Imagine while showing the window again: at every step, or at a frame's first step only."""
    cost, schedule = Cost(name), VPrediction()
    generators = [torch.Generator().manual_seed(row) for row in range(len(first))]
    level, window = model.sampling.context_level, model.transformer.config.max_frames
    walk = schedule.walk(model.sampling.denoise_steps)
    cache = model.transformer.empty_cache(first)
    past, produced = [schedule.dimmed(first, level)], [torch.zeros_like(actions[0])]
    for action in actions:
        context = torch.tensor([[level]])
        told = model.transformer.modulations(context, produced[-1][:, None])
        model.transformer.remember(past[-1][:, None], told, cache=cache)
        cache.keep(1)  # what the first step would have left behind; it costs the baseline nothing here
        produced.append(action)
        with cost.timed():
            frame = torch.stack([torch.randn(first.shape[1:], generator=own) for own in generators])
            shown, moved = past[-(window - 1) :], torch.stack(produced[-window:], dim=1)
            for step, noise in enumerate(walk):
                if step == 0 or name == "uncached":
                    x, levels = torch.stack([*shown, frame], dim=1), [[level] * len(shown) + [noise]]
                    way = model.transformer(x, torch.tensor(levels), moved[:, -len(shown) - 1 :])[:, -1]
                    cost.passes += len(shown) + 1
                else:
                    told = model.transformer.modulations(torch.tensor([[noise]]), action[:, None])
                    way = model.transformer.remember(frame[:, None], told, cache=cache)[:, 0]
                    cost.passes += 1
                frame = schedule.stepped(way, noise, frame)
        cost.frames.append(frame)
        past.append(schedule.dimmed(frame, level))
    return cost


def disagreement(a: Cost, b: Cost, *, frames: int) -> float:
    """Relative distance of the first frames of two rollouts."""
    left, right = torch.stack(a.frames[:frames]), torch.stack(b.frames[:frames])
    return float((left - right).norm() / right.norm())


def full_window(cost: Cost, window: int) -> float:
    """Median seconds per frame once the window is full."""
    return median(cost.seconds[window - 1 :] or cost.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--denoise-steps", type=int, default=10)
    parser.add_argument("--horizons", type=int, nargs="*", default=[5, 10], help="frames at once, a row each")
    parser.add_argument("--compiled", action="store_true", help="also as torch compiles it")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = SIZES[arguments.config]
    model = world_model(size, denoise_steps=arguments.denoise_steps)
    first = torch.randn(arguments.batch, size["in_channels"], SIDE, SIDE)
    actions = torch.randn(arguments.frames, arguments.batch, WORLD_ACTION_DIM) * 0.3
    own = ours(model, first, actions)
    compiled = [ours(model, first, actions, engine="compiled")] if arguments.compiled else []
    together = [ours(model, first, actions, horizon=horizon) for horizon in arguments.horizons]
    costs = [shown_again(name, model, first, actions) for name in ("uncached", "per-frame cache")]
    window = size["max_frames"]
    print(
        f"{arguments.config}: {arguments.frames} frames, batch {arguments.batch}, window {window}, guidance 1"
    )
    print(f"{'':16}  passes  CPU s/frame  at a full window  per-frame cache against it  uncached against it")
    against = [full_window(cost, window) for cost in (costs[1], costs[0])]
    for cost in (*costs, own, *compiled, *together):
        mean, late = sum(cost.seconds) / len(cost.seconds), full_window(cost, window)
        ratios = "".join(f"{reference / late:8.2f} x" for reference in against)
        print(f"{cost.name:16}  {cost.passes:6}  {mean:11.4f}  {late:16.4f}  {ratios}")
    for cost in (*costs, *compiled):
        apart = disagreement(cost, own, frames=min(window - 1, arguments.frames))
        verdict = "the same frames" if apart < AGREEMENT else "OTHER FRAMES"
        print(f"{cost.name} and ours, up to a full window: {verdict} ({apart:.1e})")
        if apart >= AGREEMENT:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
