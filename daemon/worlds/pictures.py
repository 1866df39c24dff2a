"""Pictures that people send: decoded under limits, and kept as plain PNG without what else was in them."""

from __future__ import annotations

import base64
import binascii
import io
import struct
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from daemon.worlds.errors import PictureUnusable

MOST_BYTES: Final = 3 * 1024 * 1024  # of an encoded picture; a camera's JPEG has a tenth
MOST_TEXT: Final = 4 * (MOST_BYTES // 3)  # characters of it in base64
MOST_SIDE: Final = 2048  # pixels; decoded it is 12 MB at most
FORMATS: Final = ("PNG", "JPEG")
BROKEN: Final = (  # what the decoder says of bytes that are no picture, or too much of one
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture as it is kept."""

    png: bytes
    width: int
    height: int


def picture_of_text(text: str) -> Picture:
    """Read a picture that was sent as base64.

    Raises:
        PictureUnusable: it is not base64, not PNG or JPEG, broken, or too large.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PictureUnusable(expected="base64", found=f"{len(text)} other characters") from None
    return picture_of_bytes(content)


def picture_of_bytes(content: bytes) -> Picture:
    """Read a PNG or JPEG; its size is looked at before any pixel is decoded.

    Raises:
        PictureUnusable: it is not one, broken, or too large.
    """
    if len(content) > MOST_BYTES:
        raise PictureUnusable(expected=f"at most {MOST_BYTES} bytes", found=f"{len(content)}")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            width, height = opened.size
            if not (1 <= width <= MOST_SIDE and 1 <= height <= MOST_SIDE):
                sides = f"sides of 1 to {MOST_SIDE} pixels"
                raise PictureUnusable(expected=sides, found=f"{width} x {height}")
            pixels = opened.convert("RGB")
    except BROKEN:
        found = f"{len(content)} bytes that are none"
        raise PictureUnusable(expected="a whole PNG or JPEG", found=found) from None
    return picture_of_pixels(np.asarray(pixels))


def picture_of_pixels(pixels: NDArray[np.uint8]) -> Picture:
    """Pixels uint8 [H, W, 3] as they are kept."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return Picture(png=buffer.getvalue(), width=pixels.shape[1], height=pixels.shape[0])


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    """The pixels uint8 [H, W, 3] of a picture that was kept."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as opened:
        return np.array(opened.convert("RGB"), dtype=np.uint8)
