"""The nano autoencoder keeps AutoencoderKL's contract, and normalising its latents changes no picture."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from daemon.learning.world_model.autoencoder import NanoAutoencoder


@pytest.fixture
def autoencoder() -> NanoAutoencoder:
    """Random everywhere: fresh residual blocks change nothing and would hide mistakes."""
    torch.manual_seed(0)
    model = NanoAutoencoder(latent_channels=4, width=16, deep_width=24)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return model.eval()


def pixels(batch: int = 3) -> Tensor:
    return torch.rand(batch, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_pictures_of_64_pixels_become_latents_of_8_places_and_pictures_again(autoencoder: NanoAutoencoder):
    posterior = autoencoder.encode(pixels()).latent_dist
    assert posterior.mode().shape == (3, 4, 8, 8)
    assert autoencoder.decode(posterior.sample()).sample.shape == (3, 3, 64, 64)


@torch.no_grad()
def test_it_answers_to_the_calls_of_autoencoder_kl(autoencoder: NanoAutoencoder):
    kl = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
    )
    for model in (kl, autoencoder):
        posterior = model.encode(pixels(1)).latent_dist
        assert torch.allclose(posterior.mode(), posterior.mean)
        sample = posterior.sample(generator=torch.Generator().manual_seed(0))
        assert model.decode(sample).sample.shape == (1, 3, 64, 64)
        assert isinstance(model.config.scaling_factor, float)


@torch.no_grad()
def test_samples_scatter_around_the_mean_as_wide_as_the_posterior_says(autoencoder: NanoAutoencoder):
    posterior = autoencoder.encode(pixels(1)).latent_dist
    draws = torch.stack([posterior.sample() for _ in range(400)])
    assert torch.allclose(draws.mean(0), posterior.mean, atol=0.3)
    assert torch.allclose(draws.std(0), posterior.std, rtol=0.25)


@torch.no_grad()
def test_a_place_of_the_latents_speaks_of_its_part_of_the_picture(autoencoder: NanoAutoencoder):
    changed = pixels()
    changed[:, :, 40:48, 8:16] *= -1  # the eight pixels of place (5, 1)
    moved = (
        autoencoder.encode(changed).latent_dist.mode() - autoencoder.encode(pixels()).latent_dist.mode()
    ).abs()
    assert float(moved[:, :, 5, 1].max()) == float(moved.max())
    assert float(moved[:, :, :, 6:].max()) == 0, "five places away nothing changes"


@torch.no_grad()
def test_normalising_gives_latents_of_mean_zero_and_deviation_one(autoencoder: NanoAutoencoder):
    before = autoencoder.encode(pixels(8)).latent_dist.mode().transpose(0, 1).flatten(1)
    autoencoder.normalise(before.mean(1), before.std(1))
    after = autoencoder.encode(pixels(8)).latent_dist.mode().transpose(0, 1).flatten(1)
    assert torch.allclose(after.mean(1), torch.zeros(4), atol=1e-4)
    assert torch.allclose(after.std(1), torch.ones(4), atol=1e-4)


@torch.no_grad()
def test_normalising_changes_no_decoded_picture(autoencoder: NanoAutoencoder):
    before = autoencoder.encode(pixels()).latent_dist
    pictures = autoencoder.decode(before.mode()).sample
    mean, std = torch.tensor([0.5, -1.0, 0.0, 2.0]), torch.tensor([0.1, 2.0, 1.0, 3.0])
    autoencoder.normalise(mean, std)
    after = autoencoder.encode(pixels()).latent_dist
    assert torch.allclose(autoencoder.decode(after.mode()).sample, pictures, atol=1e-4)
    assert torch.allclose(after.std * std[:, None, None], before.std, rtol=1e-3), "the scatter scales with it"


@torch.no_grad()
def test_saving_as_diffusers_do_gives_the_same_pictures(tmp_path: Path, autoencoder: NanoAutoencoder):
    autoencoder.save_pretrained(tmp_path)
    again = NanoAutoencoder.from_pretrained(tmp_path)
    assert torch.equal(again.moments(pixels()), autoencoder.moments(pixels()))
