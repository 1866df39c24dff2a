"""Event files: the bytes that the format wants, whatever the tag, the step and the value are."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from storage.interchange import tf_example
from storage.interchange.tensorboard import VERSION, Scalar, encode_scalar, write_events
from storage.interchange.tfrecord import read_records


def a_scalar(**changes: Any) -> Scalar:
    values: dict[str, Any] = {"tag": "loss", "step": 1, "value": 0.5, "at": 1e9}
    return Scalar(**(values | changes))


def read_back(content: bytes) -> Scalar:
    """A scalar out of its Event, by field numbers alone."""
    event = dict(tf_example._fields(content))
    summary = dict(tf_example._fields(bytes(event[5])))  # type: ignore[arg-type]
    value = dict(tf_example._fields(summary[1]))
    return Scalar(
        tag=value[1].decode(),
        step=event[2],
        value=struct.unpack("<f", value[2])[0],
        at=struct.unpack("<d", event[1])[0],
    )


def test_the_bytes_are_those_that_the_format_wants() -> None:
    made = encode_scalar(Scalar(tag="a", step=300, value=1.0, at=1.0))
    assert made.hex() == "09000000000000f03f" + "10ac02" + "2a0a0a080a0161150000803f"


@pytest.mark.parametrize(
    "scalar",
    [
        a_scalar(),
        a_scalar(tag="π/loss of the judge"),
        a_scalar(tag="t" * 300),
        a_scalar(step=0),
        a_scalar(step=2**40),
        a_scalar(value=-1.5e-30),
        a_scalar(value=float("inf")),
        a_scalar(at=0.25),
    ],
)
def test_a_scalar_is_read_back_as_it_was_written(scalar: Scalar) -> None:
    found = read_back(encode_scalar(scalar))
    assert (found.tag, found.step, found.at) == (scalar.tag, scalar.step, scalar.at)
    assert found.value == struct.unpack("<f", struct.pack("<f", scalar.value))[0]


def test_a_file_begins_with_its_version_and_has_every_point_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events"
    scalars = [a_scalar(step=step) for step in range(5)]
    assert write_events(path, scalars, begun=7.0) == 5
    first, *others = read_records(path)
    head = dict(tf_example._fields(first))
    assert (head[3], struct.unpack("<d", bytes(head[1]))) == (VERSION, (7.0,))  # type: ignore[arg-type]
    assert [read_back(each) for each in others] == scalars


def test_without_a_point_there_is_the_version_alone(tmp_path: Path) -> None:
    path = tmp_path / "events"
    assert write_events(path, [], begun=0.0) == 0
    assert len(list(read_records(path))) == 1
