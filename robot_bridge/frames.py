"""All pictures of one episode in one blob, with random access: JPEGs behind an offset index.

Layout, little-endian: magic [8] | count u32 | width u32 | height u32 | reserved u32 (0) | offsets u64
[count + 1] | JPEGs. Offset i is where picture i starts, counted from the end of the index; the last one is
the length of all JPEGs. Arrays of the same episode are not here (see `steps.StepArrays`).
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from robot_bridge.errors import BadArray, FramesCorrupt

U8: TypeAlias = NDArray[np.uint8]

MAGIC: Final = b"GYMFRM1\n"
HEADER: Final = struct.Struct("<8sIIII")
OFFSET: Final = np.dtype("<u8")
MAX_SIDE: Final = (
    4096  # pixels; more than any camera here, small enough that a header cannot ask for gigabytes
)
MAX_FRAMES: Final = 100_000
JPEG_QUALITY: Final = 95
JPEG_START: Final = b"\xff\xd8"


def encode_jpeg(image: U8, quality: int = JPEG_QUALITY) -> bytes:
    """One RGB picture uint8 [H, W, 3] as JPEG, colour not subsampled: objects here are a few pixels wide.

    Raises:
        BadArray: not uint8 [H, W, 3].
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BadArray(thing="image", expected="uint8 [H, W, 3]", found=f"{image.dtype} {image.shape}")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def decode_jpeg(jpeg: bytes, *, width: int, height: int) -> U8:
    """The RGB picture uint8 [H, W, 3] in a JPEG that must have this size.

    Raises:
        FramesCorrupt: truncated, not a colour JPEG, or of another size.
    """
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
            if picture.size != (width, height) or picture.mode != "RGB":
                found = f"{picture.mode} {picture.size[0]}x{picture.size[1]}"
                raise FramesCorrupt(thing="picture", expected=f"RGB {width}x{height}", found=found)
            return np.array(picture, dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as cause:
        raise FramesCorrupt(thing="picture", expected="a whole JPEG", found=f"{len(jpeg)} bytes") from cause


def encode_frames(images: U8, quality: int = JPEG_QUALITY) -> bytes:
    """Pictures uint8 [N, H, W, 3] as one blob.

    Raises:
        BadArray: not uint8 [N, H, W, 3] with N >= 1.
    """
    if images.ndim != 4 or not len(images):
        raise BadArray(thing="images", expected="uint8 [N, H, W, 3]", found=f"{images.dtype} {images.shape}")
    jpegs = [encode_jpeg(image, quality) for image in images]
    return pack_jpegs(jpegs, width=images.shape[2], height=images.shape[1])


def pack_jpegs(jpegs: Sequence[bytes], *, width: int, height: int) -> bytes:
    """JPEGs that all have this size as one blob, byte for byte as they came."""
    offsets = np.concatenate([[0], np.cumsum([len(jpeg) for jpeg in jpegs])]).astype(OFFSET)
    header = HEADER.pack(MAGIC, len(jpegs), width, height, 0)
    return b"".join([header, offsets.tobytes(), *jpegs])


class FrameBlob:
    """A frames blob whose header and index hold together; pictures are decoded when asked for.

    Raises:
        FramesCorrupt: truncated, lengthened, not this format, or an index that does not add up.
    """

    __slots__ = ("_offsets", "_payload_at", "data", "height", "width")

    def __init__(self, data: bytes) -> None:
        self.data = bytes(data)
        count, self.width, self.height = _read_header(self.data)
        self._payload_at = HEADER.size + OFFSET.itemsize * (count + 1)
        self._offsets = _read_offsets(self.data, count)
        for index in range(count):
            if not self.jpeg(index).startswith(JPEG_START):
                raise FramesCorrupt(thing=f"picture {index}", expected="a JPEG", found="other bytes")

    @classmethod
    def of_images(cls, images: U8, quality: int = JPEG_QUALITY) -> FrameBlob:
        """Encode pictures uint8 [N, H, W, 3]."""
        return cls(encode_frames(images, quality))

    @classmethod
    def of_jpegs(cls, jpegs: Sequence[bytes], *, width: int, height: int) -> FrameBlob:
        """Pack JPEGs that are encoded already."""
        return cls(pack_jpegs(jpegs, width=width, height=height))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def index_digest(self) -> str:
        """sha256 of header and index, in hex: names which bytes are which picture."""
        return hashlib.sha256(self.data[: self._payload_at]).hexdigest()

    def jpeg(self, index: int) -> bytes:
        """Picture `index` as it was stored; IndexError past the end."""
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        start, stop = self._offsets[index], self._offsets[index + 1]
        return self.data[self._payload_at + start : self._payload_at + stop]

    def decode(self, index: int) -> U8:
        """Picture `index`, uint8 [H, W, 3] RGB."""
        return decode_jpeg(self.jpeg(index), width=self.width, height=self.height)

    def decode_all(self) -> U8:
        """All pictures, uint8 [N, H, W, 3] RGB."""
        return np.stack([self.decode(index) for index in range(len(self))])


def _read_header(blob: bytes) -> tuple[int, int, int]:
    if len(blob) < HEADER.size:
        raise FramesCorrupt(thing="header", expected=f"{HEADER.size} bytes", found=f"{len(blob)} bytes")
    magic, count, width, height, reserved = HEADER.unpack_from(blob)
    if magic != MAGIC or reserved != 0:
        raise FramesCorrupt(thing="magic", expected=f"{MAGIC!r}", found=f"{magic!r}")
    if not 1 <= count <= MAX_FRAMES or not 1 <= width <= MAX_SIDE or not 1 <= height <= MAX_SIDE:
        expected = f"1..{MAX_FRAMES} pictures of at most {MAX_SIDE} pixels a side"
        raise FramesCorrupt(thing="header", expected=expected, found=f"{count} of {width}x{height}")
    return count, width, height


def _read_offsets(blob: bytes, count: int) -> list[int]:
    payload_at = HEADER.size + OFFSET.itemsize * (count + 1)
    if len(blob) < payload_at:
        raise FramesCorrupt(thing="index", expected=f"{payload_at} bytes", found=f"{len(blob)} bytes")
    numbers = np.frombuffer(blob, dtype=OFFSET, count=count + 1, offset=HEADER.size)
    offsets = [int(number) for number in numbers]
    if offsets[0] != 0 or any(stop <= start for start, stop in pairwise(offsets)):
        raise FramesCorrupt(thing="index", expected="offsets that rise from 0", found=f"{offsets[:3]}…")
    if payload_at + offsets[-1] != len(blob):
        raise FramesCorrupt(
            thing="pictures", expected=f"{offsets[-1]} bytes", found=f"{len(blob) - payload_at} bytes"
        )
    return offsets
