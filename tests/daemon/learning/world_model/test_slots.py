"""Actions stand beside the frames that the config names, and what is not known is zeros."""

import pytest
import torch

from daemon.learning.world_model.slots import in_slots, null_actions
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


def test_a_slot_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="action_slot is 'next_frame'"):
        WorldModelTransformer(action_slot="next_frame")
