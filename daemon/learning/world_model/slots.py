"""Which action stands beside which frame: the one place where a window's actions meet its frames.

Action a_t is executed at observation o_t and shapes frame t + 1. A transformer sees one action per frame, and
its config says which: the action that *produced* the frame, or the one that *acts at* it, as the rows of
WorldGym's training data do. What is not known yet, or was before the window, is zeros, which is also what
those data end with. Training and imagination both come here, so neither can be one slot late.

Source for classifier-free guidance: Ho and Salimans 2022 (arXiv:2207.12598); "no action" is a row of its own,
because zeros mean "do not move".
"""

import torch
from torch import Tensor

from daemon.learning.world_model.transformer import WORLD_ACTION_DIM, ActionSlot


def in_slots(actions: Tensor, slot: ActionSlot, *, before: Tensor | None = None) -> Tensor:
    """Actions between the frames of a window, in the slots of its frames.

    Args:
        actions: [B, F - 1, 10]; action f was executed at frame f.
        before: the action that produced frame 0, [B, 10]; zeros when nobody knows.

    Returns:
        [B, F, 10].
    """
    unknown = torch.zeros_like(actions[:, :1])
    if slot == "acts_at_frame":
        return torch.cat((actions, unknown), dim=1)
    return torch.cat((unknown if before is None else before[:, None], actions), dim=1)


def while_imagined(slots: Tensor, slot: ActionSlot) -> Tensor:
    """What frames are told while they are imagined one by one, [B, F, 10] of the slots of finished frames.

    The action that acts at a frame is chosen only after somebody has seen it.
    """
    return torch.zeros_like(slots) if slot == "acts_at_frame" else slots


def null_actions(like: Tensor) -> Tensor:
    """The row that says that the action is not told, in the shape of `like` [..., 10]: zeros, last one 1."""
    null = torch.zeros_like(like)
    null[..., WORLD_ACTION_DIM - 1] = 1
    return null
