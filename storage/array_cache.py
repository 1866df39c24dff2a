"""Arrays that can always be made again from blobs, kept as files that are mapped instead of read.

Decoded pictures and latents are worth keeping and not worth trusting: the blobs stay the truth. A file holds
an `.npy` array and behind it the sha256 of all of it; one that is cut short or altered counts as absent and
is made again. Writing is not flushed to disk for the same reason.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from storage.errors import CacheNameInvalid

DIGEST_BYTES = 32
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
MAX_NAME = 200


class ArrayCache:
    """Arrays by kind and key; safe to share between processes.

    Args:
        root: a folder of its own; deleting it costs time and loses nothing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._checked: set[Path] = set()  # files whose digest this process has seen to be right

    def get(self, kind: str, key: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array, mapped from its file; made and written first where there is no good one.

        Writing to the array changes a copy in memory and never the file.

        Args:
            kind: what it is and what made it, such as a resolution or an autoencoder's digest.
            key: of what: something that changes when the source does, such as a manifest's digest.
            make: the array, never of objects.

        Raises:
            CacheNameInvalid: kind or key that is no plain file name.
        """
        path = self._place(kind, key)
        if path not in self._checked and not _is_whole(path):
            _write(path, make())
        self._checked.add(path)
        try:
            return _mapped(path)
        except FileNotFoundError:  # thrown away since it was checked
            _write(path, make())
            return _mapped(path)

    def _place(self, kind: str, key: str) -> Path:
        for name in (kind, key):
            plain = NAME_CHARACTERS.issuperset(name) and not name.startswith(".")
            if not name or len(name) > MAX_NAME or not plain:
                raise CacheNameInvalid(name=name)
        return self.root / kind / f"{key}.npy"


def _mapped(path: Path) -> NDArray[Any]:
    return np.load(path, mmap_mode="c", allow_pickle=False)  # type: ignore[no-any-return]


def _is_whole(path: Path) -> bool:
    """Whether there is a file, and what it holds is what was written."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return False
    body, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    return hashlib.sha256(body).digest() == digest


def _write(path: Path, array: NDArray[Any]) -> None:
    """The whole file under its name or none; two writers leave the same bytes."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    body = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            file.write(body)
            file.write(hashlib.sha256(body).digest())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
