"""Training the autoencoder weighs small moving things, ends normalised, and stops on nonsense."""

from collections.abc import Callable

import pytest
import torch

from daemon.learning.batch import Clip
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.world_model.autoencoder import NanoAutoencoder
from daemon.learning.world_model.autoencoder_training import AutoencoderConfig, Pictures, train_autoencoder


def small(seed: int = 0) -> NanoAutoencoder:
    torch.manual_seed(seed)
    return NanoAutoencoder(latent_channels=4, width=16, deep_width=32)


def test_pixels_that_move_weigh_more_and_weights_have_mean_one(square_clip: Callable[..., Clip]):
    pictures, weights = Pictures([square_clip(0)]).draw(16, generator=torch.Generator().manual_seed(0))
    assert weights.shape == (16, 1, 64, 64)
    assert float(weights.mean()) == pytest.approx(1)
    on_the_square = (pictures - 150 / 255).abs().amax(1, keepdim=True) > 0.1
    assert float(weights[on_the_square].mean()) > 2.5 * float(weights[~on_the_square].mean())


def test_an_object_that_never_moves_in_its_clip_still_weighs_more(square_clip: Callable[..., Clip]):
    still = [square_clip(seed) for seed in range(4)]
    for clip in still:
        clip.frames[:] = clip.frames[:1]
    pictures, weights = Pictures(still).draw(16, generator=torch.Generator().manual_seed(0))
    on_the_square = (pictures - 150 / 255).abs().amax(1, keepdim=True) > 0.1
    assert float(weights[on_the_square].mean()) > 1.5 * float(weights[~on_the_square].mean())


def test_every_frame_of_every_clip_can_be_drawn(square_clip: Callable[..., Clip]):
    clips = [square_clip(0, steps=2), square_clip(1, steps=1)]
    drawn, _ = Pictures(clips).draw(200, generator=torch.Generator().manual_seed(0))
    frames = torch.cat([clip.frames for clip in clips]).float() / 255
    matches = (drawn[:, None] == frames[None]).flatten(2).all(2)  # [200, 5]
    assert bool(matches.any(1).all())
    assert bool(matches.any(0).all())


def test_it_learns_a_few_pictures_and_ends_normalised(square_clip: Callable[..., Clip]):
    clips, seen = [square_clip(seed, steps=4) for seed in range(2)], []
    model = small()
    train_autoencoder(
        model,
        clips,
        config=AutoencoderConfig(updates=60, batch=8, learning_rate=5e-3),
        on_update=lambda update, metrics: seen.append((update, metrics["loss"])),
    )
    assert [update for update, _ in seen] == list(range(60))
    losses = [loss for _, loss in seen]
    assert sum(losses[-5:]) < 0.35 * sum(losses[:5])
    with torch.no_grad():
        frames = torch.cat([clip.frames for clip in clips]).float() / 127.5 - 1
        latents = model.encode(frames).latent_dist.mode().transpose(0, 1).flatten(1)
    assert torch.allclose(latents.mean(1), torch.zeros(4), atol=0.15)
    assert torch.allclose(latents.std(1), torch.ones(4), atol=0.15)


def test_the_same_seed_trains_the_same_autoencoder(square_clip: Callable[..., Clip]):
    config = AutoencoderConfig(updates=3, batch=4)
    models = [small(), small()]
    for model in models:
        train_autoencoder(model, [square_clip(0)], config=config, on_update=lambda *_: None)
    for one, two in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, two)


def test_training_stops_on_a_loss_that_is_not_finite_with_the_weights_untouched(
    square_clip: Callable[..., Clip],
):
    model = small()
    with torch.no_grad():
        model.place.fill_(float("inf"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(NonFiniteLoss, match="update 0"):
        train_autoencoder(
            model, [square_clip(0)], config=AutoencoderConfig(updates=2), on_update=lambda *_: None
        )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
