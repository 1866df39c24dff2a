"""The nano autoencoder: 64 × 64 pictures to 8 × 8 latents and back, with the contract of `AutoencoderKL`.

Pixels are folded into channels before the first convolution, which is what makes it cheap on a processor.
After training its latents have mean 0 and standard deviation 1 per channel (the scale is folded into the
weights), so `scaling_factor` stays 1. Training it is in `autoencoder_training.py`.

Source: Kingma and Welling 2013 (arXiv:1312.6114) for the posterior; Rombach et al. 2022
(arXiv:2112.10752) section 3.1 for a small KL weight.
"""

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn

FOLD = 4  # pixels on a side that the stem folds into one place
DOWN = 8  # pixels on a side of one latent place


class Residual(nn.Module):
    """Two convolutions around a shortcut; the second starts at zero, so a fresh block changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.outer = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.outer.weight)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner(nn.functional.silu(x))
        return x + self.outer(nn.functional.silu(inner))  # type: ignore[no-any-return]


class NanoAutoencoder(ModelMixin, ConfigMixin):
    """Encodes pictures in [-1, 1], [B, 3, 64, 64], to latents [B, latent_channels, 8, 8] and decodes them.

    Args:
        width: channels at 16 × 16 places.
        deep_width: channels at 8 × 8 places.
        image_size: the decoder knows its places, so the size is part of the model.
    """

    @register_to_config
    def __init__(
        self,
        *,
        latent_channels: int = 8,
        width: int = 48,
        deep_width: int = 80,
        image_size: int = 64,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        side = image_size // DOWN
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(FOLD),
            nn.Conv2d(3 * FOLD**2, width, 3, padding=1),
            Residual(width),
            nn.PixelUnshuffle(DOWN // FOLD),
            nn.Conv2d(width * (DOWN // FOLD) ** 2, deep_width, 1),
            Residual(deep_width),
        )
        self.quant_conv = nn.Conv2d(deep_width, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, deep_width, 1)
        self.place = nn.Parameter(torch.zeros(1, deep_width, side, side))
        self.decoder = nn.Sequential(
            Residual(deep_width),
            Residual(deep_width),
            nn.Conv2d(deep_width, width * (DOWN // FOLD) ** 2, 1),
            nn.PixelShuffle(DOWN // FOLD),
            Residual(width),
            nn.SiLU(),
            nn.Conv2d(width, 3 * FOLD**2, 3, padding=1),
            nn.PixelShuffle(FOLD),
        )

    def encode(self, x: Tensor) -> Any:
        """Posterior of pictures [B, 3, 64, 64] in [-1, 1], as `.latent_dist` with `sample()` and `mode()`."""
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(self.moments(x)))

    def decode(self, z: Tensor) -> Any:
        """Pictures of latents [B, c, 8, 8], as `.sample` in about [-1, 1]."""
        return DecoderOutput(sample=self.decoder(self.post_quant_conv(z) + self.place))

    def moments(self, x: Tensor) -> Tensor:
        """Mean and log variance of the posterior, [B, 2 c, 8, 8]."""
        return self.quant_conv(self.encoder(x))  # type: ignore[no-any-return]

    @torch.no_grad()
    def normalise(self, mean: Tensor, std: Tensor) -> None:
        """Fold a shift and a scale per latent channel [c] into the weights; pictures stay the same.

        Latents that had this mean and standard deviation have 0 and 1 afterwards.
        """
        scale = torch.cat((1 / std, torch.ones_like(std)))
        shift = torch.cat((-mean / std, -2 * std.log()))
        into, out = self.quant_conv.state_dict(), self.post_quant_conv.state_dict()
        into["weight"].mul_(scale[:, None, None, None])
        into["bias"].mul_(scale).add_(shift)
        out["bias"].add_(out["weight"].flatten(1) @ mean)
        out["weight"].mul_(std[None, :, None, None])
