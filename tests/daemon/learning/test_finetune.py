"""Finetuning teaches a copy, from every pool that holds a window."""

import pytest
import torch
from torch import Tensor

from daemon.learning.batch import Clip, NoWindow
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.finetune import finetune_world_model
from daemon.learning.world_model.latents import LatentClips, encode_clips
from daemon.learning.world_model.model import Sampling, WorldModel
from daemon.learning.world_model.training import TrainingConfig
from daemon.learning.world_model.windows import Pool
from tests.daemon.learning.noise import a_clip

QUICK = TrainingConfig(updates=3, batch=4, frames=4)


def weights(model: WorldModel) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.transformer.parameters()])


def pool(untaught: WorldModel, *clips: Clip) -> Pool:
    return Pool(name="fresh", clips=encode_clips(untaught, clips))


def test_the_parent_is_not_changed_and_the_child_is(untaught: WorldModel):
    before = weights(untaught).clone()
    pools = [pool(untaught, a_clip("f")), pool(untaught, a_clip("b"))]
    done = finetune_world_model(untaught, pools, config=QUICK, on_update=lambda *_: None)
    assert torch.equal(weights(untaught), before)
    assert not torch.equal(weights(done.world_model), before)
    assert (done.updates, done.left_out) == (3, ())


def test_the_child_samples_and_stores_as_its_parent_does(untaught: WorldModel):
    untaught.sampling = Sampling(denoise_steps=5, guidance=2.0)
    done = finetune_world_model(
        untaught, [pool(untaught, a_clip("f"))], config=QUICK, on_update=lambda *_: None
    )
    assert done.world_model.sampling == untaught.sampling
    assert done.world_model.autoencoder_digest() == untaught.autoencoder_digest()


def test_a_child_that_takes_on_a_quarter_lies_a_quarter_of_the_way_from_its_parent(untaught: WorldModel):
    pools = [pool(untaught, a_clip("f"))]

    def child(mixing: float) -> Tensor:
        quiet = {"config": QUICK, "on_update": lambda *_: None}
        return weights(finetune_world_model(untaught, pools, mixing=mixing, **quiet).world_model)

    parent, whole = weights(untaught), child(1.0)
    assert not torch.equal(whole, parent)
    assert torch.allclose(child(0.25), parent + 0.25 * (whole - parent), atol=1e-6)
    assert torch.equal(child(0.0), parent)


def test_finetuning_on_one_episode_lowers_its_loss(untaught: WorldModel):
    losses: list[float] = []
    finetune_world_model(
        untaught,
        [pool(untaught, a_clip("f", steps=3))],
        config=TrainingConfig(updates=80, batch=8, frames=4, learning_rate=1e-2),
        on_update=lambda _update, metrics: losses.append(metrics["loss"]),
    )
    assert len(losses) == 80
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_short_episodes_are_left_out_by_name(untaught: WorldModel):
    pools = [pool(untaught, a_clip("stub", steps=2)), pool(untaught, a_clip("b"))]
    done = finetune_world_model(untaught, pools, config=QUICK, on_update=lambda *_: None)
    assert done.left_out == ("stub",)


def test_without_any_episode_there_is_nothing_to_learn(untaught: WorldModel):
    with pytest.raises(NoWindow, match="none of 0 clips"):
        finetune_world_model(
            untaught, [Pool(name="f", clips=LatentClips())], config=QUICK, on_update=lambda *_: None
        )


def test_divergence_names_the_episodes_and_spares_the_parent(untaught: WorldModel):
    before = weights(untaught).clone()
    diverging = pool(untaught, a_clip("diverging"))
    diverging.clips.clips[0].latents[:] = float("nan")
    with pytest.raises(NonFiniteLoss, match="diverging"):
        finetune_world_model(untaught, [diverging], config=QUICK, on_update=lambda *_: None)
    assert torch.equal(weights(untaught), before)
