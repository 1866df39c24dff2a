"""Moments around a grasp: found where the command changes, cut whole, and true to their episode."""

import pytest
import torch

from daemon.learning.batch import Clip
from daemon.learning.grasps import BEFORE, FRAMES, changes, grasps_of
from daemon.learning.world_model.latents import LatentClip, LatentClips

OPEN, CLOSED = 1.0, 0.0


def a_clip(gripper: list[float]) -> Clip:
    actions = torch.zeros(len(gripper), 7)
    actions[:, 6] = torch.tensor(gripper)
    frames = torch.zeros(len(gripper) + 1, 3, 64, 64, dtype=torch.uint8)
    return Clip(frames=frames, actions=actions, instruction="take it", episode_id="e")


def encoded(steps: int) -> LatentClip:
    """Latents and actions that hold their own place."""
    return LatentClip(
        latents=torch.arange(steps + 1.0)[:, None, None, None].expand(-1, 2, 4, 4),
        actions=torch.arange(float(steps))[:, None].expand(-1, 10),
        episode_id="e",
    )


@pytest.mark.parametrize(
    ("gripper", "steps"),
    [
        ([OPEN] * 4 + [CLOSED] * 6, [4]),
        ([CLOSED] * 10, []),
        ([OPEN] * 3 + [CLOSED] * 8 + [OPEN] * 4, [3, 11]),
        ([OPEN, CLOSED, OPEN, CLOSED, OPEN, CLOSED, OPEN, CLOSED], [1, 6]),  # a flutter is one moment
        ([0.9, 0.6, 0.51, 0.49, 0.2], [3]),
    ],
)
def test_a_change_of_the_command_is_a_moment(gripper: list[float], steps: list[int]) -> None:
    assert changes(torch.tensor(gripper)) == steps


@pytest.mark.parametrize(("change", "begins"), [(20, 20 - BEFORE), (2, 0), (39, 41 - FRAMES)])
def test_a_moment_is_cut_around_the_change_and_moved_inwards_at_the_ends(change: int, begins: int) -> None:
    clip = a_clip([OPEN] * change + [CLOSED] * (40 - change))
    (moment,) = grasps_of(LatentClips((encoded(40),)), [clip]).clips
    assert len(moment.latents) == FRAMES
    assert moment.latents[0, 0, 0, 0] == begins
    assert moment.episode_id == "e"


def test_actions_stay_between_their_frames() -> None:
    (moment,) = grasps_of(LatentClips((encoded(40),)), [a_clip([OPEN] * 20 + [CLOSED] * 20)]).clips
    assert len(moment.actions) == FRAMES - 1
    assert torch.equal(moment.actions[:, 0], moment.latents[:-1, 0, 0, 0])


def test_an_episode_shorter_than_a_moment_is_one_whole() -> None:
    (moment,) = grasps_of(LatentClips((encoded(8),)), [a_clip([OPEN] * 4 + [CLOSED] * 4)]).clips
    assert len(moment.latents) == 9


def test_every_episode_gives_its_own_moments_in_order() -> None:
    clips = [a_clip([OPEN] * 10 + [CLOSED] * 10 + [OPEN] * 20), a_clip([CLOSED] * 40), a_clip([OPEN] * 40)]
    assert len(grasps_of(LatentClips((encoded(40),) * 3), clips)) == 2


def test_a_moment_knows_the_path_from_the_beginning_of_its_episode() -> None:
    (moment,) = grasps_of(LatentClips((encoded(40),)), [a_clip([OPEN] * 20 + [CLOSED] * 20)]).clips
    begin = 20 - BEFORE
    assert moment.path.tolist() == [sum(range(begin))] * 6
    assert moment.path_at(3).tolist() == [sum(range(begin + 3))] * 6
