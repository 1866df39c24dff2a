"""What the tensors of a safetensors file hash to, apart from its header's cards: are two trainings bit-equal?

Reads the file as its format says, a piece at a time: no tensor is made.

Source: the safetensors format, https://github.com/huggingface/safetensors#format.
"""

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from daemon.learning.state import CheckpointUnreadable

CARDS = "__metadata__"
PIECE_BYTES = 1 << 20
MOST_HEADER_BYTES = 100_000_000  # as the library's own reader allows


def tensors_digest(path: Path) -> str:
    """sha256 over name, type, shape and bytes of every tensor, in order of name.

    Raises:
        CheckpointUnreadable: not a whole safetensors file.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            start, entries = _header(file)
            for name, entry in sorted(entries.items()):
                begin, end = entry["data_offsets"]
                digest.update(json.dumps([name, entry["dtype"], entry["shape"], end - begin]).encode())
                for piece in _pieces(file, start + begin, count=end - begin):
                    digest.update(piece)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointUnreadable(
            path=path, expected="a whole safetensors file", found=str(error)
        ) from error
    return digest.hexdigest()


def _header(file: BinaryIO) -> tuple[int, dict[str, Any]]:
    """Where the tensors' bytes begin, and what the header says of each."""
    (length,) = struct.unpack("<Q", file.read(8))
    if length > MOST_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    entries = json.loads(file.read(length))
    entries.pop(CARDS, None)
    return 8 + length, entries


def _pieces(file: BinaryIO, begin: int, *, count: int) -> Iterator[bytes]:
    file.seek(begin)
    while count > 0:
        piece = file.read(min(count, PIECE_BYTES))
        if not piece:
            raise ValueError("tensors that are cut short")
        count -= len(piece)
        yield piece
