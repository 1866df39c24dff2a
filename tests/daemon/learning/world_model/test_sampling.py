"""Imagining with remembered frames gives the numbers of imagining without, at the price promised."""

import shutil

import pytest
import torch
from torch import Tensor

from daemon.learning.errors import BadTensor
from daemon.learning.world_model.engine import Engine, EngineUnavailable
from daemon.learning.world_model.model import Sampling, WorldModel
from daemon.learning.world_model.sampling import FrameSampler
from daemon.learning.world_model.schedule import noise_schedule
from daemon.learning.world_model.slots import null_actions, path_along

BATCH = 2


def actions(steps: int) -> Tensor:
    return torch.randn(steps, BATCH, 10, generator=torch.Generator().manual_seed(5))


def first_frame() -> Tensor:
    return torch.randn(BATCH, 4, 8, 8, generator=torch.Generator().manual_seed(6))


def noise(steps: int, *, seed: int) -> Tensor:
    """What each rollout draws for each frame, [steps, B, c, h, w]; rollout b has seed + b."""
    own = [torch.Generator().manual_seed(seed + row) for row in range(BATCH)]
    frames = [[torch.randn(4, 8, 8, generator=generator) for generator in own] for _ in range(steps)]
    return torch.stack([torch.stack(rows) for rows in frames])


def started(model: WorldModel, *, seed: int = 7, engine: Engine = "eager") -> FrameSampler:
    sampler = FrameSampler(model, engine=engine)
    sampler.start(first_frame(), range(seed, seed + BATCH))
    return sampler


def imagined(model: WorldModel, steps: int, *, seed: int = 7) -> Tensor:
    """Frames 0..steps of the product's sampler, [steps + 1, B, c, h, w]."""
    sampler = started(model, seed=seed)
    return torch.cat([first_frame()[None], sampler.advance(actions(steps).transpose(0, 1)).transpose(0, 1)])


@torch.no_grad()
def imagined_without_cache(model: WorldModel, steps: int, *, seed: int = 7) -> Tensor:
    """The same by `forward` over the whole sequence, every past frame shown again for every denoise step."""
    config, sampling = model.transformer.config, model.sampling
    schedule = noise_schedule(config.diffusion)
    context, walk = sampling.context_level, schedule.walk(sampling.denoise_steps)
    frames, moves = [first_frame()], list(actions(steps))
    for at, fresh in enumerate(noise(steps, seed=seed)):
        frame = fresh
        told = [*moves[: at + 1], torch.zeros(BATCH, 10)]  # the action at the new frame is not known yet
        if config.action_slot == "produced_frame":
            told = [torch.zeros(BATCH, 10), *moves[: at + 1]]
        for level in walk:
            past = [schedule.dimmed(done, context) for done in frames]
            shown, slots = torch.stack([*past, frame], dim=1), torch.stack(told, dim=1)
            if config.told_path:
                slots = torch.cat((slots, path_along(slots[:, 1:], torch.zeros(BATCH, 6))), dim=2)
            levels = torch.tensor([[context] * len(frames) + [level]])
            way = model.transformer(shown, levels, slots)[:, -1]
            if sampling.guidance != 1:
                untold = model.transformer(shown, levels, null_actions(slots))[:, -1]
                way = (1 - sampling.guidance) * untold + sampling.guidance * way
            frame = schedule.stepped(way, level, frame)
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


@pytest.mark.parametrize("action_slot", ["produced_frame", "acts_at_frame"])
@pytest.mark.parametrize("diffusion", ["v_prediction", "flow_matching"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_they_are_equal_for_every_kind_of_checkpoint(
    tiny_world_model: WorldModel, action_slot: str, diffusion: str, guidance: float
):
    tiny_world_model.transformer.register_to_config(action_slot=action_slot, diffusion=diffusion)
    tiny_world_model.sampling = Sampling(denoise_steps=2, guidance=guidance)
    cached, uncached = imagined(tiny_world_model, 6), imagined_without_cache(tiny_world_model, 6)
    assert relative(cached, uncached) < 1e-5


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_they_are_equal_for_a_model_that_is_told_the_path(told_world_model: WorldModel, guidance: float):
    """Also past the window, which has forgotten where the path began."""
    told_world_model.sampling = Sampling(denoise_steps=2, guidance=guidance)
    uncached = imagined_without_cache(told_world_model, 9)
    assert relative(imagined(told_world_model, 9), uncached) < 1e-5
    sampler, moves = started(told_world_model), actions(9).transpose(0, 1)
    chunks = [sampler.advance(part) for part in moves.split([2, 1, 4, 2], dim=1)]
    assert relative(torch.cat(chunks, dim=1).transpose(0, 1), uncached[1:]) < 1e-5


def test_a_rollout_from_within_an_episode_goes_on_with_its_path(told_world_model: WorldModel):
    def run(paths: Tensor | None, *, before: Tensor | None = None) -> Tensor:
        sampler = FrameSampler(told_world_model)
        if before is not None:  # of a rollout that is forgotten, path and all
            sampler.start(first_frame(), [1, 2], paths=before)
            sampler.advance(actions(2).transpose(0, 1))
        sampler.start(first_frame(), [7, 8], paths=paths)
        return sampler.advance(actions(3).transpose(0, 1))

    here, there = torch.zeros(BATCH, 6), torch.ones(BATCH, 6)
    assert torch.equal(run(None), run(here))
    assert relative(run(there), run(here)) > 1e-3
    assert torch.equal(run(None, before=there), run(None))
    assert torch.equal(run(there, before=here), run(there))


def test_paths_of_another_number_of_rollouts_are_refused_and_nothing_is_forgotten(
    told_world_model: WorldModel,
):
    sampler = started(told_world_model)
    with pytest.raises(BadTensor, match=r"paths should be \[2, 6\], found \[1, 6\]"):
        sampler.start(first_frame(), [7, 8], paths=torch.zeros(1, 6))
    assert torch.equal(
        sampler.advance(actions(3).transpose(0, 1)).transpose(0, 1), imagined(told_world_model, 3)[1:]
    )


@pytest.mark.parametrize("horizon", [1, 2, 3, 5])
@pytest.mark.parametrize("denoise_steps", [1, 2, 4])
@torch.no_grad()
def test_a_pyramid_is_the_same_cached_and_uncached(
    tiny_world_model: WorldModel, denoise_steps: int, horizon: int
):
    """Each frame of a chunk is one step behind the frame before it; finished ones are shown as context."""
    tiny_world_model.sampling = Sampling(denoise_steps=denoise_steps, horizon=horizon)
    schedule = noise_schedule("v_prediction")
    walk, context, steps = schedule.walk(denoise_steps), 14, 7
    frames = [first_frame(), *noise(steps, seed=7)]
    slots = torch.stack([torch.zeros(BATCH, 10), *actions(steps)], dim=1)
    for first in range(1, steps + 1, horizon):
        chunk = range(first, min(first + horizon, steps + 1))
        for tick in range(denoise_steps + len(chunk) - 1):
            stage = {f: tick - (f - first) for f in chunk}  # steps that a frame has behind it
            shown = [f for f in range(chunk[-1] + 1) if stage.get(f, denoise_steps) >= 0]
            done = {f for f in shown if stage.get(f, denoise_steps) >= denoise_steps}
            x = torch.stack(
                [schedule.dimmed(frames[f], context) if f in done else frames[f] for f in shown], 1
            )
            levels = torch.tensor([[context if f in done else walk[stage[f]] for f in shown]])
            ways = tiny_world_model.transformer(x, levels, slots[:, : len(shown)])
            for f in set(shown) - done:
                frames[f] = schedule.stepped(ways[:, f], walk[stage[f]], frames[f])
    assert relative(imagined(tiny_world_model, steps), torch.stack(frames)) < 1e-5


def test_a_chunk_of_five_takes_fourteen_calls_and_no_more_passes(tiny_world_model: WorldModel):
    tiny_world_model.sampling = Sampling(denoise_steps=10, horizon=5)
    sampler = started(tiny_world_model)
    transformer, calls, answers = tiny_world_model.transformer, list[int](), list[int]()
    for module, frames in ((transformer.blocks[0], calls), (transformer.final_layer, answers)):
        module.register_forward_pre_hook(lambda _, given, frames=frames: frames.append(given[0].shape[1]))
    sampler.advance(actions(5).transpose(0, 1))
    assert len(calls) == 14
    assert sum(calls) == sampler.frame_passes == 5 * 11
    assert sum(answers) == 5 * 10, "the pass that remembers a frame says nothing about it"


@pytest.mark.parametrize(("denoise_steps", "passes"), [(1, 2), (2, 3), (10, 11)])
def test_a_frame_costs_its_denoise_steps_and_one_pass_more(
    tiny_world_model: WorldModel, denoise_steps: int, passes: int
):
    tiny_world_model.sampling = Sampling(denoise_steps=denoise_steps)
    sampler = started(tiny_world_model)
    assert sampler.frame_passes == 0, "a frame is remembered when another one follows"
    for count, action in enumerate(actions(7), start=1):
        sampler.advance(action[:, None])
        assert sampler.frame_passes == passes * count, "also after the window has slid"


def test_guidance_costs_twice(tiny_world_model: WorldModel):
    tiny_world_model.sampling = Sampling(denoise_steps=2, guidance=3.0)
    sampler = started(tiny_world_model)
    sampler.advance(actions(4).transpose(0, 1))
    assert sampler.frame_passes == 4 * 2 * 3


def test_the_same_noise_gives_the_same_frames_and_other_noise_others(tiny_world_model: WorldModel):
    assert torch.equal(imagined(tiny_world_model, 3), imagined(tiny_world_model, 3))
    assert relative(imagined(tiny_world_model, 3, seed=80), imagined(tiny_world_model, 3)) > 0.01


def test_starting_again_forgets_the_rollout_before(tiny_world_model: WorldModel):
    sampler = FrameSampler(tiny_world_model)
    for first in (first_frame() + 3, torch.cat((first_frame(), first_frame()))):
        sampler.start(first, range(len(first)))
        sampler.advance(torch.zeros(len(first), 6, 10))
    sampler.start(first_frame(), range(7, 7 + BATCH))
    again = sampler.advance(actions(3).transpose(0, 1))
    assert torch.equal(again.transpose(0, 1), imagined(tiny_world_model, 3)[1:])


@pytest.mark.parametrize("action_slot", ["produced_frame", "acts_at_frame"])
def test_an_action_changes_the_frame_it_produces_and_none_before(
    tiny_world_model: WorldModel, action_slot: str
):
    """Action t shapes frame t + 1, whichever slot it is read from: one slot late or early fails."""
    tiny_world_model.transformer.register_to_config(action_slot=action_slot)

    def run(changed: int | None) -> Tensor:
        moved = actions(4).transpose(0, 1).clone()
        if changed is not None:
            moved[:, changed] += 1
        return started(tiny_world_model).advance(moved).transpose(0, 1)

    usual, other = run(None), run(2)
    assert torch.equal(usual[:2], other[:2])
    assert relative(other[2], usual[2]) > 1e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile on a processor needs a C++ compiler")
@pytest.mark.timeout(900)  # compiling takes minutes on a busy machine
def test_a_compiled_rollout_imagines_the_same_frames(tiny_world_model: WorldModel):
    """One horizon only: every number of frames in a pass is compiled on its own, and takes its time."""
    tiny_world_model.sampling = Sampling(denoise_steps=2, horizon=2)
    compiled = started(tiny_world_model, engine="compiled").advance(actions(7).transpose(0, 1))
    assert relative(compiled.transpose(0, 1), imagined(tiny_world_model, 7)[1:]) < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need an NVIDIA GPU")
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("model", ["tiny_world_model", "told_world_model"])
def test_a_recorded_rollout_imagines_the_same_frames(
    request: pytest.FixtureRequest, model: str, horizon: int
):
    world_model: WorldModel = request.getfixturevalue(model)
    world_model.transformer.to("cuda")
    world_model.sampling = Sampling(denoise_steps=2, horizon=horizon)
    rollouts = []
    for engine in ("eager", "graphs"):
        sampler = FrameSampler(world_model, engine=engine)
        for path in (1.0, 0.0):  # the second rollout replays what the first one recorded
            paths = torch.full((BATCH, 6), path)
            sampler.start(first_frame().cuda(), range(7, 7 + BATCH), paths=paths)
            frames = sampler.advance(actions(7).transpose(0, 1))
        rollouts.append(frames.cpu())
        assert sampler.frame_passes == 2 * 7 * 3
    assert relative(rollouts[1], rollouts[0]) < 1e-4


def test_graphs_are_refused_where_there_is_no_gpu_for_them(tiny_world_model: WorldModel):
    if tiny_world_model.device.type == "cpu":
        with pytest.raises(EngineUnavailable, match="is on cpu"):
            FrameSampler(tiny_world_model, engine="graphs")


def test_low_precision_imagines_nearly_the_same(tiny_world_model: WorldModel):
    exact = imagined(tiny_world_model, 3)
    tiny_world_model.precision = torch.bfloat16
    rough = imagined(tiny_world_model, 3)
    assert rough.dtype == torch.float32
    assert 0 < relative(rough, exact) < 0.15
