"""Finetuning teaches a copy, and the held-out error is the number it claims to be."""

import pytest
import torch
from torch import Tensor

from daemon.learning.batch import Clip, ClipInvalid, NoWindow
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.finetune import (
    FinetuneConfig,
    finetune_world_model,
    held_out_error,
    measure_held_out,
)
from daemon.learning.world_model.latents import encode_clips
from daemon.learning.world_model.model import WorldModel, nano_world_model

QUICK = {"updates": 3, "batch": 4, "frames": 4}


@pytest.fixture
def world_model() -> WorldModel:
    model = nano_world_model(seed=0, in_channels=4, dim=32, layers=1, heads=2, max_frames=4)
    model.precision = torch.float32
    return model


def a_clip(name: str, *, steps: int = 6, seed: int = 0) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    return Clip(
        frames=torch.randint(256, (steps + 1, 3, 64, 64), dtype=torch.uint8, generator=generator),
        actions=torch.randn(steps, 7, generator=generator) * 0.02,
        instruction="open the drawer",
        episode_id=name,
    )


def weights(model: WorldModel) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.transformer.parameters()])


def test_the_parent_is_not_changed_and_the_child_is(world_model: WorldModel):
    before = weights(world_model).clone()
    done = finetune_world_model(
        world_model, [a_clip("f")], [a_clip("b")], config=FinetuneConfig(**QUICK), on_update=lambda *_: None
    )
    assert torch.equal(weights(world_model), before)
    assert not torch.equal(weights(done.world_model), before)
    assert done.updates == 3
    assert done.left_out == ()


def test_encoded_clips_teach_the_same_as_clips(world_model: WorldModel):
    fresh, base = [a_clip("f", seed=1)], [a_clip("b", seed=2)]
    config = FinetuneConfig(**QUICK)
    one = finetune_world_model(world_model, fresh, base, config=config, on_update=lambda *_: None)
    encoded = encode_clips(world_model, base)
    two = finetune_world_model(world_model, fresh, encoded, config=config, on_update=lambda *_: None)
    assert torch.equal(weights(one.world_model), weights(two.world_model))
    assert one.loss == two.loss


def test_finetuning_on_one_episode_lowers_its_loss(world_model: WorldModel):
    losses: list[float] = []
    done = finetune_world_model(
        world_model,
        [a_clip("f", steps=3)],
        [],
        config=FinetuneConfig(updates=80, batch=8, frames=4, learning_rate=1e-2),
        on_update=lambda _update, metrics: losses.append(metrics["loss"]),
    )
    assert len(losses) == 80
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])
    assert done.loss == pytest.approx(sum(losses[-8:]) / 8)


def test_short_episodes_are_left_out_by_name(world_model: WorldModel):
    done = finetune_world_model(
        world_model,
        [a_clip("stub", steps=2)],
        [a_clip("b")],
        config=FinetuneConfig(**QUICK),
        on_update=lambda *_: None,
    )
    assert done.left_out == ("stub",)


def test_without_any_episode_there_is_nothing_to_learn(world_model: WorldModel):
    with pytest.raises(NoWindow, match="none of 0 clips"):
        finetune_world_model(world_model, [], [], config=FinetuneConfig(**QUICK), on_update=lambda *_: None)


def test_a_broken_episode_is_refused_before_any_training(world_model: WorldModel):
    broken = a_clip("broken")
    broken.actions[2, 3] = float("nan")
    updates: list[int] = []
    with pytest.raises(ClipInvalid, match="broken"):
        finetune_world_model(
            world_model,
            [broken],
            [a_clip("b")],
            config=FinetuneConfig(**QUICK),
            on_update=lambda update, _metrics: updates.append(update),
        )
    assert updates == []


def test_divergence_names_the_episodes_and_spares_the_parent(world_model: WorldModel):
    before = weights(world_model).clone()
    encoded = encode_clips(world_model, [a_clip("diverging")])
    encoded.clips[0].latents[:] = float("nan")
    with pytest.raises(NonFiniteLoss, match="diverging"):
        finetune_world_model(
            world_model, encoded, [], config=FinetuneConfig(**QUICK), on_update=lambda *_: None
        )
    assert torch.equal(weights(world_model), before)


def test_an_error_is_the_mean_over_episodes_of_the_squared_pixel_difference(world_model: WorldModel):
    """A decoder that always paints 51 (0.2 of 255) makes every error known by hand."""
    with torch.no_grad():
        last = world_model.autoencoder.decoder[-2]
        last.weight.zero_()
        last.bias.fill_(51 / 127.5 - 1)
    clips = [a_clip("a"), a_clip("b")]
    clips[0].frames[1], clips[1].frames[1] = 51, 153  # right, and 0.4 off
    clips[0].frames[4], clips[1].frames[4] = 0, 102  # 0.2 off, twice
    errors = held_out_error(world_model, clips, horizons=(1, 4), seed=0)
    assert errors == pytest.approx({1: 0.16 / 2, 4: 0.04}, abs=1e-6)


def test_standing_still_is_measured_against_the_real_first_picture(world_model: WorldModel):
    clip = a_clip("a")
    clip.frames[0], clip.frames[2], clip.frames[3] = 0, 255, 51
    still = measure_held_out(world_model, [clip], horizons=(2, 3), seed=0).still
    assert still == pytest.approx({2: 1.0, 3: 0.04}, abs=1e-6)


def test_real_actions_are_replayed_from_the_real_first_frame(world_model: WorldModel):
    """A model that has learnt nothing imagines noise alone: then actions would not matter. Stir it first."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in world_model.transformer.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    clip, other = a_clip("a"), a_clip("a")
    other.actions[1] += 0.03
    one, two = (measure_held_out(world_model, [c], horizons=(1, 2), seed=0).latents for c in (clip, other))
    assert one[1] == two[1], "action 1 does not reach frame 1"
    assert one[2] != two[2], "action 1 produces frame 2"


def test_shorter_episodes_count_only_for_the_horizons_they_reach(world_model: WorldModel):
    long, short = a_clip("long", steps=6, seed=1), a_clip("short", steps=2, seed=2)
    both = measure_held_out(world_model, [long, short], horizons=(1, 6), seed=0)
    alone = measure_held_out(world_model, [long], horizons=(6,), seed=0)
    assert both.still[6] == pytest.approx(alone.still[6])
    assert both.still[1] != pytest.approx(
        measure_held_out(world_model, [long], horizons=(1,), seed=0).still[1]
    )


def test_many_episodes_are_measured_in_batches(world_model: WorldModel):
    clips = [a_clip(str(i), steps=1, seed=i) for i in range(70)]
    still = measure_held_out(world_model, clips, horizons=(1,), seed=0).still[1]
    by_hand = [((c.frames[0] / 255 - c.frames[1] / 255) ** 2).mean().item() for c in clips]
    assert still == pytest.approx(sum(by_hand) / 70)


def test_the_same_seed_measures_the_same(world_model: WorldModel):
    clips = [a_clip("a")]
    one, two, other = (
        measure_held_out(world_model, clips, horizons=(3,), seed=seed).latents for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other


@pytest.mark.parametrize("clips", [[], [a_clip("a", steps=3)]])
def test_a_horizon_that_no_episode_reaches_is_refused(world_model: WorldModel, clips: list[Clip]):
    with pytest.raises(NoWindow, match="11 frames"):
        held_out_error(world_model, clips, horizons=(1, 10), seed=0)


def test_a_broken_held_out_episode_is_refused(world_model: WorldModel):
    broken = a_clip("broken")
    broken.actions[0, 0] = float("inf")
    with pytest.raises(ClipInvalid, match="broken"):
        held_out_error(world_model, [broken], horizons=(1,), seed=0)
