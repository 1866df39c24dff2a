"""Finetuning teaches a copy, from every pool that holds a window."""

import pytest
import torch
from torch import Tensor

from daemon.learning.batch import Clip, NoWindow
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.finetune import finetune_world_model
from daemon.learning.world_model.latents import LatentClips, encode_clips
from daemon.learning.world_model.model import Sampling, WorldModel, nano_world_model
from daemon.learning.world_model.training import TrainingConfig
from daemon.learning.world_model.windows import Pool

QUICK = TrainingConfig(updates=3, batch=4, frames=4)


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


def pool(world_model: WorldModel, *clips: Clip) -> Pool:
    return Pool(name="fresh", clips=encode_clips(world_model, clips))


def test_the_parent_is_not_changed_and_the_child_is(world_model: WorldModel):
    before = weights(world_model).clone()
    pools = [pool(world_model, a_clip("f")), pool(world_model, a_clip("b"))]
    done = finetune_world_model(world_model, pools, config=QUICK, on_update=lambda *_: None)
    assert torch.equal(weights(world_model), before)
    assert not torch.equal(weights(done.world_model), before)
    assert (done.updates, done.left_out) == (3, ())


def test_the_child_samples_and_stores_as_its_parent_does(world_model: WorldModel):
    world_model.sampling = Sampling(denoise_steps=5, guidance=2.0)
    done = finetune_world_model(
        world_model, [pool(world_model, a_clip("f"))], config=QUICK, on_update=lambda *_: None
    )
    assert done.world_model.sampling == world_model.sampling
    assert done.world_model.autoencoder_digest() == world_model.autoencoder_digest()


def test_finetuning_on_one_episode_lowers_its_loss(world_model: WorldModel):
    losses: list[float] = []
    finetune_world_model(
        world_model,
        [pool(world_model, a_clip("f", steps=3))],
        config=TrainingConfig(updates=80, batch=8, frames=4, learning_rate=1e-2),
        on_update=lambda _update, metrics: losses.append(metrics["loss"]),
    )
    assert len(losses) == 80
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_short_episodes_are_left_out_by_name(world_model: WorldModel):
    pools = [pool(world_model, a_clip("stub", steps=2)), pool(world_model, a_clip("b"))]
    done = finetune_world_model(world_model, pools, config=QUICK, on_update=lambda *_: None)
    assert done.left_out == ("stub",)


def test_without_any_episode_there_is_nothing_to_learn(world_model: WorldModel):
    with pytest.raises(NoWindow, match="none of 0 clips"):
        finetune_world_model(
            world_model, [Pool(name="f", clips=LatentClips())], config=QUICK, on_update=lambda *_: None
        )


def test_divergence_names_the_episodes_and_spares_the_parent(world_model: WorldModel):
    before = weights(world_model).clone()
    diverging = pool(world_model, a_clip("diverging"))
    diverging.clips.clips[0].latents[:] = float("nan")
    with pytest.raises(NonFiniteLoss, match="diverging"):
        finetune_world_model(world_model, [diverging], config=QUICK, on_update=lambda *_: None)
    assert torch.equal(weights(world_model), before)
