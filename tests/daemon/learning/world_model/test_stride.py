"""A world model that imagines every so many steps: what it is told, what it learns from, how it begins."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from daemon.learning.batch import Clip, NoWindow
from daemon.learning.errors import BadTensor
from daemon.learning.world_model.latents import LatentClip, LatentClips, encode_clips
from daemon.learning.world_model.model import WorldModel, with_stride
from daemon.learning.world_model.sampling import FrameSampler
from daemon.learning.world_model.schedule import noise_schedule
from daemon.learning.world_model.slots import gathered, path_along, told_slots
from daemon.learning.world_model.training import TrainingConfig, train_transformer
from daemon.learning.world_model.transformer import WorldModelTransformer
from daemon.learning.world_model.windows import Pool, WindowSource, cut, frames_within, span_of

STRIDE = 3


@pytest.fixture
def strided(told_world_model: WorldModel) -> WorldModel:
    """Three actions a frame, each of which matters in its own way."""
    model = with_stride(told_world_model, STRIDE, max_frames=4)
    with torch.no_grad():
        weight = model.transformer.action_embedder.weight
        weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(9)) * 0.3)
    return model


def counted(steps: int = 12) -> LatentClip:
    """Frame f full of f; action f has f as its first number and 1 as its second."""
    actions = torch.zeros(steps, 10)
    actions[:, 0], actions[:, 1] = torch.arange(steps), 1.0
    frames = torch.arange(steps + 1.0)
    return LatentClip(
        latents=frames[:, None, None, None].expand(-1, 4, 8, 8).clone(),
        actions=actions,
        episode_id="counted",
        emphasis=frames[:, None, None].expand(-1, 8, 8).clone(),
    )


def test_actions_between_two_frames_stand_beside_one_another_in_order() -> None:
    actions = torch.arange(6.0)[:, None].expand(-1, 10)
    assert gathered(actions, 3).shape == (2, 30)
    assert gathered(actions, 3)[1, ::10].tolist() == [3, 4, 5]
    assert torch.equal(gathered(actions, 1), actions)


def test_the_path_of_a_frame_counts_every_action_before_it() -> None:
    clip = counted()
    each = path_along(clip.actions[None], torch.zeros(1, 6))
    every_third = path_along(gathered(clip.actions, STRIDE)[None], torch.zeros(1, 6))
    assert torch.equal(every_third, each[:, ::STRIDE])


def test_a_window_has_every_third_frame_and_all_actions_executed_from_each_on() -> None:
    windows = cut([(counted(), 2)], frames=3, stride=STRIDE)
    assert windows.latents[0, :, 0, 0, 0].tolist() == [2, 5, 8]
    assert windows.weights[0, :, 0, 0].tolist() == [3, 6, 9]
    assert windows.actions.shape == (1, 2, 30)
    assert windows.actions[0, :, ::10].tolist() == [[2, 3, 4], [5, 6, 7]]
    assert windows.paths[0, :2].tolist() == [1, 2], "the moves of steps 0 and 1"


def test_windows_begin_at_any_frame_that_leaves_room_for_a_whole_one() -> None:
    source = WindowSource(
        [Pool(name="all", clips=LatentClips((counted(),)))], batch=64, frames=4, seed=0, stride=STRIDE
    )
    begun = source.draw().latents[:, 0, 0, 0, 0].tolist()
    assert set(begun) == {0, 1, 2, 3}, "ten of thirteen frames are spanned"
    assert (span_of(4, STRIDE), frames_within(13, STRIDE), frames_within(12, STRIDE)) == (10, 5, 4)


def test_an_episode_too_short_for_the_span_is_left_out_and_refused_alone() -> None:
    short, long = replace(counted(8), episode_id="short"), counted()
    source = WindowSource(
        [Pool(name="all", clips=LatentClips((short, long)))], batch=2, frames=4, seed=0, stride=STRIDE
    )
    assert source.left_out == ("short",)
    with pytest.raises(NoWindow, match="window of 10 frames; the longest has 9"):
        WindowSource([Pool(name="all", clips=LatentClips((short,)))], batch=2, frames=4, seed=0, stride=3)


def test_it_begins_as_one_that_is_told_the_mean_of_its_actions(told_world_model: WorldModel) -> None:
    begun = with_stride(told_world_model, STRIDE, max_frames=4).transformer
    generator = torch.Generator().manual_seed(0)
    x, path = torch.randn(1, 2, 4, 8, 8, generator=generator), torch.randn(1, 2, 6, generator=generator)
    each = torch.randn(1, 2, STRIDE, 10, generator=generator)
    levels = torch.tensor([[30, 800]])
    with torch.no_grad():
        ours = begun(x, levels, torch.cat((each.flatten(2), path), dim=2))
        theirs = told_world_model.transformer(x, levels, torch.cat((each.mean(2), path), dim=2))
    assert torch.allclose(ours, theirs, atol=1e-5)


@torch.no_grad()
def test_remembered_frames_give_what_the_whole_window_gives(strided: WorldModel) -> None:
    generator = torch.Generator().manual_seed(4)
    first = torch.randn(2, 4, 8, 8, generator=generator)
    actions = gathered(torch.randn(2, 3 * STRIDE, 10, generator=generator), STRIDE)
    sampler = FrameSampler(strided)
    sampler.start(first, [7, 8])
    cached = sampler.advance(actions)
    schedule, level = noise_schedule("v_prediction"), strided.sampling.context_level
    own, frames = [torch.Generator().manual_seed(seed) for seed in (7, 8)], [first]
    slots = told_slots(actions, strided.transformer.config, path=torch.zeros(2, 6))
    assert slots.shape == (2, 4, 3 * 10 + 6)
    for at in range(1, 4):
        frame = torch.stack([torch.randn(4, 8, 8, generator=each) for each in own])
        for noise in schedule.walk(strided.sampling.denoise_steps):
            shown = torch.stack([*(schedule.dimmed(done, level) for done in frames), frame], dim=1)
            levels = torch.tensor([[level] * at + [noise]])
            frame = schedule.stepped(
                strided.transformer(shown, levels, slots[:, : at + 1])[:, -1], noise, frame
            )
        frames.append(frame)
    assert torch.allclose(cached, torch.stack(frames[1:], dim=1), atol=1e-4)
    assert sampler.frame_passes == 3 * (strided.sampling.denoise_steps + 1)


@pytest.mark.parametrize("step", range(6))
def test_each_action_changes_the_frame_that_it_leads_to_and_none_before(
    strided: WorldModel, step: int
) -> None:
    actions = torch.zeros(1, 6, 10)
    other = actions.clone()
    other[0, step, 0] = 1.0
    films = []
    for moved in (actions, other):
        sampler = FrameSampler(strided)
        sampler.start(torch.zeros(1, 4, 8, 8), [1])
        films.append(sampler.advance(gathered(moved, STRIDE)))
    differs = [not torch.equal(a, b) for a, b in zip(films[0][0], films[1][0], strict=True)]
    assert differs == [step < STRIDE, True]


def test_it_learns_to_move_what_is_moved(
    told_world_model: WorldModel, square_clip: Callable[..., Clip]
) -> None:
    """Loss falls on windows of three actions a frame, and so does it with its own imagination as context."""
    model = with_stride(told_world_model, STRIDE, max_frames=4)
    clips = encode_clips(model, [square_clip(seed, steps=12) for seed in range(4)])
    losses: list[float] = []
    config = TrainingConfig(updates=40, batch=4, frames=4, learning_rate=3e-3, own_context=0.5)
    train_transformer(
        model,
        [Pool(name="squares", clips=clips)],
        config=config,
        on_update=lambda _, metrics: losses.append(metrics["loss"]),
    )
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_a_checkpoint_keeps_the_stride_and_one_from_before_has_none(
    tmp_path: Path, strided: WorldModel, tiny_world_model: WorldModel
) -> None:
    strided.save(tmp_path / "wm.safetensors", {})
    again = WorldModel.load(tmp_path / "wm.safetensors").transformer
    assert (again.config.stride, again.config.max_frames, again.told_width) == (STRIDE, 4, 36)
    config = {name: value for name, value in tiny_world_model.transformer.config.items() if name[0] != "_"}
    del config["stride"]
    assert WorldModelTransformer(**config).config.stride == 1


def test_no_stride_below_one_and_none_beside_actions_that_act_at_their_frame(strided: WorldModel) -> None:
    with pytest.raises(ValueError, match="stride is 0, expected at least 1"):
        WorldModelTransformer(stride=0)
    with pytest.raises(ValueError, match="several actions a frame is 'acts_at_frame'"):
        WorldModelTransformer(stride=2, action_slot="acts_at_frame")
    with pytest.raises(ValueError, match="has a stride of 3, expected 1"):
        with_stride(strided, 5, max_frames=4)
    with pytest.raises(BadTensor, match=r"\[B, F, 36\], with the path, found \[1, 1, 16\]"):
        strided.transformer.modulations(torch.tensor([[0]]), torch.zeros(1, 1, 16))
