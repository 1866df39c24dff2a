"""Event files that TensorBoard reads, written without it: scalars by tag and step.

A file is TFRecord; each record is an Event: wall_time (1, double), step (2, int64), and file_version (3) in
the first record or a summary (5) with values (1) of a tag (1) and a simple_value (2, float) in the others.
Source: tensorboard/compat/proto/event.proto and summary.proto, and the protocol buffers' wire format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage.interchange.tf_example import FIXED32, FIXED64, VARINT, key, length_delimited, varint
from storage.interchange.tfrecord import write_record

VERSION: Final = b"brain.Event:2"
PREFIX: Final = "events.out.tfevents"  # what TensorBoard looks for in a file's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One point of one curve; `at` is in seconds since 1970."""

    tag: str
    step: int
    value: float
    at: float


def write_events(path: Path, scalars: Iterable[Scalar], *, begun: float) -> int:
    """Write a whole event file; how many points it has."""
    count = 0
    with path.open("wb") as file:
        write_record(file, _event(begun, 0, length_delimited(3, VERSION)))
        for scalar in scalars:
            write_record(file, encode_scalar(scalar))
            count += 1
    return count


def encode_scalar(scalar: Scalar) -> bytes:
    """An Event with one value."""
    number = key(2, FIXED32) + struct.pack("<f", scalar.value)
    value = length_delimited(1, scalar.tag.encode()) + number
    return _event(scalar.at, scalar.step, length_delimited(5, length_delimited(1, value)))


def _event(at: float, step: int, what: bytes) -> bytes:
    return key(1, FIXED64) + struct.pack("<d", at) + key(2, VARINT) + varint(step) + what
