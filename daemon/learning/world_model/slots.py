"""Which action stands beside which frame: the one place where a window's actions meet its frames.

Action a_t is executed at observation o_t and shapes frame t + 1. A transformer sees one action per frame, and
its config says which: the action that *produced* the frame, or the one that *acts at* it, as the rows of
WorldGym's training data do. What is not known yet, or was before the window, is zeros, which is also what
those data end with. Training and imagination both come here, so neither can be one slot late.

With a stride above 1 there are several actions between two frames; they stand beside one another, in order.

Source for classifier-free guidance: Ho and Salimans 2022 (arXiv:2207.12598); "no action" is a row of its own,
because zeros mean "do not move".
"""

from typing import Any

import torch
from torch import Tensor

from daemon.learning.world_model.path import PATH_DIM
from daemon.learning.world_model.transformer import WORLD_ACTION_DIM, ActionSlot


def gathered(actions: Tensor, stride: int) -> Tensor:
    """Actions [..., T, 10] one by one, as they stand between frames: [..., T / stride, 10 · stride]."""
    beside: Tensor = actions.unflatten(-2, (-1, stride)).flatten(-2)
    return beside


def told_slots(actions: Tensor, config: Any, *, path: Tensor, before: Tensor | None = None) -> Tensor:
    """All that the frames of a window are told: `in_slots`, and behind it the path for models that know one.

    Args:
        actions: between the frames, [B, F - 1, 10 · stride].
        config: the transformer's.
        path: sum of all moves before the first of these actions, [B, 6].
        before: as `in_slots` takes it.

    Returns:
        [B, F, 10 · stride], six numbers more with the path.
    """
    slots = in_slots(actions, config.action_slot, before=before)
    return torch.cat((slots, path_along(actions, path)), dim=-1) if config.told_path else slots


def path_along(actions: Tensor, start: Tensor) -> Tensor:
    """The sum of all moves up to each frame of a window, the one that produced it included.

    Args:
        actions: between the frames, [B, F - 1, 10 · stride].
        start: the sum at frame 0, [B, 6]; zeros where an episode begins.

    Returns:
        [B, F, 6]; row 0 is `start`.
    """
    moves = actions.unflatten(-1, (-1, WORLD_ACTION_DIM))[..., :PATH_DIM].sum(-2)
    return torch.cat((start[:, None], moves), dim=1).cumsum(dim=1)


def in_slots(actions: Tensor, slot: ActionSlot, *, before: Tensor | None = None) -> Tensor:
    """Actions between the frames of a window, in the slots of its frames.

    Args:
        actions: [B, F - 1, 10 · stride]; action f was executed at frame f.
        before: what produced frame 0, [B, 10 · stride]; zeros when nobody knows.

    Returns:
        [B, F, 10 · stride].
    """
    unknown = torch.zeros_like(actions[:, :1])
    if slot == "acts_at_frame":
        return torch.cat((actions, unknown), dim=1)
    return torch.cat((unknown if before is None else before[:, None], actions), dim=1)


def while_imagined(slots: Tensor, slot: ActionSlot) -> Tensor:
    """What frames are told while they are imagined one by one, from the slots of finished frames.

    The action that acts at a frame is chosen only after somebody has seen it.
    """
    return torch.zeros_like(slots) if slot == "acts_at_frame" else slots


def null_actions(like: Tensor) -> Tensor:
    """The row that says that no action is told, in the shape of `like`: zeros, the first action's last one 1.

    The path, which would tell it, is zeros too.
    """
    null = torch.zeros_like(like)
    null[..., WORLD_ACTION_DIM - 1] = 1
    return null
