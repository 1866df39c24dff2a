"""The ring hands out exactly the frames of the window, each with its newest keys and values."""

import pytest
import torch
from torch import Tensor

from daemon.learning.world_model.cache import CacheShape, FrameCache


def a_cache(window: int, *, ahead: int = 1, layers: int = 1) -> FrameCache:
    shape = CacheShape(layers=layers, places=3, heads=1, width=2, window=window, ahead=ahead)
    return FrameCache(shape, dtype=torch.float32, device=torch.device("cpu"))


def marked(*numbers: float) -> Tensor:
    """Keys of frames with these numbers, [X, heads, n, width]."""
    return torch.tensor(numbers)[None, None, :, None].expand(3, 1, -1, 2).float()


def seen(cache: FrameCache, *numbers: float, layer: int = 0) -> list[list[float]]:
    """What each of these new frames sees, by number, once they are put."""
    _, places, mask = cache.begin(len(numbers))
    keys, values = cache.put(layer, places, keys=marked(*numbers), values=marked(*numbers) + 100)
    assert torch.equal(values[:, :, places], keys[:, :, places] + 100), "values stay beside their keys"
    return [sorted(keys[0, 0, row == 0, 0].tolist()) for row in mask]


@pytest.mark.parametrize("window", [1, 2, 4])
def test_a_new_frame_sees_itself_and_the_frames_before_it_in_the_window(window: int):
    cache = a_cache(window)
    for frame in range(7):
        assert seen(cache, frame) == [list(range(max(0, frame - window + 1), frame + 1))]
        cache.keep(1)


@pytest.mark.parametrize("ahead", [2, 3])
def test_frames_that_come_together_see_each_other_only_backwards(ahead: int):
    cache = a_cache(3, ahead=ahead)
    for first in range(0, 12, ahead):
        new = range(first, first + ahead)
        assert seen(cache, *new) == [list(range(max(0, frame - 2), frame + 1)) for frame in new]
        cache.keep(ahead)


def test_frames_that_are_not_kept_are_replaced():
    cache = a_cache(3, ahead=2)
    seen(cache, 1, 7)
    cache.keep(1)
    assert seen(cache, 2) == [[1, 2]]
    assert seen(cache, 3, 4) == [[1, 3], [1, 3, 4]]
    assert seen(cache, 5) == [[1, 5]], "what came ahead and was not kept is seen by nobody"


def test_layers_have_rings_of_their_own():
    cache = a_cache(2, layers=2)
    _, places, mask = cache.begin(1)
    cache.put(0, places, keys=marked(1), values=marked(1))
    keys, _ = cache.put(1, places, keys=marked(9), values=marked(9))
    assert keys[0, 0, mask[0] == 0, 0].tolist() == [9]
    assert cache.frames == 0


def test_a_cleared_cache_has_seen_nothing():
    cache = a_cache(3)
    for frame in range(5):
        seen(cache, frame)
        cache.keep(1)
    assert cache.frames == 5
    cache.clear()
    assert cache.frames == 0
    assert seen(cache, 8) == [[8]]


def test_its_tensors_are_always_the_same_ones():
    """A recorded graph writes where it wrote when it was recorded."""
    cache = a_cache(2)
    before = [part.data_ptr() for part in cache.tensors()]
    for frame in range(5):
        seen(cache, frame)
        cache.keep(1)
    cache.clear()
    assert [part.data_ptr() for part in cache.tensors()] == before
