"""`tf.train.Example` as bytes and back, without TensorFlow: a map from names to lists of one kind.

The three kinds are bytes, 32-bit floats and 64-bit whole numbers. Source: tensorflow/core/example/*.proto and
the protocol buffers' wire format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = Sequence[bytes] | NDArray[np.float32] | NDArray[np.int64]

BYTES, FLOATS, INTEGERS = 1, 2, 3  # fields of tf.train.Feature
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5  # wire types
VARINT_BYTES: Final = 10


class ExampleBroken(ValueError):
    """Not the bytes of an Example; whoever knows the file says which."""


def encode_example(features: Mapping[str, Values]) -> bytes:
    """Bytes of an Example; names in sorted order, so that equal features give equal bytes."""
    entries = []
    for name in sorted(features):
        entry = length_delimited(1, name.encode()) + length_delimited(2, _feature(features[name]))
        entries.append(length_delimited(1, entry))
    return length_delimited(1, b"".join(entries))


def decode_example(content: bytes) -> dict[str, Values]:
    """What the bytes hold.

    Raises:
        ExampleBroken: they are not those of an Example.
    """
    found: dict[str, Values] = {}
    for field, value in _fields(content):
        if field == 1:
            for each, entry in _fields(_bytes(value)):
                if each == 1:
                    name, values = _entry(_bytes(entry))
                    found[name] = values
    return found


def _feature(values: Values) -> bytes:
    if isinstance(values, np.ndarray):
        if values.dtype == np.float32:
            return length_delimited(FLOATS, length_delimited(1, values.astype("<f4").tobytes()))
        return length_delimited(INTEGERS, length_delimited(1, b"".join(varint(int(each)) for each in values)))
    return length_delimited(BYTES, b"".join(length_delimited(1, each) for each in values))


def length_delimited(number: int, content: bytes) -> bytes:
    """A field of bytes, text or another message."""
    return key(number, LENGTH_DELIMITED) + varint(len(content)) + content


def key(number: int, wire: int) -> bytes:
    """What stands before a field's value: its number and its wire type."""
    return varint(number << 3 | wire)


def varint(value: int) -> bytes:
    """A whole number, seven bits to a byte, the lowest first; negative ones as in 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _entry(content: bytes) -> tuple[str, Values]:
    """One name with its list."""
    parts = dict(_fields(content))
    try:
        name = _bytes(parts.get(1, b"")).decode()
    except UnicodeDecodeError as error:
        raise ExampleBroken("a name that is no text") from error
    kinds = list(_fields(_bytes(parts.get(2, b""))))
    if len(kinds) != 1:
        return name, []
    kind, packed = kinds[0]
    own = [value for field, value in _fields(_bytes(packed)) if field == 1]
    if kind == BYTES:
        return name, [_bytes(each) for each in own]
    if kind == FLOATS:
        return name, np.frombuffer(b"".join(_bytes(each) for each in own), "<f4").astype(np.float32)
    return name, np.array([_signed(each) for each in _integers(own)], np.int64)


def _integers(own: Sequence[Any]) -> Iterator[int]:
    """Whole numbers, packed or one by one."""
    for each in own:
        if isinstance(each, int):
            yield each
        else:
            at = 0
            while at < len(each):
                value, at = _read_varint(each, at)
                yield value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ExampleBroken("a number where bytes belong")
    return value


def _fields(content: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Field numbers with their values: whole numbers, or bytes of what has a length or a fixed width."""
    at = 0
    while at < len(content):
        key, at = _read_varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _read_varint(content, at)
            yield number, value
            continue
        if wire == LENGTH_DELIMITED:
            size, at = _read_varint(content, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ExampleBroken(f"wire type {wire}")
        if at + size > len(content):
            raise ExampleBroken(f"{len(content) - at} of {size} bytes")
        yield number, content[at : at + size]
        at += size


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(VARINT_BYTES):
        if at + place >= len(content):
            raise ExampleBroken("a number that is cut off")
        byte = content[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value & (1 << 64) - 1, at + place + 1
    raise ExampleBroken("a number of more than ten bytes")
