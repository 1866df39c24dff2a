"""A real camera behind a package that numbers no pictures: numbers, ages and the size that episodes hold.

A picture counts as new when it differs from the one before. A real sensor is never still, so equal pictures
mean that the same one was served again: the number stands and the age grows, also when a dead capture thread
serves its last picture for ever.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from robot_bridge.errors import DriverError

U8 = NDArray[np.uint8]


class PictureUnusable(DriverError):
    """The camera's package gave something that is no picture."""

    code = "picture_unusable"
    retryable = True
    sentence = "the camera must give {expected}, found {found}. Check that it is plugged in and was started."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """A picture uint8 [size, size, 3] RGB, its number, and seconds since it was seen first."""

    image: U8
    seq: int
    age_s: float


class LabCamera:
    """Gives pictures of one camera their numbers; `size` is the pixels per side they are squashed to."""

    def __init__(self, *, clock: Callable[[], float], size: int) -> None:
        self._clock, self._size = clock, size
        self._last: U8 | None = None
        self._frame: Frame | None = None
        self._since = 0.0

    def take(self, picture: U8) -> Frame:
        """The frame that a picture uint8 [H, W, 3] RGB is: whole, not cropped, as in the training data.

        Raises:
            PictureUnusable: not such a picture.
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            found = f"{picture.dtype} {picture.shape}"
            raise PictureUnusable(expected="uint8 [H, W, 3]", found=found)
        now = self._clock()
        if self._frame is None or self._last is None or not np.array_equal(self._last, picture):
            self._last, self._since = picture.copy(), now
            seq = 1 if self._frame is None else self._frame.seq + 1
            self._frame = Frame(image=squashed(picture, self._size), seq=seq, age_s=0.0)
        return Frame(image=self._frame.image, seq=self._frame.seq, age_s=now - self._since)


def squashed(picture: U8, size: int) -> U8:
    """A picture [H, W, 3] resized to [size, size, 3] without keeping its shape."""
    if picture.shape[:2] == (size, size):
        return picture.copy()
    return np.asarray(
        Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8
    )


def decode_swapped_jpeg(jpeg: bytes) -> U8:
    """RGB picture [H, W, 3] in a JPEG whose red and blue are swapped.

    These packages hand RGB arrays to an encoder that takes them for BGR, and decode them the same way: order
    survives between themselves, but the bytes show a blue world to everybody else.

    Raises:
        PictureUnusable: not a whole JPEG.
    """
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
            return np.ascontiguousarray(np.asarray(picture.convert("RGB"), dtype=np.uint8)[..., ::-1])
    except (UnidentifiedImageError, OSError, SyntaxError) as cause:
        found = f"{len(jpeg)} bytes"
        raise PictureUnusable(expected="a whole JPEG", found=found) from cause
