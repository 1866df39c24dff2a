"""Two ways to shrink pictures by averaging areas: for any size, and, to the same bytes, quickly for some.

The mean over a block of 2^n pixels needs no floating point: sums of bytes are exact in sixteen bits, and so
is rounding to nearest, ties to even, which is what the arithmetic for any size comes to. Which of the two a
picture takes is decided in `batch.resize_frames`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

U8: TypeAlias = NDArray[np.uint8]
U16: TypeAlias = NDArray[np.uint16]

FACTORS: Final = (1, 2, 4, 8)  # 64 bytes of a block sum up to less than 2^16


def has_whole_blocks(images: U8, size: int) -> bool:
    """Whether images [N, H, W, 3] are `FACTORS` times `size` pixels high and wide."""
    return {*images.shape[1:3]} <= {factor * size for factor in FACTORS}


def block_means(images: U8, size: int) -> Tensor:
    """Means over the blocks of images uint8 [N, H, W, 3] that have whole ones: uint8 [N, 3, size, size]."""
    down, across = images.shape[1] // size, images.shape[2] // size
    rows = _sum([images[:, offset::down] for offset in range(down)])  # [N, size, W, 3]
    blocks = _sum([rows[:, :, offset::across] for offset in range(across)])  # [N, size, size, 3]
    shift = (down * across).bit_length() - 1
    mean = _rounded(blocks, shift).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(mean.transpose(0, 3, 1, 2)))


def area_means(images: U8, size: int) -> Tensor:
    """Means over areas of images uint8 [N, H, W, 3] of any size: uint8 [N, 3, size, size]."""
    return means_of(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2), size)


def means_of(images: Tensor, size: int) -> Tensor:
    """The same of images uint8 [N, 3, H, W] on any device; they stay there."""
    return F.interpolate(images.float(), size=(size, size), mode="area").round().to(torch.uint8)


def _sum(parts: list[NDArray[np.uint8]] | list[U16]) -> U16:
    total = parts[0].astype(np.uint16)
    for part in parts[1:]:
        total += part
    return total


def _rounded(sums: U16, shift: int) -> U16:
    """sums / 2^shift, ties to even."""
    if shift == 0:
        return sums
    half_less_one, odd = np.uint16((1 << (shift - 1)) - 1), (sums >> np.uint16(shift)) & np.uint16(1)
    return (sums + half_less_one + odd) >> np.uint16(shift)
