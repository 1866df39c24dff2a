"""The quick way to shrink a picture gives the learner's own bytes, ties and all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.learning.batch import resize_frames
from daemon.learning.errors import BadTensor
from daemon.learning.shrinking import FACTORS, area_means


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("across", FACTORS)
@pytest.mark.parametrize("down", FACTORS)
def test_it_is_what_the_learner_makes_of_the_picture(down: int, across: int) -> None:
    for seed in range(3):
        image = noise(64 * down, 64 * across, seed)
        assert torch.equal(resize_frames(image[None]), area_means(image[None], 64))


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_extremes_do_not_overflow(value: int) -> None:
    image = np.full((512, 512, 3), value, np.uint8)
    assert torch.equal(resize_frames(image[None]), torch.full((1, 3, 64, 64), value, dtype=torch.uint8))


def test_every_sum_of_a_block_is_rounded_as_the_learner_rounds_it() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    blocks = image.reshape(64, 4, 64, 4, 3)  # a view: sums 0 to 4080 of sixteen bytes, one in each block
    for number in range(4081):
        level, rest = divmod(number, 16)
        cell = np.full(16, level, np.uint8)
        cell[:rest] += 1
        blocks[number // 64, :, number % 64, :, 1] = cell.reshape(4, 4)
    assert torch.equal(resize_frames(image[None]), area_means(image[None], 64))


@given(seed=st.integers(0, 2**32 - 1), down=st.sampled_from(FACTORS), low=st.integers(0, 250))
@settings(max_examples=30, deadline=None)
def test_pictures_of_few_values_full_of_ties_agree_too(seed: int, down: int, low: int) -> None:
    rng = np.random.default_rng(seed)
    image = (low + rng.integers(0, 3, (64 * down, 256, 3))).astype(np.uint8)
    assert torch.equal(resize_frames(image[None]), area_means(image[None], 64))


@pytest.mark.parametrize(("height", "width"), [(480, 640), (100, 64), (64, 1024), (32, 32), (192, 192)])
def test_other_sizes_are_left_to_the_learner(height: int, width: int) -> None:
    image = noise(height, width)
    assert torch.equal(resize_frames(image[None]), area_means(image[None], 64))


def test_the_picture_itself_stays_as_it_was_and_may_be_read_only() -> None:
    image = noise(256, 256)
    kept = image.copy()
    image.setflags(write=False)
    shrunk = resize_frames(image[None])
    assert shrunk.is_contiguous()
    shrunk.zero_()
    np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize(
    "image",
    [np.zeros((64, 64, 3), np.float32), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64), np.uint8)],
    ids=lambda image: f"{image.dtype} {image.shape}",
)
def test_what_is_no_picture_is_refused(image: np.ndarray) -> None:
    with pytest.raises(BadTensor):
        resize_frames(image[None])
