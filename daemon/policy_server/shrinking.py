"""`learning.batch.resize_frames` for the one picture of a decision: the same bytes, in a third of the time.

The mean over a block of 2^n pixels needs no floating point: sums of bytes are exact in sixteen bits, and so
is rounding to nearest, ties to even, which is what the learner's own arithmetic comes to. Pictures whose
blocks are none such are left to it.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from daemon.learning.batch import IMAGE_SIZE, resize_frames

U8: TypeAlias = NDArray[np.uint8]
U16: TypeAlias = NDArray[np.uint16]

FACTORS: Final = (1, 2, 4, 8)  # 64 bytes of a block sum up to less than 2^16


def shrink(image: U8) -> torch.Tensor:
    """What `resize_frames` makes of one picture uint8 [H, W, 3]: uint8 [1, 3, 64, 64], byte for byte.

    Raises:
        BadTensor: another dtype or shape.
    """
    if not _is_whole(image):
        return resize_frames(image[None])
    down, across = image.shape[0] // IMAGE_SIZE, image.shape[1] // IMAGE_SIZE
    rows = _sum([image[offset::down] for offset in range(down)])  # [64, W, 3]
    blocks = _sum([rows[:, offset::across] for offset in range(across)])  # [64, 64, 3]
    shift = (down * across).bit_length() - 1
    mean = _rounded(blocks, shift).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(mean.transpose(2, 0, 1))[None])


def _is_whole(image: U8) -> bool:
    wanted = {factor * IMAGE_SIZE for factor in FACTORS}
    return (
        image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and wanted >= {*image.shape[:2]}
    )


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
