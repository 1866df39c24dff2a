"""Numbers and ages for pictures that come without any."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from robot_bridge.drivers.lab_camera import LabCamera, PictureUnusable, decode_swapped_jpeg, squashed
from tests.robot_bridge.drivers_real.lab_arm import VirtualTime


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def camera(time: VirtualTime) -> LabCamera:
    return LabCamera(clock=time, size=32)


def picture(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, dtype=np.uint8)


def test_a_picture_that_differs_is_new(camera):
    assert [camera.take(picture(value)).seq for value in (10, 11, 10)] == [1, 2, 3]


def test_the_same_picture_again_keeps_its_number_and_grows_older(camera, time):
    camera.take(picture(10))
    time.sleep(0.5)
    again = camera.take(picture(10))
    assert (again.seq, again.age_s) == (1, pytest.approx(0.5))
    time.sleep(0.5)
    assert camera.take(picture(11)).age_s == 0.0


def test_a_buffer_that_the_package_writes_over_is_still_seen_to_change(camera):
    buffer = picture(10)
    camera.take(buffer)
    buffer[:] = 200
    assert camera.take(buffer).seq == 2


def test_a_picture_is_squashed_whole_not_cropped():
    wide = np.zeros((48, 64, 3), dtype=np.uint8)
    wide[:, :4], wide[:, -4:] = 255, 128
    small = squashed(wide, 32)
    assert small.shape == (32, 32, 3)
    assert small[:, 0].min() > 200
    assert 100 < small[:, -1].mean() < 150


def test_a_picture_of_the_right_size_is_copied():
    image = picture(7)[:32, :32]
    made = squashed(image, 32)
    image[:] = 0
    assert (made == 7).all()


@pytest.mark.parametrize(
    "wrong",
    [
        np.array((224, 128, 3), dtype=np.uint8),
        np.zeros((48, 64), dtype=np.uint8),
        np.zeros((48, 64, 4), dtype=np.uint8),
        np.zeros((48, 64, 3), dtype=np.float32),
        np.zeros((0, 64, 3), dtype=np.uint8),
    ],
    ids=["sizes", "grey", "alpha", "float", "empty"],
)
def test_what_is_no_picture_is_refused(camera, wrong):
    with pytest.raises(PictureUnusable, match="uint8"):
        camera.take(wrong)


def test_a_jpeg_with_red_and_blue_swapped_comes_out_right():
    red = np.zeros((16, 16, 3), dtype=np.uint8)
    red[..., 0] = 250
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(red[..., ::-1])).save(buffer, format="JPEG", quality=95)
    made = decode_swapped_jpeg(buffer.getvalue())
    assert made[..., 0].mean() > 240
    assert made[..., 2].mean() < 15


@pytest.mark.parametrize("jpeg", [b"", b"not a picture", b"\xff\xd8\xff\xe0truncated"])
def test_a_broken_jpeg_is_refused(jpeg):
    with pytest.raises(PictureUnusable, match="whole JPEG"):
        decode_swapped_jpeg(jpeg)
