"""A world model is one file: it comes back the same, small, and refuses files that are something else."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from daemon.learning.errors import BadTensor
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.state import CheckpointUnreadable, StateNotFinite, load_state, save_state
from daemon.learning.world_model.autoencoder import NanoAutoencoder
from daemon.learning.world_model.model import Sampling, WorldModel, nano_world_model
from daemon.learning.world_model.transformer import WorldModelTransformer

TINY = {"in_channels": 4, "dim": 32, "layers": 1, "heads": 2, "max_frames": 4}


def pictures(batch: int = 2) -> torch.Tensor:
    return torch.randint(
        256, (batch, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_what_was_saved_imagines_the_same_to_half_precision(tmp_path: Path, tiny_world_model: WorldModel):
    tiny_world_model.save(tmp_path / "wm.safetensors", {"updates": 7})
    again = WorldModel.load(tmp_path / "wm.safetensors")
    assert again.card == {"updates": 7}
    assert again.sampling == Sampling(denoise_steps=3)
    assert dict(again.transformer.config)["max_frames"] == 4
    for part in ("transformer", "autoencoder"):
        ours, theirs = getattr(tiny_world_model, part).state_dict(), getattr(again, part).state_dict()
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert theirs[name].dtype == torch.float32
            assert torch.allclose(theirs[name], tensor, rtol=1e-3, atol=1e-4)


def test_saving_what_was_loaded_writes_the_same_bytes(tmp_path: Path, tiny_world_model: WorldModel):
    tiny_world_model.save(tmp_path / "a", {"seed": 1})
    WorldModel.load(tmp_path / "a").save(tmp_path / "b", {"seed": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_nano_world_model_fits_in_nine_megabytes(tmp_path: Path):
    nano_world_model(seed=0).save(tmp_path / "wm.safetensors", {})
    assert 7e6 < (tmp_path / "wm.safetensors").stat().st_size < 9e6


def test_the_seed_decides_a_fresh_world_model_and_the_callers_randomness_stays_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = (nano_world_model(seed=seed, **TINY) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    weights = [model.transformer.x_proj.weight for model in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_copy_is_independent(tiny_world_model: WorldModel):
    twin = tiny_world_model.copy()
    with torch.no_grad():
        for part in (twin.transformer, twin.autoencoder):
            for weight in part.parameters():
                weight.zero_()
    assert float(tiny_world_model.transformer.x_proj.weight.detach().abs().sum()) > 0
    assert float(tiny_world_model.autoencoder.quant_conv.weight.detach().abs().sum()) > 0
    assert twin.sampling == tiny_world_model.sampling


def test_large_batches_encode_and_decode_as_small_ones(tiny_world_model: WorldModel):
    many = pictures(300)
    latents = tiny_world_model.encode(many)
    assert latents.dtype == torch.float32
    assert latents.shape == (300, 4, 8, 8)
    assert torch.allclose(latents[299:], tiny_world_model.encode(many[299:]), atol=1e-5)
    decoded = tiny_world_model.decode(latents)
    assert decoded.dtype == torch.uint8
    assert decoded.shape == many.shape


def test_decoded_pixels_are_clipped_not_wrapped(tiny_world_model: WorldModel):
    with torch.no_grad():
        last = tiny_world_model.autoencoder.decoder[-2]
        last.bias.fill_(5.0)
    assert int(tiny_world_model.decode(torch.zeros(1, 4, 8, 8)).min()) == 255
    with torch.no_grad():
        last.bias.fill_(-5.0)
    assert int(tiny_world_model.decode(torch.zeros(1, 4, 8, 8)).max()) == 0


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 64, 64),
        torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
        torch.zeros(2, 64, 64, 3, dtype=torch.uint8),
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        torch.zeros(0, 3, 64, 64, dtype=torch.uint8),
    ],
)
def test_pictures_of_another_kind_are_refused(tiny_world_model: WorldModel, images: torch.Tensor):
    with pytest.raises(BadTensor, match="world model: images"):
        tiny_world_model.encode(images)


def test_a_diverged_world_model_is_not_saved(tmp_path: Path, tiny_world_model: WorldModel):
    with torch.no_grad():
        tiny_world_model.transformer.x_proj.bias[0] = float("nan")
    with pytest.raises(StateNotFinite, match=r"transformer\.x_proj\.bias"):
        tiny_world_model.save(tmp_path / "wm.safetensors", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors, config: tensors.pop("transformer.x_proj.weight"),
        lambda tensors, config: tensors.pop("autoencoder.place"),
        lambda tensors, config: tensors.update({"transformer.surprise": torch.zeros(1)}),
        lambda tensors, config: config.pop("transformer"),
        lambda tensors, config: config["transformer"].update(dim=64),
        lambda tensors, config: config["transformer"].update(surprise=1),
        lambda tensors, config: config["sampling"].update(surprise=1),
    ],
)
def test_a_file_whose_tensors_and_config_do_not_fit_is_unreadable(
    tmp_path: Path, tiny_world_model: WorldModel, damage
):
    tiny_world_model.save(tmp_path / "wm", {})
    state = load_state(tmp_path / "wm")
    tensors, config = dict(state.tensors), dict(state.config)
    damage(tensors, config)
    save_state(tmp_path / "damaged", tensors, kind="world_model", config=config, card={})
    with pytest.raises(CheckpointUnreadable, match="damaged"):
        WorldModel.load(tmp_path / "damaged")


def test_a_policy_file_is_not_a_world_model(tmp_path: Path):
    save_state(tmp_path / "policy", {"a": torch.zeros(1)}, kind="policy", config={}, card={})
    with pytest.raises(CheckpointUnreadable, match="found policy"):
        WorldModel.load(tmp_path / "policy")


@pytest.fixture
def sd3_like() -> AutoencoderKL:
    """Stable Diffusion 3's autoencoder at a size for tests: a scale, a shift, no quantisation layers."""
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return autoencoder.eval()


def test_a_diffusers_autoencoder_is_scaled_and_not_shifted(
    tiny_transformer: WorldModelTransformer, sd3_like: AutoencoderKL
):
    model = WorldModel(tiny_transformer, sd3_like, image_size=32)
    model.precision = torch.float32
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    latents = model.encode(images)
    assert latents.shape == (2, 4, model.latent_side, model.latent_side) == (2, 4, 16, 16)
    with torch.no_grad():
        mode = sd3_like.encode(images / 127.5 - 1).latent_dist.mode()
        decoded = sd3_like.decode(mode).sample
    assert torch.allclose(latents, mode * 1.5305, atol=1e-5)
    expected = ((decoded + 1) * 127.5).round().clamp(0, 255)
    assert float((model.decode(latents).float() - expected).abs().max()) <= 1


def test_a_world_model_with_a_diffusers_autoencoder_comes_back_whole(
    tmp_path: Path, tiny_transformer: WorldModelTransformer, sd3_like: AutoencoderKL
):
    model = WorldModel(tiny_transformer, sd3_like, image_size=32, stored=torch.float32)
    model.save(tmp_path / "wm.safetensors", {})
    again = WorldModel.load(tmp_path / "wm.safetensors")
    assert (again.image_size, again.stored) == (32, torch.float32)
    assert isinstance(again.autoencoder, AutoencoderKL)
    latents = torch.randn(1, 4, 16, 16)
    for one in (model, again):
        one.precision = torch.float32
    assert torch.equal(again.decode(latents), model.decode(latents))
    env = ImaginedEnv(again, seed=0)
    env.reset(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert env.step(torch.zeros(1, 2, 7)).shape == (1, 3, 32, 32)


def test_an_autoencoder_of_other_latents_is_refused(tiny_transformer: WorldModelTransformer):
    with pytest.raises(BadTensor, match="4 channels"):
        WorldModel(tiny_transformer, NanoAutoencoder(latent_channels=5))
