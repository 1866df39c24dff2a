"""Attention inside a frame and along time, with rotary positions.

Rotary attention depends only on differences of positions, so temporal keys are rotated by their frame's
index since the start of the rollout and stay valid when the window slides (`cache.py`). A frame attends to
itself and to the `max_frames - 1` frames before it, cached or not.

Source: Su et al. 2021 (arXiv:2104.09864) equation 34, interleaved pairs; the two-dimensional form turns
the first half of the pairs with the row and the second half with the column.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daemon.learning.world_model.cache import FrameCache

ROTARY_BASE = 10_000.0
PIXEL_CYCLES = 128.0  # half turns of the fastest pair from the middle of a frame to its edge

Rotary: TypeAlias = Literal["standard", "pixel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Cosines and sines of rotary angles, each [positions, D / heads], even members first."""

    cos: Tensor
    sin: Tensor


def temporal_turn(positions: Tensor, *, width: int) -> Turn:
    """Angles of frames at these integer positions, for heads of this width."""
    return _turn(positions[:, None] * _frequencies(width // 2, positions.device))


def spatial_turn(
    rows: int, columns: int, *, width: int, device: torch.device, rotary: Rotary = "standard"
) -> Turn:
    """Angles of the row-major tokens of a frame.

    "standard" counts rows and columns from 0; "pixel" spreads them over -1..1, so that a frame looks the
    same at every resolution, with frequencies of pi to 128 pi.
    """
    down = _places(rows, width // 4, device=device, rotary=rotary)
    along = _places(columns, width // 4, device=device, rotary=rotary)
    shape = (rows, columns, width // 4)
    return _turn(torch.cat((down[:, None].expand(shape), along[None].expand(shape)), dim=-1).flatten(0, 1))


def rotate(x: Tensor, turn: Turn) -> Tensor:
    """Turn pairs (i, i + width / 2) of `x` [..., positions, width] by their angles."""
    swapped = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * turn.cos.to(x.dtype), swapped, turn.sin.to(x.dtype))


class Attention(nn.Module):
    """Multi-head attention with a bias only on the way out; parameter names as WorldGym's checkpoints.

    The checkpoint rotates interleaved pairs (2i, 2i + 1). Reordering the rows of queries and keys alike
    leaves every product between them as it is and puts the pairs half a head apart, where processors
    can rotate them without shuffling.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_proj = nn.Linear(dim, 3 * dim, bias=False)
        self.out_proj = nn.Linear(dim, dim)
        width = dim // heads
        apart = torch.arange(width).unflatten(0, (-1, 2)).T.flatten()  # 0 2 4 … 1 3 5 …
        rows = (torch.arange(2 * heads)[:, None] * width + apart).flatten()
        order = torch.cat((rows, torch.arange(2 * dim, 3 * dim)))
        self.register_buffer("order", order, persistent=False)
        self.order: Tensor

    def within_frame(self, x: Tensor, turn: Turn) -> Tensor:
        """Every token attends to all tokens of its frame; `x` is [B, F, S, D]."""
        qkv = self._projected(x).permute(3, 0, 1, 4, 2, 5).contiguous()  # [3, B, F, heads, S, width]
        q, k = rotate(qkv[:2], turn).unbind(0)
        mixed = _attend(q, k, qkv[2], mask=None)  # [B, F, heads, S, width]
        return self._out(mixed.transpose(2, 3).flatten(3))

    def along_time(self, x: Tensor, turn: Turn, *, mask: Tensor) -> Tensor:
        """Every token attends to its own place in the frames of a whole window; `x` is [B, F, S, D].

        Args:
            mask: [F, F], 0 where a frame may look and -inf where not.
        """
        qkv = self._projected(x).permute(3, 0, 2, 4, 1, 5).contiguous()  # [3, B, S, heads, F, width]
        q, k = rotate(qkv[:2], turn).unbind(0)
        mixed = _attend(q, k, qkv[2], mask=mask)  # [B, S, heads, F, width]
        return self._out(mixed.permute(0, 3, 1, 2, 4).flatten(3))

    def after_past(self, x: Tensor, turn: Turn, *, cache: FrameCache, layer: int) -> Tensor:
        """The same for one new frame, `x` [B, 1, S, D], whose past is in the cache."""
        qkv = self._projected(x).permute(3, 0, 2, 4, 1, 5).contiguous()  # [3, B, S, heads, 1, width]
        q, k = rotate(qkv[:2], turn).unbind(0)
        keys, values = cache.with_new(layer, k.flatten(0, 2), qkv[2].flatten(0, 2))
        mixed = _attend(q.flatten(0, 2), keys, values, mask=None)  # [B·S·heads, 1, width]
        return self._out(mixed.view(q.shape).permute(0, 3, 1, 2, 4).flatten(3))

    def _projected(self, x: Tensor) -> Tensor:
        qkv = F.linear(x, self.qkv_proj.weight[self.order])
        return qkv.view(*x.shape[:-1], 3, self.heads, -1)

    def _out(self, mixed: Tensor) -> Tensor:
        out: Tensor = self.out_proj(mixed)
        return out


def window_mask(count: int, *, window: int, like: Tensor) -> Tensor:
    """0 where one of `count` frames sees another: itself and the `window - 1` before; elsewhere -inf."""
    at = torch.arange(count)
    ages = at[:, None] - at  # [F, F]
    hidden = (ages < 0) | (ages >= window)
    return torch.zeros(count, count, dtype=like.dtype).masked_fill(hidden, float("-inf")).to(like.device)


def _attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None) -> Tensor:
    """Softmax attention over the last two axes; plain products beat fused kernels at so few tokens."""
    shape = q.shape
    q, k, v = q.flatten(0, -3), k.flatten(0, -3), v.flatten(0, -3)
    scale = q.shape[-1] ** -0.5
    bias = q.new_zeros(()) if mask is None else mask
    scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=scale)
    mixed: Tensor = scores.softmax(dim=-1).to(v.dtype) @ v
    return mixed.view(shape)


def _frequencies(pairs: int, device: torch.device) -> Tensor:
    return ROTARY_BASE ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)


def _places(count: int, pairs: int, *, device: torch.device, rotary: Rotary) -> Tensor:
    """Angles [count, pairs] of the places on one side of a frame."""
    if rotary == "pixel":
        frequencies = torch.linspace(1.0, PIXEL_CYCLES, pairs, device=device) * math.pi
        return torch.linspace(-1.0, 1.0, count, device=device)[:, None] * frequencies
    return torch.arange(count, device=device)[:, None] * _frequencies(pairs, device)


def _turn(angles: Tensor) -> Turn:
    cos, sin = angles.cos(), angles.sin()
    return Turn(cos=torch.cat((cos, cos), dim=-1), sin=torch.cat((-sin, sin), dim=-1))
