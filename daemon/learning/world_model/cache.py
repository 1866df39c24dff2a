"""What the transformer remembers of past frames, so that a new frame costs only its own passes.

A ring of `max_frames` slots per temporal layer. Keys are stored already rotated by their frame's index
since the start of the rollout; rotary attention depends only on differences of positions and on no order of
the keys, so a new frame simply overwrites the slot of the frame that leaves its window. A frame's keys and
values are computed from what its window held when it was new, never again.
`WorldModelTransformer.forward` over the whole sequence, where each frame sees the `max_frames - 1` before
it, gives the same numbers.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(slots=True)
class Ring:
    """Keys and values of one temporal layer, each [B · S · heads, slots, D / heads]."""

    keys: Tensor
    values: Tensor


@dataclass(slots=True)
class FrameCache:
    """The rings of all temporal layers, for one batch of rollouts.

    Attributes:
        slots: frames that a new frame attends to, itself included.
        frames: how many frames were ever kept; the position of the next one.
        rings: one per temporal layer, made when the first frame comes.
    """

    slots: int
    frames: int = 0
    rings: dict[int, Ring] = field(default_factory=dict)

    def with_new(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put the new frame's keys and values [B · S · heads, 1, D / heads] into its slot.

        The slot is free, or holds the frame that has just left the window, or an earlier try at this same
        frame; `keep` makes it last.

        Returns:
            keys and values of all frames in the window, in no particular order.
        """
        if layer not in self.rings:
            room = keys.new_empty(keys.shape[0], self.slots, keys.shape[2])
            self.rings[layer] = Ring(keys=room, values=torch.empty_like(room))
        ring = self.rings[layer]
        slot, known = self.frames % self.slots, min(self.frames + 1, self.slots)
        ring.keys[:, slot], ring.values[:, slot] = keys[:, 0], values[:, 0]
        return ring.keys[:, :known], ring.values[:, :known]

    def keep(self) -> None:
        """Count the frame that was put last as past."""
        self.frames += 1
