"""The blocks of the world model's transformer: attention and feed-forward, modulated frame by frame.

Source: Peebles and Xie 2022 (arXiv:2212.09748) for adaptive layer norm; Quevedo et al. 2025
(arXiv:2506.00613) section 3 for spatial blocks followed by temporal ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daemon.learning.activations import Gelu
from daemon.learning.world_model.attention import Attention, Past, Turn

BRANCHES = 6  # rows of a block's modulation: shift, scale and gate of attention and of feed-forward
FACTORS = slice(1, None, 3)  # which of all rows are scales


@dataclass(frozen=True, slots=True, kw_only=True)
class Modulations:
    """What noise level and action of some frames do to every branch.

    Attributes:
        rows: [R, B, F, 1, D]: `BRANCHES` of the first layer's spatial block, of its temporal block, of the
            second layer's and so on, then shift and scale of the last layer. Scales are factors, 1 added.
    """

    rows: Tensor

    def of(self, frames: slice) -> "Modulations":
        """Those of some of the frames."""
        return Modulations(rows=self.rows[:, :, frames])


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where tokens are in their frame, and what their frame sees along time."""

    turn: Turn
    past: Past


class Branches(nn.Module):
    """One attention and one feed-forward branch, both modulated and gated by the frame's condition."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.attn = Attention(dim, heads)
        self.ffwd = nn.Sequential(nn.Linear(dim, 4 * dim), Gelu(), nn.Linear(4 * dim, dim))

    def forward(
        self, x: Tensor, rows: Sequence[Tensor], mix: Callable[[Tensor], Tensor], *, skip: int = 0
    ) -> Tensor:
        """Mix tokens, then feed each forward; `rows` are shift, factor and gate of both.

        `mix` leaves out the first `skip` frames, and so does what comes back.
        """
        shift, factor, gate, *feed = rows
        mixed = mix(modulated(x, shift, factor))
        if skip:
            x, gate, *feed = (part[:, skip:] for part in (x, gate, *feed))
        x = torch.addcmul(x, gate, mixed)
        shift, factor, gate = feed
        return torch.addcmul(x, gate, self.ffwd(modulated(x, shift, factor)))


class Block(nn.Module):
    """Mixes the tokens of each frame, then each place of the frame with its past."""

    def __init__(self, dim: int, heads: int, *, layer: int, last: bool) -> None:
        super().__init__()
        self.layer, self.last = layer, last
        self.s_block = Branches(dim, heads)
        self.t_block = Branches(dim, heads)

    def forward(self, x: Tensor, rows: Sequence[Tensor], around: Surroundings) -> Tensor:
        """`rows` are those of the spatial branches, then those of the temporal ones."""
        within, along = self.s_block.attn.within_frame, self.t_block.attn.along_time
        past, layer = around.past, self.layer
        skip = past.silent if self.last else 0
        x = self.s_block(x, rows[:BRANCHES], lambda ready: within(ready, around.turn))
        out: Tensor = self.t_block(
            x, rows[BRANCHES:], lambda ready: along(ready, past, layer=layer, skip=skip), skip=skip
        )
        return out


class FinalLayer(nn.Module):
    """From tokens back to the latent pixels of their patch."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        self.linear = nn.Linear(dim, width)

    def forward(self, x: Tensor, rows: Sequence[Tensor]) -> Tensor:
        shift, factor = rows
        out: Tensor = self.linear(modulated(x, shift, factor))
        return out


def modulated(x: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
    """Layer norm without weights of its own, shifted and scaled by the condition; `x` is [B, F, S, D]."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), factor)
