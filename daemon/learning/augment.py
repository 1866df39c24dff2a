"""Pictures made a little different: small shifts and colour changes that must not change what to do.

One draw holds for a whole sample: all frames of a sample shift and tint alike, so motion between them is
untouched.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from daemon.learning.errors import BadTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How far pictures may change. Fractions are of full scale, `shift` in pixels either way."""

    shift: int = 3
    brightness: float = 0.10  # added to every channel alike
    contrast: float = 0.15  # stretch about mid-grey
    tint: float = 0.08  # gain of each colour channel on its own


def augment(images: Tensor, amount: Augmentation, *, generator: torch.Generator) -> Tensor:
    """Shift and recolour samples at random, each sample with its own draw.

    Args:
        images: uint8 [B, ..., 3, H, W]; everything between B and 3 belongs to one sample.

    Returns:
        uint8 of the same shape, on the same device. Pixels shifted in repeat the border.

    Raises:
        BadTensor: not uint8 [B, ..., 3, H, W].
    """
    if images.dtype != torch.uint8 or images.ndim < 4 or images.shape[-3] != 3:
        found = f"{images.dtype} {list(images.shape)}"
        raise BadTensor(name="images", expected="uint8 [B, ..., 3, H, W]", found=found)
    frames = images.reshape(len(images), -1, *images.shape[-3:])  # [B, X, 3, H, W]
    return _recolour(_shift(frames, amount.shift, generator), amount, generator).view(images.shape)


def _shift(frames: Tensor, limit: int, generator: torch.Generator) -> Tensor:
    if limit == 0:
        return frames
    batch, _, _, height, width = frames.shape
    moves = torch.randint(-limit, limit + 1, (batch, 2), generator=generator).to(frames.device)
    rows = (torch.arange(height, device=frames.device) + moves[:, :1]).clamp(0, height - 1)  # [B, H]
    columns = (torch.arange(width, device=frames.device) + moves[:, 1:]).clamp(0, width - 1)  # [B, W]
    sample = torch.arange(batch, device=frames.device)
    channels_last = frames.permute(0, 3, 4, 1, 2)  # [B, H, W, X, 3]
    moved = channels_last[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 4, 1, 2)


def _recolour(frames: Tensor, amount: Augmentation, generator: torch.Generator) -> Tensor:
    def uniform(channels: int, limit: float) -> Tensor:
        draw = torch.rand(len(frames), 1, channels, 1, 1, generator=generator) * 2 - 1
        return (draw * limit).to(frames.device)

    stretch = (1 + uniform(1, amount.contrast)) * (1 + uniform(3, amount.tint))  # [B, 1, 3, 1, 1]
    offset = uniform(1, amount.brightness) * 255
    grey = 127.5
    return ((frames.float() - grey) * stretch + grey + offset).round().clamp(0, 255).to(torch.uint8)
