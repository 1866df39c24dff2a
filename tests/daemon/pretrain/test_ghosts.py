"""Pictures with half an eggplant here and half there, and what a judge is taught to say of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from daemon.learning.batch import Clip
from daemon.learning.world_model.model import nano_world_model
from daemon.pretrain import stages
from daemon.pretrain.ghosts import DOUBT, ghosts_of, mixed

SENTENCE = "put the eggplant in the yellow basket"


def moved_at_the_end(*, frames: int = 9, successes: int = 4) -> Clip:
    """A dark spot on a light table, left until the last frames show it at the right; an arm at the top."""
    pictures = torch.full((frames, 3, 64, 64), 200, dtype=torch.uint8)
    subject = torch.zeros(frames, 64, 64, dtype=torch.bool)
    subject[:-successes, 40:44, 10:14] = True
    subject[-successes:, 40:44, 50:54] = True
    pictures[subject[:, None].expand(-1, 3, -1, -1)] = 100
    for frame in range(frames):
        pictures[frame, :, :8, frame : frame + 6] = 0
    marks = torch.arange(frames) >= frames - successes
    return Clip(
        frames=pictures,
        actions=torch.zeros(frames - 1, 7),
        instruction=SENTENCE,
        episode_id="moved",
        success=True,
        success_by_frame=marks,
        subject=subject,
    )


@pytest.mark.parametrize(("share", "here", "there"), [(1.0, 100, 200), (0.0, 200, 100), (0.25, 175, 125)])
def test_a_ghost_has_its_share_here_and_the_rest_where_it_began(share: float, here: int, there: int) -> None:
    clip = moved_at_the_end()
    ghost = mixed(clip, 8, share=share)
    assert ghost[:, 40:44, 50:54].unique().tolist() == [here]
    assert ghost[:, 40:44, 10:14].unique().tolist() == [there]
    assert torch.equal(ghost[:, :40], clip.frames[8][:, :40]), "the arm stands where it stood"


def test_every_second_success_gets_a_ghost_and_half_shares_are_doubtful() -> None:
    clip = moved_at_the_end(frames=900, successes=800)
    ghosts = ghosts_of(clip, generator=torch.Generator().manual_seed(0))
    assert len(ghosts.frames) == len(ghosts.success) == len(ghosts.doubtful) == 400
    shares = (200 - ghosts.frames[:, 0, 41, 51].float()) / 100
    assert torch.equal(ghosts.success[~ghosts.doubtful], shares[~ghosts.doubtful] > 0.5)
    assert bool(((shares[ghosts.doubtful] - 0.5).abs() <= DOUBT + 0.01).all())
    assert float(ghosts.doubtful.float().mean()) == pytest.approx(2 * DOUBT, abs=0.08)
    assert float(ghosts.success.float().mean()) == pytest.approx(0.5, abs=0.08)


def test_the_same_seed_gives_the_same_ghosts() -> None:
    clip = moved_at_the_end()
    first, again, other = (
        ghosts_of(clip, generator=torch.Generator().manual_seed(seed)).frames for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_failure_has_no_ghost() -> None:
    clip = moved_at_the_end()
    assert clip.success_by_frame is not None
    failed = replace(clip, success=False, success_by_frame=torch.zeros_like(clip.success_by_frame))
    assert len(ghosts_of(failed, generator=torch.Generator()).frames) == 0


def test_a_judge_learns_from_ghosts_of_eggplants_alone_and_only_where_their_subject_is_known() -> None:
    model = nano_world_model(seed=0, in_channels=4, dim=16, layers=1, heads=2, max_frames=6)
    clip = moved_at_the_end()

    def count(clip: Clip) -> int:
        examples = stages.judge_examples([clip], [], model, seed=0)
        examples.validate()
        assert set(examples.instructions) == {clip.instruction}
        return len(examples.frames)

    assert count(clip) == 2 * (5 + 2), "every second of 9 frames and of 4 successes, each also blurred"
    assert count(replace(clip, instruction="open the drawer")) == count(replace(clip, subject=None)) == 2 * 5
