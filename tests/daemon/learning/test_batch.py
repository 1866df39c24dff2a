"""Clips say what is wrong with them, and windows keep each action beside the frames it joins."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from daemon.learning.batch import (
    Clip,
    ClipInvalid,
    NoWindow,
    fitted,
    require_images,
    resize_frames,
    window_starts,
    windows,
)
from daemon.learning.errors import BadTensor


def a_clip(steps: int = 6, *, episode_id: str = "episode-1", offset: int = 0) -> Clip:
    """Frame t is filled with offset + t, action t with its number: a window shows where it was cut."""
    numbers = torch.arange(steps + 1) + offset
    return Clip(
        frames=numbers.to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).contiguous(),
        actions=numbers[:steps, None].float().expand(-1, 7).contiguous(),
        instruction="open the drawer",
        episode_id=episode_id,
    )


def test_a_whole_clip_passes_its_own_check():
    clip = replace(a_clip(), success=True, success_by_frame=torch.zeros(7, dtype=torch.bool))
    clip.validate()
    replace(clip, subject=torch.zeros(7, 8, 8, dtype=torch.bool)).validate()
    assert clip.steps == 6


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"frames": torch.zeros(6, 3, 8, 8, dtype=torch.uint8)}, "frames"),  # T frames for T actions
        ({"frames": torch.zeros(8, 3, 8, 8, dtype=torch.uint8)}, "frames"),
        ({"frames": torch.zeros(7, 3, 8, 8)}, "frames"),  # float pictures
        ({"frames": torch.zeros(7, 8, 8, 3, dtype=torch.uint8)}, "frames"),  # channels last
        ({"frames": torch.zeros(7, 3, 8, dtype=torch.uint8)}, "frames"),
        ({"frames": torch.zeros(7, 3, 0, 8, dtype=torch.uint8)}, "frames"),
        ({"actions": torch.zeros(6, 10)}, "actions"),
        ({"actions": torch.zeros(6, 7, dtype=torch.float64)}, "actions"),
        ({"actions": torch.zeros(42)}, "actions"),
        ({"actions": torch.zeros(0, 7), "frames": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, "actions"),
        ({"actions": torch.full((6, 7), float("nan"))}, "actions"),
        ({"actions": torch.full((6, 7), float("-inf"))}, "actions"),
        ({"asked": torch.zeros(5, 7)}, "asked"),
        ({"asked": torch.zeros(6, 7, dtype=torch.float64)}, "asked"),
        ({"asked": torch.full((6, 7), float("nan"))}, "actions"),
        ({"success_by_frame": torch.zeros(6, dtype=torch.bool)}, "success_by_frame"),
        ({"success_by_frame": torch.zeros(7)}, "success_by_frame"),
        ({"subject": torch.zeros(7, 8, 4, dtype=torch.bool)}, "subject"),
        ({"subject": torch.zeros(7, 8, 8)}, "subject"),
    ],
)
def test_a_broken_clip_names_its_episode_and_the_field(change: dict[str, Tensor], field: str):
    with pytest.raises(ClipInvalid, match=f"episode-1: {field} ") as refused:
        replace(a_clip(), **change).validate()
    assert refused.value.code == "clip_invalid"
    assert not refused.value.retryable


def test_one_nan_is_found_at_its_step():
    actions = torch.zeros(6, 7)
    actions[4, 2] = float("nan")
    with pytest.raises(ClipInvalid, match="not finite at step 4"):
        replace(a_clip(), actions=actions).validate()


def test_a_window_holds_the_actions_between_its_frames():
    clips = [a_clip(9), a_clip(5, episode_id="episode-2", offset=100)]
    batch = windows(clips, batch=64, frames=4, generator=torch.Generator().manual_seed(0))
    assert batch.frames.shape == (64, 4, 3, 8, 8)
    assert batch.actions.shape == (64, 3, 7)
    first = batch.frames[:, :, 0, 0, 0].long()
    assert torch.equal(first, first[:, :1] + torch.arange(4)), "frames of a window follow each other"
    assert torch.equal(batch.actions[:, :, 0].long(), first[:, :3]), "action f was executed at frame f"
    assert [name == "episode-2" for name in batch.episode_ids] == (first[:, 0] >= 100).tolist()


def test_every_window_of_every_clip_is_drawn_and_none_leaves_its_clip():
    drawn = window_starts([5, 3, 9], batch=4000, frames=4, generator=torch.Generator().manual_seed(1))
    counts = {(i, at): 0 for i, places in ((0, 2), (2, 6)) for at in range(places)}
    for which, at in drawn.tolist():
        counts[which, at] += 1  # a KeyError is a window outside of its clip, or of the clip of 3 frames
    assert min(counts.values()) > 400, "eight windows, all about equally likely"


def test_the_same_generator_seed_cuts_the_same_windows():
    clips = [a_clip(20), a_clip(30, offset=100)]
    one, two, other = (
        windows(clips, batch=8, frames=5, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(one.frames, two.frames)
    assert not torch.equal(one.frames, other.frames)


@pytest.mark.parametrize("clips", [[], [a_clip(2), a_clip(3)]])
def test_when_every_clip_is_too_short_the_error_says_how_long_they_are(clips: list[Clip]):
    longest = 4 if clips else 0
    with pytest.raises(NoWindow, match=f"none of {len(clips)} clips.* 5 frames.* longest has {longest}"):
        windows(clips, batch=2, frames=5, generator=torch.Generator())


def test_resizing_averages_areas_instead_of_dropping_small_objects():
    image = np.zeros((1, 256, 256, 3), dtype=np.uint8)
    image[0, 5, 7] = (160, 80, 16)  # one bright pixel of a 4 × 4 area
    small = resize_frames(image)
    assert small.shape == (1, 3, 64, 64)
    assert small[0, :, 1, 1].tolist() == [10, 5, 1]
    assert int(small.sum()) == 16


def test_resizing_leaves_pictures_of_the_right_size_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert np.array_equal(resize_frames(images).permute(0, 2, 3, 1).numpy(), images)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 64, 64, 3), dtype=np.float32),
        np.zeros((64, 64, 3), dtype=np.uint8),
        np.zeros((1, 3, 64, 64), dtype=np.uint8),
        np.zeros((1, 0, 64, 3), dtype=np.uint8),
    ],
)
def test_resizing_refuses_what_is_not_a_batch_of_pictures(images: np.ndarray):
    with pytest.raises(BadTensor, match="uint8"):
        resize_frames(images)


def test_pictures_are_fitted_by_the_mean_of_what_a_pixel_covers_or_by_repeating_it():
    picture = torch.tensor([[0, 1, 10, 20], [2, 3, 30, 41], [7, 7, 0, 0], [7, 7, 0, 2]], dtype=torch.uint8)
    picture = picture.expand(1, 3, 4, 4)
    halved = fitted(picture, 2)
    assert halved.dtype == torch.uint8
    assert halved[0, 2].tolist() == [[2, 25], [7, 0]]  # means 1.5, 25.25, 7 and 0.5: ties go to even
    assert torch.equal(fitted(picture, 8), picture.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert fitted(picture, 4) is picture


def test_pictures_of_another_size_are_refused_only_where_a_size_is_required():
    pictures = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    require_images(pictures, where="here")
    with pytest.raises(BadTensor, match=r"here.*3, 64, 64.*uint8 \[2, 3, 32, 32\]"):
        require_images(pictures, where="here", size=64)
    with pytest.raises(BadTensor, match="float32"):
        require_images(pictures.float(), where="here")
