"""TFRecord files: byte strings one after the other, each with its length and two masked checksums.

Layout of a record, little-endian: length u64 | masked crc32c of the length u32 | content | masked crc32c of
the content u32. What the content means is not known here; see `tf_example`.

Source: the checksum is CRC-32C (RFC 3720, appendix B.4); it is linear, so blocks are summed side by side and
joined (Adler's crc32_combine).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.interchange.errors import DatasetInvalid

U32: TypeAlias = NDArray[np.uint32]

POLYNOMIAL: Final = 0x82F63B78  # of Castagnoli, bits reversed
MASK_DELTA: Final = 0xA282EAD8
LENGTH: Final = struct.Struct("<Q")
CHECKSUM: Final = struct.Struct("<I")
MAX_BYTES: Final = 1 << 30  # of one record; an episode of a thousand pictures has 100 MB
BLOCKS: Final = 2048  # summed side by side
SMALL: Final = 4 * BLOCKS  # bytes below which one after the other is as fast


def crc32c(content: bytes) -> int:
    """CRC-32C of a byte string."""
    register = 0xFFFFFFFF
    length = len(content) // BLOCKS if len(content) > SMALL else 0
    if length:
        rows = np.frombuffer(content, np.uint8, count=length * BLOCKS).reshape(BLOCKS, length)
        sums = _feed(np.zeros(BLOCKS, np.uint32), rows)
        shift = _shift(length)
        for own in sums.tolist():
            register = (
                shift[0][register & 255]
                ^ shift[1][register >> 8 & 255]
                ^ shift[2][register >> 16 & 255]
                ^ shift[3][register >> 24]
                ^ own
            )
    table = _table().tolist()
    for byte in content[length * BLOCKS :]:
        register = table[(register ^ byte) & 255] ^ register >> 8
    return register ^ 0xFFFFFFFF


def masked_crc32c(content: bytes) -> int:
    """The checksum as TFRecord stores it: turned by 15 bits and moved by a constant."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def write_record(file: BinaryIO, content: bytes) -> int:
    """Append one record; how many bytes it took."""
    head = LENGTH.pack(len(content))
    parts = (head, CHECKSUM.pack(masked_crc32c(head)), content, CHECKSUM.pack(masked_crc32c(content)))
    return sum(file.write(part) for part in parts)


def read_records(path: Path) -> Iterator[bytes]:
    """Every record of a file, checked.

    Raises:
        DatasetInvalid: a record is cut off, too long, or fails a checksum.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while head := file.read(LENGTH.size):
                yield _read_record(path, file, head, number=number)
                number += 1
    except OSError as error:
        raise DatasetInvalid(path=path, expected="a file that can be read", found=str(error)) from error


def _read_record(path: Path, file: BinaryIO, head: bytes, *, number: int) -> bytes:
    _check(path, head + file.read(CHECKSUM.size), size=LENGTH.size, thing=f"the length of record {number}")
    (size,) = LENGTH.unpack(head)
    if size > MAX_BYTES:
        raise DatasetInvalid(path=path, expected=f"records of at most {MAX_BYTES} bytes", found=f"{size}")
    framed = file.read(size + CHECKSUM.size)
    _check(path, framed, size=size, thing=f"record {number}")
    return framed[:size]


def _check(path: Path, framed: bytes, *, size: int, thing: str) -> None:
    if len(framed) != size + CHECKSUM.size:
        found = f"{len(framed)} of {size + CHECKSUM.size} bytes"
        raise DatasetInvalid(path=path, expected=f"{thing} whole", found=found)
    (told,) = CHECKSUM.unpack_from(framed, size)
    if told != masked_crc32c(framed[:size]):
        raise DatasetInvalid(path=path, expected=f"{thing} with its checksum", found="another checksum")


@cache
def _table() -> U32:
    """What one byte does to an empty register, [256]."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(POLYNOMIAL), values >> 1).astype(np.uint32)
    return values


def _feed(registers: U32, rows: NDArray[np.uint8]) -> U32:
    """Feed each register its own row of bytes, [N] and [N, L]."""
    table = _table()
    for column in rows.T:
        registers = table[(registers ^ column) & np.uint32(255)] ^ registers >> np.uint32(8)
    return registers


@cache
def _shift(length: int) -> list[list[int]]:
    """What `length` zero bytes do to a register, as one table for each of its bytes, [4][256]."""
    ones = np.uint32(1) << np.arange(32, dtype=np.uint32)
    images = _feed(ones, np.zeros((32, length), np.uint8))
    bits = np.arange(256)[:, None] >> np.arange(8) & 1  # [256, 8]
    tables = []
    for byte in range(4):
        chosen = np.where(bits, images[8 * byte : 8 * byte + 8], np.uint32(0)).astype(np.uint32)
        tables.append(np.bitwise_xor.reduce(chosen, axis=1).tolist())
    return tables
