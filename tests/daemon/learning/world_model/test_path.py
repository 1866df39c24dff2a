"""The path that a frame is told: sums since the episode began, read as waves, and nothing until trained."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from daemon.learning.errors import BadTensor
from daemon.learning.world_model.adapters import with_adapters, without_adapters
from daemon.learning.world_model.model import WorldModel, with_told_path
from daemon.learning.world_model.path import FEATURES, PATH_DIM, WAVE_LENGTHS, path_features
from daemon.learning.world_model.sampling import FrameSampler
from daemon.learning.world_model.transformer import WorldModelTransformer


def frames_of(model: WorldModel, *, paths: Tensor | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    sampler = FrameSampler(model)
    sampler.start(torch.randn(2, 4, 8, 8, generator=generator), [1, 2], paths=paths)
    return sampler.advance(torch.randn(2, 5, 10, generator=generator))


def told(model: WorldModelTransformer, *, path: Tensor) -> Tensor:
    """What one frame of zeros and no action becomes at this path."""
    actions = torch.cat((torch.zeros(1, 1, 10), path[None, None]), dim=2)
    return model(torch.ones(1, 1, 4, 8, 8), torch.tensor([[999]]), actions)


def test_a_path_is_read_as_itself_and_as_waves_of_four_lengths():
    path = torch.zeros(PATH_DIM)
    path[1] = 3.0
    features = path_features(path)
    assert features.shape == (FEATURES,) == (54,)
    assert features[:6].tolist() == path.tolist()
    for place, length in enumerate(WAVE_LENGTHS):
        sines, cosines = features[6 + 12 * place :][:12].chunk(2)
        turn = 2 * math.pi * 3.0 / length
        assert sines.tolist() == pytest.approx([0, math.sin(turn), 0, 0, 0, 0], abs=1e-6)
        assert cosines.tolist() == pytest.approx([1, math.cos(turn), 1, 1, 1, 1], abs=1e-6)


def test_a_model_newly_told_the_path_imagines_the_same_frames(tiny_world_model: WorldModel):
    newly = with_told_path(tiny_world_model)
    far = torch.full((2, PATH_DIM), 5.0)
    assert torch.equal(frames_of(newly), frames_of(tiny_world_model))
    assert torch.equal(frames_of(newly, paths=far), frames_of(tiny_world_model))
    assert newly.sampling == tiny_world_model.sampling
    assert not tiny_world_model.transformer.config.told_path, "it is a copy"
    with torch.no_grad():
        newly.transformer.x_proj.weight.add_(1)
    assert not torch.equal(newly.transformer.x_proj.weight, tiny_world_model.transformer.x_proj.weight)


def test_being_told_it_again_keeps_what_was_learned(tiny_world_model: WorldModel):
    once = with_told_path(tiny_world_model)
    torch.nn.init.constant_(once.transformer.path_mlp[2].weight, 0.1)
    again = with_told_path(once)
    assert torch.equal(again.transformer.path_mlp[2].weight, once.transformer.path_mlp[2].weight)
    assert again.transformer is not once.transformer


def test_the_seed_decides_the_new_weights_and_the_callers_randomness_stays_alone(
    tiny_world_model: WorldModel,
):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    models = [with_told_path(tiny_world_model, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    one, two, other = (model.transformer.path_mlp[0].weight for model in models)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_where_actions_stand_beside_the_frame_they_act_at_no_path_is_told(tiny_world_model: WorldModel):
    with pytest.raises(ValueError, match="told the path is 'acts_at_frame'"):
        WorldModelTransformer(told_path=True, action_slot="acts_at_frame")
    tiny_world_model.transformer.register_to_config(action_slot="acts_at_frame")
    with pytest.raises(ValueError, match="told the path is 'acts_at_frame'"):
        with_told_path(tiny_world_model)


def test_the_gradient_reaches_the_path_at_the_first_update(tiny_world_model: WorldModel):
    model = with_told_path(tiny_world_model).transformer
    told(model, path=torch.ones(PATH_DIM)).square().mean().backward()
    assert float(model.path_mlp[2].weight.grad.abs().sum()) > 0
    torch.nn.init.normal_(model.path_mlp[2].weight)
    told(model, path=torch.ones(PATH_DIM)).square().mean().backward()
    assert float(model.path_mlp[0].weight.grad.abs().sum()) > 0, "and all of it from the second on"


@torch.no_grad()
def test_a_trained_path_changes_what_is_predicted(told_world_model: WorldModel):
    model = told_world_model.transformer
    here, there = (told(model, path=torch.full((PATH_DIM,), at)) for at in (0.0, 0.4))
    assert float((here - there).norm() / here.norm()) > 1e-3


@pytest.mark.parametrize("width", [6, 10, 15, 17])
def test_a_model_that_is_told_the_path_refuses_actions_without_it(told_world_model: WorldModel, width: int):
    with pytest.raises(BadTensor, match=rf"\[B, F, 16\], with the path, found \[1, 1, {width}\]"):
        told_world_model.transformer.modulations(torch.tensor([[0]]), torch.zeros(1, 1, width))


def test_one_that_is_not_refuses_actions_with_it(tiny_world_model: WorldModel):
    with pytest.raises(BadTensor, match=r"\[B, F, 10\], without a path, found \[1, 1, 16\]"):
        tiny_world_model.transformer.modulations(torch.tensor([[0]]), torch.zeros(1, 1, 16))


def test_a_checkpoint_keeps_the_path(tmp_path: Path, told_world_model: WorldModel):
    told_world_model.stored = torch.float32
    told_world_model.save(tmp_path / "wm.safetensors", {})
    again = WorldModel.load(tmp_path / "wm.safetensors")
    again.precision = torch.float32
    assert again.transformer.told_width == 16
    paths = torch.ones(2, PATH_DIM)
    assert torch.equal(frames_of(again, paths=paths), frames_of(told_world_model, paths=paths))
    assert not torch.equal(frames_of(again), frames_of(again, paths=paths))


def test_so_does_a_folder_of_diffusers(tmp_path: Path, told_world_model: WorldModel):
    told_world_model.transformer.save_pretrained(tmp_path)
    again = WorldModelTransformer.from_pretrained(tmp_path)
    with torch.no_grad():
        path = torch.ones(PATH_DIM)
        ours, theirs = told(told_world_model.transformer, path=path), told(again, path=path)
        assert torch.allclose(theirs, ours, atol=1e-5)
        assert not torch.allclose(told(again, path=-path), ours, atol=1e-3)


def test_a_checkpoint_from_before_there_was_a_path_is_told_none(tiny_world_model: WorldModel):
    config = {name: value for name, value in tiny_world_model.transformer.config.items() if name[0] != "_"}
    del config["told_path"]
    old = WorldModelTransformer(**config)
    assert old.told_width == 10
    assert old.state_dict().keys() == tiny_world_model.transformer.state_dict().keys()


def test_adapters_can_learn_the_path(told_world_model: WorldModel):
    before = {name: t.clone() for name, t in told_world_model.transformer.state_dict().items()}
    module = with_adapters(told_world_model.transformer, rank=2, seed=0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "path_mlp" in name and "lora_B" in name:
                weight.add_(1)
    after = without_adapters(module).state_dict()
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed == {"path_mlp.0.weight", "path_mlp.2.weight"}
