"""Imagining with remembered frames gives the numbers of imagining without, at the price promised."""

import pytest
import torch
from torch import Tensor

from daemon.learning.world_model.model import Sampling, WorldModel
from daemon.learning.world_model.sampling import FrameSampler
from daemon.learning.world_model.schedule import NoiseSchedule

BATCH = 2


def actions(steps: int) -> Tensor:
    return torch.randn(steps, BATCH, 10, generator=torch.Generator().manual_seed(5))


def first_frame() -> Tensor:
    return torch.randn(BATCH, 4, 8, 8, generator=torch.Generator().manual_seed(6))


def imagined(model: WorldModel, steps: int, *, seed: int = 7) -> Tensor:
    """Frames 0..steps of the product's sampler, [steps + 1, B, c, h, w]."""
    sampler = FrameSampler(model, generator=torch.Generator().manual_seed(seed))
    sampler.start(first_frame())
    return torch.stack([first_frame(), *(sampler.advance(action) for action in actions(steps))])


@torch.no_grad()
def imagined_without_cache(model: WorldModel, steps: int, *, seed: int = 7) -> Tensor:
    """The same by `forward` over the whole sequence, every past frame shown again for every denoise step."""
    schedule, generator = NoiseSchedule(), torch.Generator().manual_seed(seed)
    context, walk = model.sampling.context_level, schedule.walk(model.sampling.denoise_steps)
    frames, produced_by = [first_frame()], [torch.zeros(BATCH, 10)]
    for action in actions(steps):
        produced_by.append(action)
        frame = torch.randn(BATCH, 4, 8, 8, generator=generator)
        for level in walk:
            past = [schedule.dimmed(done, context) for done in frames]
            levels = torch.tensor([[context] * len(frames) + [level]]).expand(BATCH, -1)
            velocity = model.transformer(
                torch.stack([*past, frame], dim=1), levels, torch.stack(produced_by, dim=1)
            )
            frame = schedule.stepped(velocity[:, -1], level, frame)
        frames.append(frame)
    return torch.stack(frames)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_cached_imagination_equals_uncached(tiny_world_model: WorldModel, steps: int):
    """Nine steps slide a window of four frames five times."""
    cached, uncached = imagined(tiny_world_model, steps), imagined_without_cache(tiny_world_model, steps)
    assert relative(cached, uncached) < 1e-5
    assert relative(cached[1:-1], cached[2:]) > 0.01 or steps == 1, (
        "frames differ: the comparison says something"
    )


@pytest.mark.parametrize("denoise_steps", [1, 2, 10])
def test_they_are_equal_for_every_number_of_denoise_steps(tiny_world_model: WorldModel, denoise_steps: int):
    tiny_world_model.sampling = Sampling(denoise_steps=denoise_steps)
    assert relative(imagined(tiny_world_model, 5), imagined_without_cache(tiny_world_model, 5)) < 1e-5


@pytest.mark.parametrize(("denoise_steps", "passes"), [(1, 2), (2, 3), (10, 11)])
def test_a_frame_costs_its_denoise_steps_and_one_pass_more(
    tiny_world_model: WorldModel, denoise_steps: int, passes: int
):
    tiny_world_model.sampling = Sampling(denoise_steps=denoise_steps)
    sampler = FrameSampler(tiny_world_model, generator=torch.Generator().manual_seed(0))
    sampler.start(first_frame())
    assert sampler.frame_passes == 0, "a frame is remembered when another one follows"
    for count, action in enumerate(actions(7), start=1):
        sampler.advance(action)
        assert sampler.frame_passes == passes * count, "also after the window has slid"


def test_the_same_noise_gives_the_same_frames_and_other_noise_others(tiny_world_model: WorldModel):
    assert torch.equal(imagined(tiny_world_model, 3), imagined(tiny_world_model, 3))
    assert relative(imagined(tiny_world_model, 3, seed=8), imagined(tiny_world_model, 3)) > 0.01


def test_starting_again_forgets_the_rollout_before(tiny_world_model: WorldModel):
    sampler = FrameSampler(tiny_world_model, generator=torch.Generator().manual_seed(0))
    sampler.start(first_frame() + 3)
    for action in actions(6):
        sampler.advance(action)
    sampler.generator.manual_seed(7)
    sampler.start(first_frame())
    again = torch.stack([sampler.advance(action) for action in actions(3)])
    assert torch.equal(again, imagined(tiny_world_model, 3)[1:])


def test_an_action_changes_the_frame_it_produces_and_none_before(tiny_world_model: WorldModel):
    def run(changed: int | None) -> Tensor:
        sampler = FrameSampler(tiny_world_model, generator=torch.Generator().manual_seed(7))
        sampler.start(first_frame())
        moved = actions(4)
        if changed is not None:
            moved[changed] += 1
        return torch.stack([sampler.advance(action) for action in moved])

    usual, other = run(None), run(2)
    assert torch.equal(usual[:2], other[:2])
    assert relative(other[2], usual[2]) > 1e-3


def test_a_failed_try_at_a_frame_leaves_no_trace_in_the_cache(tiny_world_model: WorldModel):
    transformer, levels = tiny_world_model.transformer, torch.zeros(BATCH, 1, dtype=torch.long)
    frames = torch.randn(6, BATCH, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    nothing = torch.zeros(BATCH, 1, 10)

    def last_velocity(*, tries: bool) -> Tensor:
        cache = transformer.empty_cache()
        for frame in frames:
            if tries:
                transformer.remember(frame * -5, levels, nothing, cache=cache, keep=False)
            velocity = transformer.remember(frame, levels, nothing, cache=cache, keep=True)
        return velocity

    with torch.no_grad():
        assert torch.equal(last_velocity(tries=True), last_velocity(tries=False))


def test_the_cache_never_grows_past_its_window(tiny_world_model: WorldModel):
    sampler = FrameSampler(tiny_world_model, generator=torch.Generator())
    sampler.start(first_frame())
    held = []
    for action in actions(10):
        sampler.advance(action)
        held.append(sum(ring.keys.numel() + ring.values.numel() for ring in sampler.cache.rings.values()))
    assert len(set(held)) == 1
    assert sampler.cache.frames == 10


def test_low_precision_imagines_nearly_the_same(tiny_world_model: WorldModel):
    exact = imagined(tiny_world_model, 3)
    tiny_world_model.precision = torch.bfloat16
    rough = imagined(tiny_world_model, 3)
    assert rough.dtype == torch.float32
    assert 0 < relative(rough, exact) < 0.15
