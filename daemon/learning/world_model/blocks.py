"""The blocks of the world model's transformer: attention and feed-forward, modulated frame by frame.

Source: Peebles and Xie 2022 (arXiv:2212.09748) for adaptive layer norm; Quevedo et al. 2025
(arXiv:2506.00613) section 3 for spatial blocks followed by temporal ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daemon.learning.world_model.attention import Attention, Past, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Modulations:
    """What noise level and action of some frames do to every branch.

    Attributes:
        within, along: shifts, scales and gates of spatial and temporal blocks, one [B, F, 1, 6 D] per layer.
        final: shift and scale of the last layer, [B, F, 1, 2 D].
    """

    within: tuple[Tensor, ...]
    along: tuple[Tensor, ...]
    final: Tensor

    def of(self, frames: slice) -> "Modulations":
        """Those of some of the frames."""
        within, along = (tuple(part[:, frames] for part in parts) for parts in (self.within, self.along))
        return Modulations(within=within, along=along, final=self.final[:, frames])


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
        self.ffwd = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )

    def forward(self, x: Tensor, modulation: Tensor, mix: Callable[[Tensor], Tensor]) -> Tensor:
        """Mix tokens, then feed each forward; `modulation` holds shift, scale and gate of both."""
        shift, scale, gate, *feed = modulation.chunk(6, dim=-1)
        x = torch.addcmul(x, gate, mix(modulated(x, shift, scale)))
        shift, scale, gate = feed
        return torch.addcmul(x, gate, self.ffwd(modulated(x, shift, scale)))


class Block(nn.Module):
    """Mixes the tokens of each frame, then each place of the frame with its past."""

    def __init__(self, dim: int, heads: int, *, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.s_block = Branches(dim, heads)
        self.t_block = Branches(dim, heads)

    def forward(self, x: Tensor, told: Modulations, around: Surroundings) -> Tensor:
        within, along = self.s_block.attn.within_frame, self.t_block.attn.along_time
        layer = self.layer
        x = self.s_block(x, told.within[layer], lambda ready: within(ready, around.turn))
        out: Tensor = self.t_block(x, told.along[layer], lambda ready: along(ready, around.past, layer=layer))
        return out


class FinalLayer(nn.Module):
    """From tokens back to the latent pixels of their patch."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        self.linear = nn.Linear(dim, width)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift, scale = modulation.chunk(2, dim=-1)
        out: Tensor = self.linear(modulated(x, shift, scale))
        return out


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights of its own, shifted and scaled by the condition; `x` is [B, F, S, D]."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)
