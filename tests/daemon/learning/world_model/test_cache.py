"""The ring hands out exactly the frames of the window, each with its newest keys and values."""

import pytest
import torch

from daemon.learning.world_model.cache import FrameCache


def marked(number: float) -> torch.Tensor:
    return torch.full((3, 1, 2), float(number))


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_new_frame_sees_itself_and_the_frames_before_it_in_the_window(slots: int):
    cache = FrameCache(slots=slots)
    for frame in range(7):
        keys, values = cache.with_new(0, marked(frame), marked(100 + frame))
        window = list(range(max(0, frame - slots + 1), frame + 1))
        assert sorted(keys[0, :, 0].tolist()) == window
        assert torch.equal(values, keys + 100), "values stay beside their keys"
        cache.keep()


def test_a_frame_that_is_not_kept_is_replaced():
    cache = FrameCache(slots=3)
    cache.with_new(0, marked(1), marked(1))
    cache.keep()
    cache.with_new(0, marked(2), marked(2))
    keys, _ = cache.with_new(0, marked(3), marked(3))
    assert sorted(keys[0, :, 0].tolist()) == [1, 3]


def test_layers_have_rings_of_their_own():
    cache = FrameCache(slots=2)
    cache.with_new(0, marked(1), marked(1))
    keys, _ = cache.with_new(1, marked(9), marked(9))
    assert keys[0, :, 0].tolist() == [9]
    assert cache.frames == 0
