"""The world model's transformer: noisy latents and actions in, predicted velocity of the noise out.

Each block attends inside every frame, then along time for every place of the frame, never to later
frames. Every frame has its own noise level and is conditioned on one action, which of them says the config
(`action_slot`). Architecture and parameter names are those of WorldGym's checkpoints; `in_channels=16,
dim=1024, layers=16, heads=16, max_frames=20` is its size.

Source: Quevedo et al. 2025 (arXiv:2506.00613) section 3; Peebles and Xie 2022 (arXiv:2212.09748) for
adaptive layer norm; Chen et al. 2024 (arXiv:2407.01392) for one noise level per frame.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias, cast, get_args

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from daemon.learning.errors import BadTensor
from daemon.learning.world_model.attention import (
    Order,
    Past,
    Rotary,
    Turn,
    plain_order,
    spatial_turn,
    temporal_turn,
)
from daemon.learning.world_model.blocks import (
    BRANCHES,
    FACTORS,
    Block,
    FinalLayer,
    Modulations,
    Surroundings,
)
from daemon.learning.world_model.cache import CacheShape, FrameCache
from daemon.learning.world_model.path import PATH_DIM, path_features, path_mlp
from daemon.learning.world_model.schedule import Diffusion

WORLD_ACTION_DIM = 10  # xyz, rotation, gripper, three slots Bridge leaves at zero; the same at every size
TIMESTEP_WIDTH = 256  # sinusoids that encode a noise level
TIMESTEP_SPREAD = 0.02  # standard deviation of the first weights that read them
ZERO_AT_FIRST = ("final_layer.linear.weight", "path_mlp.2.weight")

ActionSlot: TypeAlias = Literal["produced_frame", "acts_at_frame"]


class WorldModelTransformer(ModelMixin, ConfigMixin):
    """Predicts, for every frame of a window, the velocity between its latent and its noise.

    Args:
        in_channels: latent channels.
        patch: latent pixels on a side of a token.
        heads: must divide `dim`, leaving a multiple of four per head (rows and columns, in pairs).
        max_frames: how many frames a frame attends to, itself included.
        rotary: how places in a frame are told apart, see `spatial_turn`.
        action_slot: which action stands beside a frame: the one that produced it (ours), or the one executed
            at it (WorldGym's training data). `slots.py` puts them there.
        diffusion: what the transformer predicts, see `schedule.py`.
        told_path: whether each frame is also told the sum of all moves up to it, see `path.py`; only where
            frames stand beside the action that produced them.
        stride: actions between two frames. A policy that decides on chunks looks at every so many frames, and
            those between need not be imagined; only where frames stand beside what produced them.

    Raises:
        ValueError: no such rotary, action slot or diffusion, a stride below 1, or a path or a stride in the
            other slot.
    """

    _supports_gradient_checkpointing = True

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
        action_slot: ActionSlot = "produced_frame",
        diffusion: Diffusion = "v_prediction",
        told_path: bool = False,
        stride: int = 1,
    ) -> None:
        super().__init__()
        _require_known("rotary", rotary, get_args(Rotary))
        _require_known("action_slot", action_slot, get_args(ActionSlot))
        _require_known("diffusion", diffusion, get_args(Diffusion))
        if told_path or stride > 1:
            who = "a model that is told the path" if told_path else "a model of several actions a frame"
            _require_known(f"action_slot of {who}", action_slot, ("produced_frame",))
        if stride < 1:
            raise ValueError(f"stride is {stride}, expected at least 1 action between two frames")
        self.gradient_checkpointing = False
        self._turns: dict[tuple[int, int, torch.device], Turn] = {}
        self.x_proj = nn.Conv2d(in_channels, dim, patch, patch)
        self.timestep_mlp = nn.Sequential(nn.Linear(TIMESTEP_WIDTH, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.action_embedder = nn.Linear(stride * WORLD_ACTION_DIM, dim)
        self.blocks = nn.ModuleList(
            Block(dim, heads, layer=layer, last=layer == layers - 1) for layer in range(layers)
        )
        self.final_layer = FinalLayer(dim, patch * patch * in_channels)
        if told_path:
            self.path_mlp = path_mlp(dim)
        self._start()

    def forward(self, x: Tensor, timesteps: Tensor, actions: Tensor, *, order: Order | None = None) -> Tensor:
        """Predict the schedule's target for a whole window.

        Args:
            x: noisy latents [B, F, C, h, w].
            timesteps: noise level of each frame, integers 0..999, [B, F], or [1, F] for all of the batch.
            actions: [B, F, 10 · stride], in the slots of `action_slot`; where the path is told it stands
                behind them, six numbers more.
            order: when each frame is and which ones it sees; None is one after the other, each seeing itself
                and those before it in the window.

        Returns:
            [B, F, C, h, w].

        Raises:
            BadTensor: shapes that do not belong together.
        """
        self._check(x, actions.shape)
        told = self.modulations(timesteps, actions)
        order = order or plain_order(x.shape[1])
        turn = temporal_turn(order.positions.to(x.device), width=self._width)
        mask = order.mask(window=self.config.max_frames).to(x.device)
        return self._run(x, told, past=Past(turn=turn, mask=mask))

    def modulations(self, timesteps: Tensor, actions: Tensor) -> Modulations:
        """What noise levels [B, F] (or [1, F]) and actions [B, F, told_width] do to the branches.

        `remember` takes it; imagination asks once for all the levels that a frame will pass through.

        Raises:
            BadTensor: shapes that do not belong together, or levels that are not integers.
        """
        shapes = (tuple(actions.shape[:2]), (1, actions.shape[1] if actions.ndim > 1 else 0))
        if actions.ndim != 3 or actions.shape[2] != self.told_width:
            path = "with the path" if self.config.told_path else "without a path"
            expected = f"[B, F, {self.told_width}], {path}"
            raise BadTensor(name="actions", expected=expected, found=str(list(actions.shape)))
        if tuple(timesteps.shape) not in shapes or timesteps.is_floating_point():
            found = f"{timesteps.dtype} {list(timesteps.shape)}"
            raise BadTensor(name="timesteps", expected=f"integers {list(shapes[0])}", found=found)
        condition = F.silu(self._condition(timesteps, actions))  # [B, F, D]
        blocks = cast(Sequence[Block], self.blocks)
        branches = [branch for block in blocks for branch in (block.s_block, block.t_block)]
        told = [
            cast(nn.Sequential, part.adaLN_modulation)[1](condition) for part in (*branches, self.final_layer)
        ]
        rows = torch.cat(told, dim=-1).unflatten(-1, (-1, self.config.dim))  # [B, F, R, D]
        rows[:, :, FACTORS] += 1
        return Modulations(rows=rows.permute(2, 0, 1, 3).unsqueeze(3))

    def remember(self, x: Tensor, told: Modulations, *, cache: FrameCache, silent: int = 0) -> Tensor:
        """Predict for frames [B, n, C, h, w] that follow those in `cache`; the numbers are `forward`'s.

        The first `silent` of them are shown to the others and get no answer: [B, n - silent, C, h, w] comes
        back. What the cache is not told to keep afterwards is replaced by the next call's frames.

        Raises:
            BadTensor: more frames than the cache has room for, or shapes that do not belong together.
        """
        self._check(x, told.rows.shape[1:])
        if x.shape[1] > cache.shape.ahead:
            expected = f"at most {cache.shape.ahead} frames, [B, n, C, h, w]"
            raise BadTensor(name="latents", expected=expected, found=str(list(x.shape)))
        positions, places, seen = cache.begin(x.shape[1])
        turn = temporal_turn(positions, width=self._width)
        past = Past(turn=turn, mask=seen, cache=cache, places=places, silent=silent)
        return self._run(x, told, past=past)

    def empty_cache(self, frame: Tensor, *, ahead: int = 1, dtype: torch.dtype = torch.float32) -> FrameCache:
        """A cache that has seen no frame yet.

        Args:
            frame: latents of the size that will come, [B, C, h, w].
            ahead: new frames in one pass, at most.
            dtype: of keys and values: the precision that passes run in.
        """
        config = self.config
        shape = CacheShape(
            layers=config.layers,
            places=frame.shape[0] * (frame.shape[2] // config.patch) * (frame.shape[3] // config.patch),
            heads=config.heads,
            width=self._width,
            window=config.max_frames,
            ahead=ahead,
        )
        return FrameCache(shape, dtype=dtype, device=self.device)

    @property
    def told_width(self) -> int:
        """Numbers that a frame is told: its actions, and the path where the config says so."""
        return self.moved_width + (PATH_DIM if self.config.told_path else 0)

    @property
    def moved_width(self) -> int:
        """Numbers of the actions between two frames."""
        return int(self.config.stride) * WORLD_ACTION_DIM

    @property
    def _width(self) -> int:
        """Numbers of a head."""
        return int(self.config.dim // self.config.heads)

    def _run(self, x: Tensor, told: Modulations, *, past: Past) -> Tensor:
        p = self.config.patch
        rows, columns = x.shape[3] // p, x.shape[4] // p
        tokens = self.x_proj(x.flatten(0, 1)).flatten(2).transpose(1, 2)
        tokens = tokens.unflatten(0, x.shape[:2])  # [B, F, S, D]
        around = Surroundings(turn=self._turn_of(rows, columns, x.device), past=past)
        modulation = told.rows.unbind()
        for layer, block in enumerate(self.blocks):
            own = modulation[2 * BRANCHES * layer : 2 * BRANCHES * (layer + 1)]
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(block, tokens, own, around)
            else:
                tokens = block(tokens, own, around)
        final = [row[:, past.silent :] for row in modulation[-2:]]
        return self._unpatched(self.final_layer(tokens, final), rows, columns)

    def _turn_of(self, rows: int, columns: int, device: torch.device) -> Turn:
        """Angles of a frame's tokens, made once per size and device."""
        key = rows, columns, device
        if key not in self._turns:
            self._turns[key] = spatial_turn(
                rows, columns, width=self._width, device=device, rotary=self.config.rotary
            )
        return self._turns[key]

    def _condition(self, timesteps: Tensor, actions: Tensor) -> Tensor:
        dtype = self.action_embedder.weight.dtype
        waves = get_timestep_embedding(
            timesteps.flatten(), TIMESTEP_WIDTH, flip_sin_to_cos=True, downscale_freq_shift=0
        )  # [B·F, 256]
        level: Tensor = self.timestep_mlp(waves.to(dtype)).unflatten(0, timesteps.shape)
        moved: Tensor = self.action_embedder(actions[..., : self.moved_width].to(dtype))
        if self.config.told_path:
            moved = moved + self.path_mlp(path_features(actions[..., self.moved_width :]).to(dtype))
        return level + moved

    def _unpatched(self, pixels: Tensor, rows: int, columns: int) -> Tensor:
        p = self.config.patch
        grid = pixels.view(*pixels.shape[:2], rows, columns, p, p, -1)  # channels last inside a patch
        return grid.permute(0, 1, 6, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)

    def _check(self, x: Tensor, told: torch.Size) -> None:
        channels, p = self.config.in_channels, self.config.patch
        if x.ndim != 5 or x.shape[2] != channels or x.shape[3] % p or x.shape[4] % p:
            expected = f"[B, F, {channels}, h, w] with sides that {p} divides"
            raise BadTensor(name="latents", expected=expected, found=str(list(x.shape)))
        if x.shape[:2] != told[:2]:
            expected = f"[{x.shape[0]}, {x.shape[1]}, {self.told_width}], one for each frame"
            raise BadTensor(name="actions", expected=expected, found=str(list(told)))

    def _start(self) -> None:
        """Begin as the identity: every gate and the final layer are zero, other matrices are Xavier's.

        What the path adds begins as nothing.
        """
        for name, weight in self.named_parameters():
            if name.endswith("bias") or "adaLN_modulation" in name or name in ZERO_AT_FIRST:
                nn.init.zeros_(weight)
            elif name.startswith("timestep_mlp"):
                nn.init.normal_(weight, std=TIMESTEP_SPREAD)
            else:
                nn.init.xavier_uniform_(weight.flatten(1))


def _require_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}, expected one of {known}")
