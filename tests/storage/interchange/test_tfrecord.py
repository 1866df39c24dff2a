"""TFRecord framing and tf.train.Example, held against published vectors and bytes written down by hand."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from storage.interchange.errors import DatasetInvalid
from storage.interchange.tf_example import ExampleBroken, decode_example, encode_example
from storage.interchange.tfrecord import crc32c, masked_crc32c, read_records, write_record


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", 0x00000000),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_checksum_is_that_of_rfc_3720(content: bytes, expected: int) -> None:
    assert crc32c(content) == expected


def one_by_one(content: bytes) -> int:
    """CRC-32C bit by bit, as the definition says it."""
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize("size", [1, 8191, 8192, 8193, 10_240, 20_001])
def test_long_contents_are_summed_side_by_side_to_the_same_checksum(size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    assert crc32c(content) == one_by_one(content)


def test_a_record_is_length_checksum_content_checksum() -> None:
    file = io.BytesIO()
    assert write_record(file, b"abc") == 19
    written = file.getvalue()
    assert written[:8] == struct.pack("<Q", 3)
    assert written[12:15] == b"abc"
    for told, content in ((written[8:12], written[:8]), (written[15:], b"abc")):
        crc = one_by_one(content)
        assert struct.unpack("<I", told)[0] == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_records_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "records"
    with path.open("wb") as file:
        for content in (b"one", b"", b"three" * 5000):
            write_record(file, content)
    assert list(read_records(path)) == [b"one", b"", b"three" * 5000]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c[:-1], "record 0 whole, found 6 of 7 bytes"),
        (lambda c: c[:5], "length of record 0 whole"),
        (lambda c: c + b"\x01", "length of record 1 whole"),
        (lambda c: c[:12] + b"abd" + c[15:], "record 0 with its checksum"),
        (lambda c: b"\x04" + c[1:], "length of record 0 with its checksum"),
        (lambda c: c[:-1] + bytes([c[-1] ^ 1]), "record 0 with its checksum"),
    ],
)
def test_a_record_that_is_cut_or_changed_is_refused(tmp_path: Path, change, expected: str) -> None:
    file = io.BytesIO()
    write_record(file, b"abc")
    path = tmp_path / "records"
    path.write_bytes(change(file.getvalue()))
    with pytest.raises(DatasetInvalid, match=expected):
        list(read_records(path))


def test_a_length_of_terabytes_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    head = struct.pack("<Q", 1 << 40)
    path = tmp_path / "records"
    path.write_bytes(head + struct.pack("<I", masked_crc32c(head)))
    with pytest.raises(DatasetInvalid, match="at most 1073741824 bytes"):
        list(read_records(path))


# ---- tf.train.Example


def entry(name: bytes, kind: int, packed: bytes) -> bytes:
    """One name with its list, spelled out."""
    feature = bytes([kind << 3 | 2, len(packed)]) + packed
    body = b"\x0a" + bytes([len(name)]) + name + b"\x12" + bytes([len(feature)]) + feature
    return b"\x0a" + bytes([len(body)]) + body


def test_an_example_is_the_bytes_that_the_wire_format_says() -> None:
    floats = b"\x0a\x08" + struct.pack("<2f", 1.5, -2.0)
    integers = b"\x0a\x0d" + b"\x01" + b"\xac\x02" + b"\xff" * 9 + b"\x01"
    features = entry(b"a", 1, b"\x0a\x01x\x0a\x00") + entry(b"b", 2, floats) + entry(b"c", 3, integers)
    written = encode_example(
        {
            "c": np.array([1, 300, -1], np.int64),
            "a": [b"x", b""],
            "b": np.array([1.5, -2.0], np.float32),
        }
    )
    assert written == b"\x0a" + bytes([len(features)]) + features


def test_what_was_encoded_is_decoded() -> None:
    random = np.random.default_rng(0)
    features = {
        "jpegs": [random.bytes(500), b""],
        "floats": random.normal(size=300).astype(np.float32),
        "integers": np.array([0, 1, -(2**63), 2**63 - 1], np.int64),
        "empty": np.zeros(0, np.float32),
    }
    found = decode_example(encode_example(features))
    assert found["jpegs"] == features["jpegs"]
    for name in ("floats", "integers", "empty"):
        assert found[name].dtype == features[name].dtype
        np.testing.assert_array_equal(found[name], features[name])


def test_numbers_that_were_not_packed_are_read_too() -> None:
    floats = b"\x0d" + struct.pack("<f", 1.5) + b"\x0d" + struct.pack("<f", 2.5)
    integers = b"\x08\x07\x08\x08"
    features = entry(b"f", 2, floats) + entry(b"i", 3, integers)
    found = decode_example(b"\x0a" + bytes([len(features)]) + features)
    assert found["f"].tolist() == [1.5, 2.5]
    assert found["i"].tolist() == [7, 8]


def test_a_feature_without_a_list_is_empty() -> None:
    found = decode_example(b"\x0a\x07\x0a\x05\x0a\x01n\x12\x00")
    assert found == {"n": []}


@pytest.mark.parametrize(
    "content",
    [b"\x0a\xff", b"\x0a\x05\x0a", b"\x0b", b"\x80", b"\xff" * 11, b"\x08", b"\x0a\x02\x0a\x07", b"\x08\x01"],
)
def test_bytes_that_are_no_example_are_refused(content: bytes) -> None:
    with pytest.raises(ExampleBroken):
        decode_example(content)


@pytest.mark.parametrize("kept", range(1, 40, 3))
def test_an_example_that_is_cut_off_is_refused(kept: int) -> None:
    whole = encode_example({"a": [b"x" * 10], "b": np.ones(5, np.float32)})
    with pytest.raises((ExampleBroken, ValueError)):
        decode_example(whole[:kept])
