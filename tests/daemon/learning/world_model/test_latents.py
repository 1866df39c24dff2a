"""Encoded clips keep frames and actions aligned, and actions become WorldGym's ten numbers."""

from dataclasses import replace

import pytest
import torch

from daemon.learning.batch import ClipInvalid
from daemon.learning.errors import BadTensor
from daemon.learning.world_model.latents import (
    LatentClip,
    LatentClips,
    LatentWindows,
    emphasis_on,
    encode_clips,
    world_actions,
)
from daemon.learning.world_model.model import WorldModel


def numbered(frames: int, *, episode_id: str = "a", offset: int = 0) -> LatentClip:
    numbers = torch.arange(frames).float() + offset
    return LatentClip(
        latents=numbers[:, None, None, None].expand(-1, 4, 8, 8).contiguous(),
        actions=numbers[:-1, None].expand(-1, 10).contiguous(),
        episode_id=episode_id,
    )


def test_encoding_keeps_every_frame_and_action_in_order(tiny_world_model: WorldModel, square_clip):
    clip = square_clip(0)
    encoded = encode_clips(tiny_world_model, [clip, square_clip(1, steps=5)])
    assert [len(c.latents) for c in encoded.clips] == [9, 6]
    assert torch.allclose(
        encoded.clips[0].latents[4], tiny_world_model.encode(clip.frames[4:5])[0], atol=1e-5
    )
    assert torch.allclose(encoded.clips[0].actions[:, :3], clip.actions[:, :3] * 35)
    assert encoded.clips[0].episode_id == "square-0"


def test_a_place_is_emphasised_by_the_share_of_it_that_shows_the_subject(square_clip):
    """Of 9 frames of 64 places, 3 show the subject: at 1, 1/2 and 1/2 of one place, so on average 2/576."""
    clip = square_clip(0)
    side = clip.frames.shape[-1] // 8  # pixels of a place
    subject = torch.zeros(9, *clip.frames.shape[2:], dtype=torch.bool)
    subject[1, side : 2 * side, :side] = True
    subject[4, : side // 2, :side] = True
    subject[7, :side, 3 * side : 4 * side : 2] = True
    emphasis = emphasis_on(replace(clip, subject=subject), grid=8)
    assert emphasis is not None
    assert emphasis.nonzero().tolist() == [[1, 1, 0], [4, 0, 0], [7, 0, 3]]
    assert float(emphasis[1, 1, 0]) == 40, "0.4 * 576 / 2 would be too much for one place"
    assert float(emphasis[4, 0, 0]) == 40
    large = emphasis_on(replace(clip, subject=torch.ones_like(subject)), grid=8)
    assert large is not None
    assert torch.allclose(large, torch.tensor(0.4).half()), "all is subject: all counts alike, 0.4 more"


def test_a_clip_whose_subject_is_unknown_or_never_seen_emphasises_nothing(square_clip):
    clip = square_clip(0)
    unseen = torch.zeros(9, *clip.frames.shape[2:], dtype=torch.bool)
    assert emphasis_on(clip, grid=8) is None
    assert emphasis_on(replace(clip, subject=unseen), grid=8) is None
    assert torch.equal(numbered(9).weights(2, 5), torch.ones(3, 8, 8))


def test_an_encoded_clip_carries_its_emphasis_and_a_part_its_own(tiny_world_model: WorldModel, square_clip):
    clip = square_clip(0)
    subject = torch.zeros(9, *clip.frames.shape[2:], dtype=torch.bool)
    subject[5, :8, :8] = True
    (encoded,) = encode_clips(tiny_world_model, [replace(clip, subject=subject)]).clips
    weights = encoded.weights(0, 9)
    assert float(weights[5, 0, 0]) > 1
    assert float(weights.sum() - weights[5, 0, 0]) == pytest.approx(weights.numel() - 1)
    part = encoded.part(3, 8)
    assert torch.equal(part.weights(1, 4), weights[4:7])


def test_one_broken_clip_stops_the_encoding_of_all(tiny_world_model: WorldModel, square_clip):
    broken = square_clip(1, episode_id="broken")
    broken.actions[3, 0] = float("nan")
    with pytest.raises(ClipInvalid, match="broken"):
        encode_clips(tiny_world_model, [square_clip(0), broken])


def test_clips_too_short_for_a_window_are_named():
    clips = LatentClips((numbered(9), numbered(3, episode_id="short"), numbered(4, episode_id="fits")))
    kept, left_out = clips.long_enough(4)
    assert [clip.episode_id for clip in kept.clips] == ["a", "fits"]
    assert left_out == ("short",)


def test_a_part_of_a_clip_knows_the_path_that_led_to_it():
    clip = LatentClip(latents=torch.arange(9.0), actions=torch.randn(8, 10), episode_id="a")
    assert torch.equal(clip.path_at(0), torch.zeros(6)), "a whole episode begins at nothing"
    part = clip.part(2, 8).part(1, 5)  # frames 3 to 7 of the episode
    assert part.latents.tolist() == [3, 4, 5, 6]
    assert torch.equal(part.actions, clip.actions[3:6])
    assert torch.allclose(part.path, clip.actions[:3, :6].sum(0))
    for frame in range(4):
        assert torch.allclose(part.path_at(frame), clip.path_at(3 + frame), atol=1e-6)


def test_windows_come_apart_in_order_and_lose_nothing():
    windows = LatentWindows(
        latents=torch.arange(7.0),
        actions=torch.arange(7.0),
        paths=torch.arange(7.0),
        weights=torch.arange(7.0),
        episode_ids=tuple("abcdefg"),
    )
    parts = list(windows.parts(3))
    assert [len(part) for part in parts] == [3, 3, 1]
    for name in ("latents", "actions", "paths", "weights"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), torch.arange(7.0))
    assert [part.episode_ids for part in parts] == [("a", "b", "c"), ("d", "e", "f"), ("g",)]


def test_movement_is_the_variance_along_time_and_ignores_what_stands_still():
    still, moving = numbered(5), numbered(5)
    still.latents[:] = torch.randn(1, 4, 8, 8)
    moving.latents[:] = 0
    moving.latents[:, :, 2, 5] = torch.arange(5.0)[:, None]
    movement = LatentClips((still, moving)).movement()
    assert float(movement[2, 5]) == pytest.approx(2.5 / 2)  # variance of 0..4, mean over two clips
    movement[2, 5] = 0
    assert float(movement.abs().max()) < 1e-10


def test_joining_clips_keeps_their_order():
    both = LatentClips((numbered(5),)) + LatentClips((numbered(6, episode_id="b"),))
    assert [clip.episode_id for clip in both.clips] == ["a", "b"]
    assert len(both) == 2


def test_actions_become_ten_numbers_with_the_gripper_closed_at_plus_one():
    actions = torch.tensor([[0.01, -0.02, 0.03, 0.1, 0.0, -0.1, 1.0], [1.0, 0, 0, 9.0, 0, 0, 0.0]])
    ten = world_actions(actions)
    assert ten.dtype == torch.float32
    assert ten[0].tolist() == pytest.approx([0.35, -0.7, 1.05, 0.56, 0, -0.56, -1, 0, 0, 0], abs=1e-6)
    assert ten[1].tolist() == pytest.approx([1.74, 0, 0, 1.39, 0, 0, 1, 0, 0, 0], abs=1e-6)


def test_batches_of_actions_keep_their_shape():
    assert world_actions(torch.zeros(2, 3, 5, 7)).shape == (2, 3, 5, 10)


@pytest.mark.parametrize("actions", [torch.zeros(3, 10), torch.full((1, 7), float("inf")), torch.tensor(1.0)])
def test_actions_of_another_kind_are_refused(actions: torch.Tensor):
    with pytest.raises(BadTensor, match="actions"):
        world_actions(actions)
