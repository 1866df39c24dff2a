"""Pictures in one blob: they come back, at random, and a damaged blob is refused as a whole."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.errors import BadArray, FramesCorrupt
from robot_bridge.frames import (
    HEADER,
    MAGIC,
    FrameBlob,
    decode_jpeg,
    encode_frames,
    encode_jpeg,
    pack_jpegs,
)
from tests.robot_bridge.builders import some_images

IMAGES = some_images(5)
BLOB = encode_frames(IMAGES)


def headed(
    count: int = 5, width: int = 16, height: int = 12, *, magic: bytes = MAGIC, reserved: int = 0
) -> bytes:
    """The blob with another header."""
    return HEADER.pack(magic, count, width, height, reserved) + BLOB[HEADER.size :]


def test_pictures_come_back_nearly_as_they_were():
    blob = FrameBlob(BLOB)
    assert (len(blob), blob.width, blob.height) == (5, 16, 12)
    back = blob.decode_all()
    assert back.dtype == np.uint8
    assert back.shape == IMAGES.shape
    assert np.abs(back.astype(int) - IMAGES).max() <= 6


def test_a_narrow_coloured_object_keeps_its_colour():
    """Chroma subsampling would smear an object of three pixels into its surroundings."""
    image = np.full((32, 32, 3), 120, dtype=np.uint8)
    image[10:20, 15:18] = (90, 20, 130)
    back = decode_jpeg(encode_jpeg(image), width=32, height=32)
    assert np.abs(back[15, 16].astype(int) - image[15, 16]).max() <= 8


def test_any_picture_can_be_had_alone():
    blob = FrameBlob(BLOB)
    for index in (3, 0, 4, 1):
        np.testing.assert_array_equal(blob.decode(index), blob.decode_all()[index])
        assert blob.jpeg(index) == encode_jpeg(IMAGES[index])


@pytest.mark.parametrize("index", [-1, 5, 100])
def test_there_is_no_picture_before_the_first_or_after_the_last(index):
    with pytest.raises(IndexError, match=str(index)):
        FrameBlob(BLOB).jpeg(index)


def test_the_same_pictures_make_the_same_bytes():
    assert encode_frames(IMAGES) == BLOB
    assert FrameBlob.of_images(IMAGES).data == BLOB
    assert FrameBlob.of_jpegs([encode_jpeg(i) for i in IMAGES], width=16, height=12).data == BLOB


def test_the_index_digest_covers_header_and_index_and_no_picture():
    blob = FrameBlob(BLOB)
    index_end = HEADER.size + 6 * 8
    assert blob.index_digest == hashlib.sha256(BLOB[:index_end]).hexdigest()
    assert FrameBlob.of_images(some_images(5, seed=1)).index_digest != blob.index_digest


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 8, 8, 3), dtype=np.float32),
        np.zeros((2, 8, 8), dtype=np.uint8),
        np.zeros((2, 8, 8, 4), dtype=np.uint8),
        np.zeros((0, 8, 8, 3), dtype=np.uint8),
        np.zeros((2, 0, 8, 3), dtype=np.uint8),
        np.zeros((8, 8, 3), dtype=np.uint8),
    ],
)
def test_what_is_no_stack_of_rgb_pictures_is_not_encoded(images):
    with pytest.raises(BadArray):
        encode_frames(images)


@given(st.integers(0, len(BLOB) - 1))
def test_a_blob_that_ends_too_early_is_refused(length):
    with pytest.raises(FramesCorrupt):
        FrameBlob(BLOB[:length])


@pytest.mark.parametrize("more", [b"\0", b"\xff\xd8\xff\xd9", BLOB])
def test_a_blob_with_something_behind_it_is_refused(more):
    with pytest.raises(FramesCorrupt):
        FrameBlob(BLOB + more)


@pytest.mark.parametrize(
    "blob",
    [
        headed(magic=b"GYMFRM9\n"),
        headed(reserved=1),
        headed(count=4),
        headed(count=6),
        headed(count=0),
        headed(count=2**32 - 1),
        headed(width=0),
        headed(width=1_000_000),
        headed(height=0),
        headed(height=1_000_000),
        b"",
    ],
)
def test_a_header_that_cannot_be_is_refused(blob):
    with pytest.raises(FramesCorrupt):
        FrameBlob(blob)


@pytest.mark.parametrize(
    "offsets",
    [
        [0, 10, 10, 30, 40, 50],  # an empty picture
        [0, 20, 10, 30, 40, 50],  # backwards
        [1, 10, 20, 30, 40, 50],  # not from the start
        [0, 10, 20, 30, 40, 2**63],  # far past the end
    ],
)
def test_an_index_that_does_not_rise_to_the_end_is_refused(offsets):
    index = np.array(offsets, dtype="<u8").tobytes()
    with pytest.raises(FramesCorrupt):
        FrameBlob(BLOB[: HEADER.size] + index + BLOB[HEADER.size + len(index) :])


def test_bytes_that_are_no_jpeg_are_refused_when_the_blob_is_opened():
    with pytest.raises(FramesCorrupt, match="picture 1"):
        FrameBlob(pack_jpegs([encode_jpeg(IMAGES[0]), b"not a picture"], width=16, height=12))


@pytest.mark.parametrize("keep", [3, 40, 300])
def test_a_picture_that_was_cut_off_is_refused_when_it_is_decoded(keep):
    jpeg = encode_jpeg(IMAGES[0])[:keep]
    with pytest.raises(FramesCorrupt):
        decode_jpeg(jpeg, width=16, height=12)


def test_a_picture_of_another_size_than_the_header_says_is_refused():
    blob = FrameBlob(pack_jpegs([encode_jpeg(IMAGES[0])], width=12, height=16))
    with pytest.raises(FramesCorrupt, match="12x16"):
        blob.decode(0)


def test_other_formats_than_jpeg_are_not_opened():
    png = b"\x89PNG\r\n\x1a\n" + bytes(64)
    with pytest.raises(FramesCorrupt):
        decode_jpeg(png, width=16, height=12)


def test_a_header_that_claims_more_pixels_than_any_camera_has_is_refused_undecoded():
    jpeg = bytearray(encode_jpeg(some_images(2)[0]))
    frame = jpeg.index(b"\xff\xc0")  # marker, length, precision; then height and width
    jpeg[frame + 5 : frame + 9] = (65_000).to_bytes(2) * 2
    with pytest.raises(FramesCorrupt):
        decode_jpeg(bytes(jpeg), width=16, height=12)
