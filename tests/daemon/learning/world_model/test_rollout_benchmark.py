"""The benchmarks of the world model count what they say they count, and compare what can be compared."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from benchmarks import world_model_ablation, world_model_gpu
from benchmarks.world_model_rollout import SIDE, disagreement, ours, shown_again, world_model
from daemon.learning.batch import Clip
from daemon.learning.world_model.latents import encode_clips
from daemon.learning.world_model.training import train_transformer
from daemon.learning.world_model.windows import Pool

SIZE = {"in_channels": 4, "patch": 2, "dim": 16, "layers": 2, "heads": 2, "max_frames": 4}
FRAMES, STEPS = 6, 3


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("uncached", STEPS * (2 + 3 + 4 + 4 + 4 + 4)),
        ("per-frame cache", (2 + 3 + 4 + 4 + 4 + 4) + FRAMES * (STEPS - 1)),
    ],
)
def test_every_schedule_costs_its_passes_and_imagines_the_same_frames(name: str, passes: int):
    model = world_model(SIZE, denoise_steps=STEPS)
    first, actions = torch.randn(2, 4, SIDE, SIDE), torch.randn(FRAMES, 2, 10)
    own, other = ours(model, first, actions), shown_again(name, model, first, actions)
    assert (own.passes, other.passes) == (FRAMES * (STEPS + 1), passes)
    assert len(own.seconds) == len(other.seconds) == FRAMES
    assert disagreement(other, own, frames=3) < 1e-5
    assert float(own.frames[0].std()) > 0.01
    assert disagreement(own, ours(model, first, -actions), frames=3) > 1e-3, "the comparison says something"


@pytest.mark.parametrize("name", world_model_ablation.NAMES)
def test_every_way_of_the_ablation_learns_and_imagines(name: str, square_clip: Callable[..., Clip]):
    clips = [square_clip(seed, steps=34) for seed in range(2)]
    way = world_model_ablation.ways(clips, updates=2, batch=2)[name]
    model = way.world_model()
    pool = Pool(name="experts", clips=encode_clips(model, clips))
    train_transformer(model, [pool], config=replace(way.config, frames=4), on_update=lambda *_: None)
    errors = world_model_ablation.imagined(model, way.sampler(model), clips).pixels
    assert tuple(errors) == world_model_ablation.SHOWN_STEPS
    assert all(math.isfinite(error) for error in errors.values())


def test_an_untrained_difference_repeats_the_frame_before(
    square_clip: Callable[..., Clip],
):
    """Its last layer is zero, which leaves the guess alone, dimmed a little as context is."""
    way = world_model_ablation.ways([square_clip(0)], updates=1, batch=1)["difference"]
    model = way.world_model()
    sampler = way.sampler(model)
    first = torch.randn(2, 8, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    sampler.start(first, seeds=range(2))
    frame = sampler.advance(torch.zeros(2, 1, 10))[:, 0]
    assert float((frame - first).norm() / first.norm()) < 0.02


def test_folded_pictures_come_back_as_they_were(square_clip: Callable[..., Clip]):
    clip = square_clip(0)
    model = world_model_ablation.pixel_world_model([clip])
    assert torch.equal(model.decode(model.encode(clip.frames)), clip.frames)


def test_operations_are_those_of_the_products():
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert world_model_gpu.operations(lambda: a @ b) == 2 * 3 * 5 * 7


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile on a processor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.timeout(900)  # compiling takes minutes on a busy machine
def test_the_benchmark_for_accelerators_runs_on_a_processor_too(capsys: pytest.CaptureFixture[str]):
    here = torch.device("cpu")
    world_model_gpu.finetuning("tiny", saves=True, device=here, peak=1e12)
    world_model_gpu.imagination("tiny", batch=2, frames=2, device=here, peak=1e12)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["update,", "eager", "compiled", "graphs"]
