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
FUSED_KEYS = 64  # a processor's plain products beat its fused kernel with fewer keys than this

Rotary: TypeAlias = Literal["standard", "pixel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Cosines and sines of rotary angles, each [positions, D / heads], even members first."""

    cos: Tensor
    sin: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a frame of a pass sees along time.

    Attributes:
        turn: of the frames' positions.
        mask: [F, frames seen], 0 where a frame may look and -inf where not.
        cache: holds the frames before those of the pass; None when the pass shows all there are.
        places: slots of the cache that the pass's frames go to, [F].
        silent: so many of the first frames are only remembered; the last layer says nothing about them.
    """

    turn: Turn
    mask: Tensor
    cache: FrameCache | None = None
    places: Tensor | None = None
    silent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """When the frames of a window are, integers [F], and which frame (row) may see which, bool [F, F]."""

    positions: Tensor
    sees: Tensor

    def mask(self, *, window: int) -> Tensor:
        """0 where a frame looks, -inf elsewhere: `sees`, as far back as the `window - 1` frames before."""
        ages = self.positions[:, None] - self.positions
        hidden = ~self.sees | (ages >= window)
        return torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))


def plain_order(frames: int) -> Order:
    """One frame after the other, each seeing itself and those before it."""
    at = torch.arange(frames)
    return Order(positions=at, sees=at[:, None] >= at)


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
        self._sorted: tuple[tuple[int, int], Tensor] | None = None  # for which weights, and those in order

    def within_frame(self, x: Tensor, turn: Turn) -> Tensor:
        """Every token attends to all tokens of its frame; `x` is [B, F, S, D]."""
        batch, frames, places, _ = x.shape
        qkv = self._projected(x).permute(3, 0, 1, 4, 2, 5).contiguous()  # [3, B, F, heads, S, width]
        qkv = qkv.view(3, batch * frames, self.heads, places, -1)
        q, k = rotate(qkv[:2], turn).unbind(0)
        mixed = _attend(q, k, qkv[2], mask=None)  # [B·F, heads, S, width]
        return self._out(mixed.transpose(1, 2).reshape(x.shape))

    def along_time(self, x: Tensor, past: Past, *, layer: int, skip: int = 0) -> Tensor:
        """Every token attends to its own place in the frames that its frame sees; `x` is [B, F, S, D].

        The first `skip` frames are seen by the others and get no answer: [B, F - skip, S, D].
        """
        batch, frames, places, _ = x.shape
        qkv = self._projected(x).permute(3, 0, 2, 4, 1, 5).contiguous()  # [3, B, S, heads, F, width]
        qkv = qkv.view(3, batch * places, self.heads, frames, -1)
        q, k = rotate(qkv[:2], past.turn).unbind(0)
        v = qkv[2]
        if past.cache is not None and past.places is not None:
            k, v = past.cache.put(layer, past.places, keys=k, values=v)  # [B·S, heads, slots, width]
        mixed = _attend(q[:, :, skip:], k, v, mask=past.mask[skip:])  # [B·S, heads, F - skip, width]
        mixed = mixed.view(batch, places, self.heads, frames - skip, -1).permute(0, 3, 1, 2, 4)
        return self._out(mixed.flatten(3))

    def _projected(self, x: Tensor) -> Tensor:
        if type(self.qkv_proj) is nn.Linear:
            qkv = F.linear(x, self._weights())
        else:  # an adapter has taken its place
            qkv = self.qkv_proj(x)[..., self.order]
        return qkv.view(*x.shape[:-1], 3, self.heads, -1)

    def _weights(self) -> Tensor:
        """The rows of queries, keys and values in order; sorted once for as long as nobody changes them."""
        weight = self.qkv_proj.weight
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return weight[self.order]
        seen = weight.data_ptr(), weight._version
        if self._sorted is None or self._sorted[0] != seen:
            self._sorted = seen, weight[self.order]
        return self._sorted[1]

    def _out(self, mixed: Tensor) -> Tensor:
        out: Tensor = self.out_proj(mixed)
        return out


def _attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None) -> Tensor:
    """Softmax attention over the last two of four axes."""
    if q.device.type != "cpu" or k.shape[-2] > FUSED_KEYS:
        bias = None if mask is None else mask.to(q.dtype)
        fused: Tensor = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return fused
    flat_q, flat_k, flat_v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    scale = q.shape[-1] ** -0.5
    if mask is None:
        scores = torch.bmm(flat_q, flat_k.transpose(1, 2)) * scale
    else:
        scores = torch.baddbmm(mask.to(q.dtype), flat_q, flat_k.transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(dim=-1).to(v.dtype), flat_v).view(q.shape)


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
