"""Actions stand beside the frames that the config names, and what is not known is zeros."""

import pytest
import torch

from daemon.learning.world_model.slots import in_slots, null_actions, path_along, told_slots
from daemon.learning.world_model.transformer import WorldModelTransformer


def actions(*marks: float) -> torch.Tensor:
    """[1, F - 1, 10], action f full of mark f."""
    return torch.tensor(marks)[None, :, None].expand(1, -1, 10)


@pytest.mark.parametrize(
    ("slot", "marks"), [("produced_frame", [0, 1, 2, 3]), ("acts_at_frame", [1, 2, 3, 0])]
)
def test_actions_are_shifted_by_one_frame_or_not_at_all(slot: str, marks: list[float]):
    slots = in_slots(actions(1, 2, 3), slot)
    assert slots[0, :, 0].tolist() == marks
    assert torch.equal(slots, slots[..., :1].expand_as(slots))


def test_the_action_before_the_window_counts_for_the_frame_that_it_produced():
    before = torch.full((1, 10), 9.0)
    assert in_slots(actions(1, 2), "produced_frame", before=before)[0, :, 0].tolist() == [9, 1, 2]
    assert in_slots(actions(1, 2), "acts_at_frame", before=before)[0, :, 0].tolist() == [1, 2, 0]


def test_no_action_is_not_the_action_of_standing_still():
    assert null_actions(torch.ones(2, 3, 10))[1, 2].tolist() == [0] * 9 + [1]


def test_where_no_action_is_told_no_path_gives_it_away():
    assert null_actions(torch.ones(2, 3, 16))[1, 2].tolist() == [0] * 9 + [1] + [0] * 6


def test_the_path_of_a_frame_is_the_sum_of_all_moves_up_to_the_one_that_produced_it():
    moves = torch.zeros(1, 3, 10)
    moves[0, :, 0] = torch.tensor([1.0, 2.0, -4.0])
    moves[0, :, 5] = torch.tensor([0.5, 0.0, 0.5])
    moves[0, :, 6:] = 9.0  # the gripper and what stands behind it go nowhere
    path = path_along(moves, torch.tensor([[10.0, 0, 0, 0, 0, 1]]))
    assert path.shape == (1, 4, 6)
    assert path[0, :, 0].tolist() == [10, 11, 13, 9]
    assert path[0, :, 5].tolist() == [1, 1.5, 1.5, 2]
    assert path[..., 1:5].abs().max().item() == 0


def test_chunk_after_chunk_the_path_is_that_of_the_whole():
    moves = torch.randn(2, 7, 10, generator=torch.Generator().manual_seed(0))
    whole, at = path_along(moves, torch.zeros(2, 6)), torch.zeros(2, 6)
    for first in (0, 3, 6):
        part = path_along(moves[:, first : first + 3], at)
        assert torch.allclose(part, whole[:, first : first + part.shape[1]], atol=1e-6)
        at = part[:, -1]


@pytest.mark.parametrize("before", [None, torch.full((1, 10), 9.0)])
def test_a_frame_is_told_its_path_beside_the_action_that_ends_it(before: torch.Tensor | None):
    config = WorldModelTransformer(dim=8, layers=1, heads=1, told_path=True).config
    told = told_slots(actions(1, 2), config, path=torch.full((1, 6), 5.0), before=before)
    assert told[0, :, 0].tolist() == [0 if before is None else 9, 1, 2]
    assert told[0, :, 10].tolist() == [5, 6, 8], "whatever came before, its move is in the sum"
    untold = WorldModelTransformer(dim=8, layers=1, heads=1).config
    assert torch.equal(
        told_slots(actions(1, 2), untold, path=torch.zeros(1, 6), before=before), told[..., :10]
    )


def test_a_slot_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="action_slot is 'next_frame'"):
        WorldModelTransformer(action_slot="next_frame")
