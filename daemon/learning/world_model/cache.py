"""What the transformer remembers of past frames, so that a new frame costs only its own passes.

A ring of slots per temporal layer. Keys are stored already rotated by their frame's index since the start of
the rollout; rotary attention depends only on differences of positions and on no order of the keys, so a new
frame simply overwrites the slot of a frame that has left every window. A frame's keys and values are computed
from what its window held when it was new, never again: past the window, frames still feel what has left it,
through those that saw it. `WorldModelTransformer.forward` over the whole sequence, where each frame sees the
`window - 1` before it, gives the same numbers for every length.

Shapes never change and no number leaves the device, so that a whole rollout can be recorded as a graph.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEVER = -(10**9)  # position of a slot that holds no frame: outside of every window


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShape:
    """Sizes of a cache.

    Attributes:
        layers: temporal layers.
        places: rollouts times tokens of a frame.
        heads, width: of the attention.
        window: frames that a frame attends to, itself included.
        ahead: new frames in one pass, at most.
    """

    layers: int
    places: int
    heads: int
    width: int
    window: int
    ahead: int

    @property
    def slots(self) -> int:
        """Frames that are kept, so that no new frame overwrites one that another new frame sees."""
        return self.window - 1 + self.ahead


class FrameCache:
    """The rings of all temporal layers, for one batch of rollouts."""

    def __init__(self, shape: CacheShape, *, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = shape
        ring = (shape.layers, shape.places, shape.heads, shape.slots, shape.width)
        self.keys = torch.zeros(ring, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self._next = torch.zeros((), dtype=torch.long, device=device)  # position of the next frame
        self._positions = torch.full((shape.slots,), NEVER, device=device)  # of the frame in each slot
        self._steps = torch.arange(shape.ahead, device=device)

    @property
    def frames(self) -> int:
        """How many frames were kept; asks the device."""
        return int(self._next)

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that changes, always the same tensors."""
        return self.keys, self.values, self._next, self._positions

    def begin(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Make room for `count` frames that follow those kept; what was put there and not kept is replaced.

        Returns:
            the frames' positions [n], their slots [n], and what each sees: 0 or -inf, [n, slots].
        """
        new = self._next + self._steps[:count]
        places = new % self.shape.slots
        self._positions.index_copy_(0, places, new)
        ages = new[:, None] - self._positions
        hidden = (ages < 0) | (ages >= self.shape.window)
        seen = torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, float("-inf"))
        return new, places, seen

    def put(self, layer: int, places: Tensor, *, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values [X, heads, n, width] into these slots; gives those of all slots."""
        kept = self.keys[layer], self.values[layer]
        for ring, new in zip(kept, (keys, values), strict=True):
            ring.index_copy_(2, places, new)
        return kept

    def keep(self, count: int) -> None:
        """The first `count` of the frames put last are past from now on."""
        self._next += count

    def clear(self) -> None:
        """Forget every frame."""
        self._next.zero_()
        self._positions.fill_(NEVER)
