"""Teaching the nano autoencoder to keep what matters: small things that move.

A picture of a cell is mostly still background. Pixels that differ from the mean of their clip, or from the
mean of all clips, weigh more, or an eggplant of thirty pixels would cost nothing to lose.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daemon.learning.batch import Clip
from daemon.learning.devices import autocast, choose_precision
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.world_model.autoencoder import NanoAutoencoder
from daemon.learning.world_model.optimizing import Optimizing, stepped

CLIP_WEIGHT = 4.0  # extra weight of a pixel that differs fully from its clip's mean
CELL_WEIGHT = 2.0  # and from the mean of all clips: objects that this episode never moved
FULL_DIFFERENCE = 0.15  # mean colour difference, of 1, that counts as fully different
SQUARED_SHARE = 4.0  # squared error beside absolute error: keeps small objects from turning grey
KL_WEIGHT = 1e-4  # per latent element, against per pixel errors in [-1, 1]
NORMALISE_FRAMES = 1024  # pictures whose latents set mean 0 and standard deviation 1

OnUpdate = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderConfig:
    """How long and how fast: `batch` pictures per update, cosine decay of the learning rate to zero."""

    updates: int = 1500
    batch: int = 32
    learning_rate: float = 2e-3
    seed: int = 0


class Pictures:
    """All frames of some clips, drawn one by one with the weights of their pixels."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips = clips
        self.means = torch.stack([clip.frames.float().mean(0) for clip in clips]) / 255  # [clips, 3, H, W]
        self.overall = self.means.mean(0)

    def draw(self, count: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures in [0, 1] [B, 3, H, W] and weights of their pixels [B, 1, H, W], mean 1 over the batch."""
        which = torch.randint(len(self.clips), (count,), generator=generator)
        moments = torch.rand(count, generator=generator)
        chosen = [
            self.clips[i].frames[int(at * len(self.clips[i].frames))]
            for i, at in zip(which.tolist(), moments.tolist(), strict=True)
        ]
        pictures = torch.stack(chosen).float() / 255
        weights = (
            1
            + CLIP_WEIGHT * _difference(pictures, self.means[which])
            + CELL_WEIGHT * _difference(pictures, self.overall)
        )
        return pictures, weights / weights.mean()


def train_autoencoder(
    autoencoder: NanoAutoencoder, clips: Sequence[Clip], *, config: AutoencoderConfig, on_update: OnUpdate
) -> None:
    """Train in place, then give the latents mean 0 and standard deviation 1.

    Raises:
        NonFiniteLoss: the weights are those before the update named.
    """
    generator = torch.Generator().manual_seed(config.seed)
    pictures = Pictures(clips)
    optimizing = Optimizing.of(autoencoder, rate=config.learning_rate, updates=config.updates, decays=True)
    device: torch.device = autoencoder.device
    autoencoder.train()
    for update in range(config.updates):
        drawn, weights = (part.to(device) for part in pictures.draw(config.batch, generator=generator))
        noise = torch.randn(len(drawn), *_latent_shape(autoencoder), generator=generator).to(device)
        with autocast(device, choose_precision(device.type)):
            loss, error = _loss(autoencoder, drawn * 2 - 1, weights=weights, noise=noise)
        if stepped([loss], autoencoder, optimizing) is None:
            raise NonFiniteLoss(phase="autoencoder", update=update, quantity="loss", inputs="its pictures")
        on_update(update, {"loss": loss.item(), "absolute_error": error.item()})
    autoencoder.eval()
    _normalise(autoencoder, pictures, generator)


def _loss(
    autoencoder: NanoAutoencoder, pixels: Tensor, *, weights: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    posterior = autoencoder.encode(pixels).latent_dist
    decoded = autoencoder.decode(posterior.mean + posterior.std * noise).sample.float()
    error = (decoded - pixels).abs()
    kl = 0.5 * (posterior.mean.float().square() + posterior.var.float() - 1 - posterior.logvar.float()).mean()
    reconstruction = (weights * (error + SQUARED_SHARE * error.square())).mean()
    return reconstruction + KL_WEIGHT * kl, error.mean() / 2


@torch.no_grad()
def _normalise(autoencoder: NanoAutoencoder, pictures: Pictures, generator: torch.Generator) -> None:
    drawn, _ = pictures.draw(NORMALISE_FRAMES, generator=generator)
    latents = autoencoder.encode(drawn.to(autoencoder.device) * 2 - 1).latent_dist.mode()
    flat = latents.transpose(0, 1).flatten(1)  # [c, everything]
    autoencoder.normalise(flat.mean(1), flat.std(1).clamp_min(1e-4))


def _latent_shape(autoencoder: NanoAutoencoder) -> tuple[int, int, int]:
    side = autoencoder.place.shape[-1]
    return int(autoencoder.config.latent_channels), side, side


def _difference(pictures: Tensor, means: Tensor) -> Tensor:
    """How different each pixel is, 0..1, [B, 1, H, W]."""
    return ((pictures - means).abs().mean(1, keepdim=True) / FULL_DIFFERENCE).clamp(max=1)
