"""Pickles for tools that read nothing else: plain values and arrays written as opcodes. Nothing is read here.

Known are None, truth, whole numbers, floats, text, lists, dicts with text as keys, and numpy arrays of plain
numbers. Source: the opcodes of pickle protocol 4 and the state that numpy gives its arrays.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Plain: TypeAlias = bool | int | float | str | NDArray[Any] | Sequence["Plain"] | Mapping[str, "Plain"] | None

PROTOCOL: Final = b"\x80\x04"
STOP: Final = b"."
NONE: Final = b"N"


def plain_pickle(value: Plain) -> bytes:
    """The bytes that `pickle.load` turns back into the value; tuples come back as lists."""
    return PROTOCOL + _value(value) + STOP


def _value(value: Plain) -> bytes:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return _whole(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return _text(value)
    return _container(value)


def _container(value: NDArray[Any] | Sequence[Plain] | Mapping[str, Plain]) -> bytes:
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, Mapping):
        pairs = b"".join(_text(key) + _value(each) for key, each in value.items())
        return b"}(" + pairs + b"u"
    return b"](" + b"".join(_value(each) for each in value) + b"e"


def _whole(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _array(value: NDArray[Any]) -> bytes:
    """numpy's own form: an empty array, then its state (version, shape, dtype, order, bytes)."""
    plain = np.ascontiguousarray(value)
    raw = plain.tobytes()
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + _whole(0) + b"tC\x01btR"
    shape = b"(" + b"".join(_whole(side) for side in value.shape) + b"t"
    content = b"B" + struct.pack("<I", len(raw)) + raw
    return empty + b"(" + _whole(1) + shape + _dtype(plain.dtype) + b"\x89" + content + b"tb"


def _dtype(dtype: np.dtype[Any]) -> bytes:
    order = "|" if dtype.itemsize == 1 else "<"
    made = b"cnumpy\ndtype\n(" + _text(f"{dtype.kind}{dtype.itemsize}") + b"\x89\x88tR"
    return made + b"(" + _whole(3) + _text(order) + NONE * 3 + _whole(-1) * 2 + _whole(0) + b"tb"
