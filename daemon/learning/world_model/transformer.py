"""The world model's transformer: noisy latents and actions in, predicted velocity of the noise out.

Each block attends inside every frame, then along time for every place of the frame, never to later
frames. Every frame has its own noise level and is conditioned on the action that *produced* it: frame
f + 1 on the action executed at frame f, frame 0 on zeros. Architecture and parameter names are those of
WorldGym's checkpoints; `in_channels=16, dim=1024, layers=16, heads=16, max_frames=20` is its size.

Source: Quevedo et al. 2025 (arXiv:2506.00613) section 3; Peebles and Xie 2022 (arXiv:2212.09748) for
adaptive layer norm; Chen et al. 2024 (arXiv:2407.01392) for one noise level per frame.
"""

from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from daemon.learning.errors import BadTensor
from daemon.learning.world_model.attention import (
    Attention,
    Rotary,
    Turn,
    spatial_turn,
    temporal_turn,
    window_mask,
)
from daemon.learning.world_model.cache import FrameCache

WORLD_ACTION_DIM = 10  # xyz, rotation, gripper, three slots Bridge leaves at zero; the same at every size
TIMESTEP_WIDTH = 256  # sinusoids that encode a noise level
TIMESTEP_SPREAD = 0.02  # standard deviation of the first weights that read them


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a new frame attends to: the frames before it in the window given (`mask`), or those in `cache`."""

    turn: Turn
    mask: Tensor
    cache: FrameCache | None = None


class Branches(nn.Module):
    """One attention and one feed-forward branch, both modulated and gated by the frame's condition."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.attn = Attention(dim, heads)
        self.ffwd = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )

    def modulations(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale and gate of the attention, then of the feed-forward: six of [B, F, 1, D]."""
        six: Tensor = self.adaLN_modulation(condition)
        return six.unsqueeze(2).chunk(6, dim=-1)

    def feed_forward(self, x: Tensor, *, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        return torch.addcmul(x, gate, self.ffwd(modulated(x, shift, scale)))


class SpatialBlock(Branches):
    """Mixes the tokens of each frame."""

    def forward(self, x: Tensor, condition: Tensor, turn: Turn) -> Tensor:
        shift, scale, gate, *feed = self.modulations(condition)
        x = torch.addcmul(x, gate, self.attn.within_frame(modulated(x, shift, scale), turn))
        return self.feed_forward(x, shift=feed[0], scale=feed[1], gate=feed[2])


class TemporalBlock(Branches):
    """Mixes each place of the frame with its past."""

    def forward(self, x: Tensor, condition: Tensor, *, past: Past, layer: int) -> Tensor:
        shift, scale, gate, *feed = self.modulations(condition)
        ready = modulated(x, shift, scale)
        if past.cache is None:
            mixed = self.attn.along_time(ready, past.turn, mask=past.mask)
        else:
            mixed = self.attn.after_past(ready, past.turn, cache=past.cache, layer=layer)
        x = torch.addcmul(x, gate, mixed)
        return self.feed_forward(x, shift=feed[0], scale=feed[1], gate=feed[2])


class Block(nn.Module):
    """A spatial block, then a temporal one."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.s_block = SpatialBlock(dim, heads)
        self.t_block = TemporalBlock(dim, heads)

    def forward(self, x: Tensor, condition: Tensor, *, within: Turn, past: Past, layer: int) -> Tensor:
        x = self.s_block(x, condition, within)
        out: Tensor = self.t_block(x, condition, past=past, layer=layer)
        return out


class FinalLayer(nn.Module):
    """From tokens back to the latent pixels of their patch."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        self.linear = nn.Linear(dim, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition).unsqueeze(2).chunk(2, dim=-1)
        out: Tensor = self.linear(modulated(x, shift, scale))
        return out


class WorldModelTransformer(ModelMixin, ConfigMixin):
    """Predicts, for every frame of a window, the velocity between its latent and its noise.

    Args:
        in_channels: latent channels.
        patch: latent pixels on a side of a token.
        heads: must divide `dim`, leaving a multiple of four per head (rows and columns, in pairs).
        max_frames: how many frames a frame attends to, itself included.
        rotary: how places in a frame are told apart, see `spatial_turn`.

    Raises:
        ValueError: no such rotary.
    """

    @register_to_config
    def __init__(  # noqa: PLR0913 - a diffusers config is the arguments
        self,
        *,
        in_channels: int = 8,
        patch: int = 2,
        dim: int = 128,
        layers: int = 5,
        heads: int = 4,
        max_frames: int = 16,
        rotary: Rotary = "standard",
    ) -> None:
        super().__init__()
        if rotary not in get_args(Rotary):
            raise ValueError(f"rotary is {rotary!r}, expected one of {get_args(Rotary)}")
        self.x_proj = nn.Conv2d(in_channels, dim, patch, patch)
        self.timestep_mlp = nn.Sequential(nn.Linear(TIMESTEP_WIDTH, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.action_embedder = nn.Linear(WORLD_ACTION_DIM, dim)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(layers))
        self.final_layer = FinalLayer(dim, patch * patch * in_channels)
        self._start()

    def forward(self, x: Tensor, timesteps: Tensor, actions: Tensor) -> Tensor:
        """Predict the velocities of a whole window.

        Args:
            x: noisy latents [B, F, C, h, w].
            timesteps: noise level of each frame, integers 0..999, [B, F].
            actions: [B, F, 10], action f is the one that produced frame f.

        Returns:
            [B, F, C, h, w].

        Raises:
            BadTensor: shapes that do not belong together.
        """
        self._check(x, timesteps, actions)
        return self._run(x, timesteps, actions, cache=None)

    def remember(
        self, x: Tensor, timesteps: Tensor, actions: Tensor, *, cache: FrameCache, keep: bool
    ) -> Tensor:
        """Predict the velocity of one frame, [B, 1, C, h, w], that follows those in `cache`.

        The numbers are those of `forward` over the whole sequence.

        Args:
            keep: whether the frame becomes part of the past; otherwise the next call replaces it.

        Raises:
            BadTensor: more than one frame, or shapes that do not belong together.
        """
        self._check(x, timesteps, actions)
        if x.shape[1] != 1:
            raise BadTensor(name="latents", expected="one frame, [B, 1, C, h, w]", found=str(list(x.shape)))
        velocity = self._run(x, timesteps, actions, cache=cache)
        if keep:
            cache.keep()
        return velocity

    def empty_cache(self) -> FrameCache:
        """A cache that has seen no frame yet."""
        return FrameCache(slots=self.config.max_frames)

    def _run(self, x: Tensor, timesteps: Tensor, actions: Tensor, *, cache: FrameCache | None) -> Tensor:
        p, width = self.config.patch, self.config.dim // self.config.heads
        rows, columns = x.shape[3] // p, x.shape[4] // p
        condition = self._condition(timesteps, actions, x.dtype)  # [B, F, D]
        tokens = self.x_proj(x.flatten(0, 1)).flatten(2).transpose(1, 2)
        tokens = tokens.unflatten(0, x.shape[:2])  # [B, F, S, D]
        rotary = self.config.rotary
        within = spatial_turn(rows, columns, width=width, device=x.device, rotary=rotary)
        past = self._past(tokens, width=width, cache=cache)
        for layer, block in enumerate(self.blocks):
            tokens = block(tokens, condition, within=within, past=past, layer=layer)
        return self._unpatched(self.final_layer(tokens, condition), rows, columns)

    def _past(self, tokens: Tensor, *, width: int, cache: FrameCache | None) -> Past:
        start, count = 0 if cache is None else cache.frames, tokens.shape[1]
        positions = torch.arange(start, start + count, device=tokens.device)
        return Past(
            turn=temporal_turn(positions, width=width),
            mask=window_mask(count, window=self.config.max_frames, like=tokens),
            cache=cache,
        )

    def _condition(self, timesteps: Tensor, actions: Tensor, dtype: torch.dtype) -> Tensor:
        waves = get_timestep_embedding(
            timesteps.flatten(), TIMESTEP_WIDTH, flip_sin_to_cos=True, downscale_freq_shift=0
        )  # [B·F, 256]
        level: Tensor = self.timestep_mlp(waves.to(dtype)).unflatten(0, timesteps.shape)
        moved: Tensor = self.action_embedder(actions.to(dtype))
        return level + moved

    def _unpatched(self, pixels: Tensor, rows: int, columns: int) -> Tensor:
        p = self.config.patch
        grid = pixels.view(*pixels.shape[:2], rows, columns, p, p, -1)  # channels last inside a patch
        return grid.permute(0, 1, 6, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)

    def _check(self, x: Tensor, timesteps: Tensor, actions: Tensor) -> None:
        channels, p = self.config.in_channels, self.config.patch
        if x.ndim != 5 or x.shape[2] != channels or x.shape[3] % p or x.shape[4] % p:
            expected = f"[B, F, {channels}, h, w] with sides that {p} divides"
            raise BadTensor(name="latents", expected=expected, found=str(list(x.shape)))
        if timesteps.shape != x.shape[:2] or timesteps.is_floating_point():
            found = f"{timesteps.dtype} {list(timesteps.shape)}"
            raise BadTensor(name="timesteps", expected=f"integers {list(x.shape[:2])}", found=found)
        if actions.shape != (*x.shape[:2], WORLD_ACTION_DIM):
            expected = f"[{x.shape[0]}, {x.shape[1]}, {WORLD_ACTION_DIM}]"
            raise BadTensor(name="actions", expected=expected, found=str(list(actions.shape)))

    def _start(self) -> None:
        """Begin as the identity: every gate and the final layer are zero, other matrices are Xavier's."""
        for name, weight in self.named_parameters():
            if name.endswith("bias") or "adaLN_modulation" in name or name == "final_layer.linear.weight":
                nn.init.zeros_(weight)
            elif name.startswith("timestep_mlp"):
                nn.init.normal_(weight, std=TIMESTEP_SPREAD)
            else:
                nn.init.xavier_uniform_(weight.flatten(1))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights of its own, shifted and scaled by the condition; `x` is [B, F, S, D]."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)
