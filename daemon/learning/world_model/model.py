"""A world model whole: transformer, autoencoder and how it samples, in one object and one file.

Pictures go in and come out as uint8; in between they are latents. Imagination is in `sampling.py`,
training in `training.py`.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from daemon.learning.batch import require_images
from daemon.learning.devices import autocast, choose_precision
from daemon.learning.errors import BadTensor
from daemon.learning.state import CheckpointUnreadable, State, half, load_state, save_state
from daemon.learning.world_model.autoencoder import DOWN, NanoAutoencoder
from daemon.learning.world_model.schedule import NoiseSchedule, noise_schedule
from daemon.learning.world_model.transformer import WorldModelTransformer

KIND = "world_model"
Autoencoder: TypeAlias = NanoAutoencoder | AutoencoderKL
AUTOENCODERS = {"NanoAutoencoder": NanoAutoencoder, "AutoencoderKL": AutoencoderKL}
ENCODE_PIXELS = 2**20  # of the pictures that are encoded or decoded at once: bounds memory, costs no speed
NANO_TRANSFORMER: Mapping[str, int] = {
    "in_channels": 8,
    "patch": 2,
    "dim": 160,
    "layers": 4,
    "heads": 5,
    "max_frames": 16,
}
WORLDGYM_TRANSFORMER: Mapping[str, int] = {  # of 600 M parameters, on Stable Diffusion 3's latents
    "in_channels": 16,
    "patch": 2,
    "dim": 1024,
    "layers": 16,
    "heads": 16,
    "max_frames": 20,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How frames are imagined.

    Attributes:
        denoise_steps: per frame.
        context_level: the noise level that finished frames are shown at.
        horizon: frames that are denoised together; 1 is one after the other.
        guidance: 1 listens to the actions as trained; more exaggerates them, for models that were trained
            with action dropout.
    """

    denoise_steps: int = 2
    context_level: int = 14
    horizon: int = 1
    guidance: float = 1.0


class WorldModel:
    """Predicts what the camera sees after an action.

    Args:
        autoencoder: ours, or any `AutoencoderKL`, such as Stable Diffusion 3's. Latents are its posterior's
            mode times `scaling_factor`; a shift is not applied, as in the training of WorldGym's checkpoints.
        image_size: pixels on a side of the square pictures; the autoencoder's own unless told.
        stored: type that `save` gives the weights.
        card: how it was made; travels in the checkpoint.

    Attributes:
        precision: of matrix products; chosen for this machine, not saved.

    Raises:
        BadTensor: transformer and autoencoder have different latents.
    """

    def __init__(
        self,
        transformer: WorldModelTransformer,
        autoencoder: Autoencoder,
        *,
        sampling: Sampling | None = None,
        image_size: int | None = None,
        stored: torch.dtype = torch.float16,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        channels = autoencoder.config.latent_channels
        if transformer.config.in_channels != channels:
            expected = f"{transformer.config.in_channels} channels, as the transformer has"
            raise BadTensor(name="the autoencoder's latents", expected=expected, found=str(channels))
        self.transformer = transformer
        self.autoencoder = autoencoder
        self.sampling = sampling or Sampling()
        self.image_size = image_size or own_image_size(autoencoder)
        self.stored = stored
        self.card = dict(card or {})
        self.precision = choose_precision(transformer.device.type)

    @property
    def device(self) -> torch.device:
        return self.transformer.device  # type: ignore[no-any-return]

    @property
    def schedule(self) -> NoiseSchedule:
        """A new schedule of the diffusion that the transformer was trained for."""
        return noise_schedule(self.transformer.config.diffusion)

    @property
    def stride(self) -> int:
        """Actions between two frames."""
        return int(self.transformer.config.stride)

    @property
    def latent_side(self) -> int:
        """Places on a side of a latent frame."""
        return self.image_size // pixels_per_place(self.autoencoder)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents float32 [B, c, h, w] of pictures uint8 [B, 3, H, W].

        Raises:
            BadTensor: another dtype, shape or size.
        """
        require_images(images, where="world model", size=self.image_size)
        return torch.cat([self._encode(part) for part in images.split(self._at_once)])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures uint8 [B, 3, H, W] of latents [B, c, h, w]."""
        return torch.cat([self._decode(part) for part in latents.split(self._at_once)])

    def autoencoder_digest(self) -> str:
        """sha256 over the autoencoder's config and weights: what latents are good for as long as it stays."""
        digest = hashlib.sha256(json.dumps(_shape(self.autoencoder.config), sort_keys=True).encode())
        for name, tensor in sorted(self.autoencoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def copy(self) -> "WorldModel":
        """An independent world model with the same weights: what finetuning changes."""
        transformer = copy.deepcopy(self.transformer)
        autoencoder = copy.deepcopy(self.autoencoder)
        return WorldModel(
            transformer,
            autoencoder,
            sampling=self.sampling,
            image_size=self.image_size,
            stored=self.stored,
            card=self.card,
        )

    def save(self, path: Path, card: Mapping[str, Any]) -> None:
        """Write one file, whole or not at all.

        Raises:
            StateNotFinite: the weights are not worth saving.
        """
        parts: dict[str, WorldModelTransformer | Autoencoder] = {
            "transformer": self.transformer,
            "autoencoder": self.autoencoder,
        }
        tensors = {f"{part}.{name}": t for part, m in parts.items() for name, t in m.state_dict().items()}
        config: dict[str, Any] = {part: _shape(module.config) for part, module in parts.items()}
        config["autoencoder_class"] = type(self.autoencoder).__name__
        config["sampling"] = asdict(self.sampling)
        config["image_size"] = self.image_size
        stored = half(tensors) if self.stored == torch.float16 else tensors
        save_state(path, stored, kind=KIND, config=config, card=card)

    @classmethod
    def load(cls, path: Path, *, device: torch.device | None = None) -> "WorldModel":
        """Read a file that `save` wrote, into float32.

        Raises:
            CheckpointUnreadable: missing, cut short, of another kind, or not what its config says.
        """
        state = load_state(path, kind=KIND)
        try:
            transformer = WorldModelTransformer(**state.config["transformer"])
            kind = AUTOENCODERS[state.config.get("autoencoder_class", NanoAutoencoder.__name__)]
            autoencoder = kind(**state.config["autoencoder"])
            transformer.load_state_dict(_part(state, "transformer"))
            autoencoder.load_state_dict(_part(state, "autoencoder"))
            model = cls(
                transformer.to(device or torch.device("cpu")).eval(),
                autoencoder.to(device or torch.device("cpu")).eval(),
                sampling=Sampling(**state.config["sampling"]),
                image_size=state.config.get("image_size"),
                stored=state.tensors["transformer.x_proj.weight"].dtype,
                card=state.card,
            )
        except (KeyError, TypeError, ValueError, RuntimeError, BadTensor) as error:
            expected = "config and tensors of a world model"
            raise CheckpointUnreadable(path=path, expected=expected, found=str(error)) from error
        return model

    @property
    def _at_once(self) -> int:
        return max(1, ENCODE_PIXELS // self.image_size**2)

    def _encode(self, images: Tensor) -> Tensor:
        pixels = images.to(self.device).float() / 127.5 - 1  # [B, 3, H, W] in [-1, 1]
        with autocast(self.device, self.precision):
            mode = self.autoencoder.encode(pixels).latent_dist.mode()
        return mode.float() * self.autoencoder.config.scaling_factor  # type: ignore[no-any-return]

    def _decode(self, latents: Tensor) -> Tensor:
        scaled = latents.to(self.device).float() / self.autoencoder.config.scaling_factor
        with autocast(self.device, self.precision):
            pixels = self.autoencoder.decode(scaled).sample
        return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)  # type: ignore[no-any-return]


def with_told_path(world_model: WorldModel, *, seed: int = 0) -> WorldModel:
    """A copy that is also told the path (`path.py`); it imagines the same frames until it is trained.

    Args:
        seed: of the first weights that read the path.

    Raises:
        ValueError: its frames stand beside the action that acts at them, where no path is told.
    """
    told, before = world_model.copy(), world_model.transformer
    told.precision = world_model.precision
    if not before.config.told_path:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            transformer = WorldModelTransformer(**{**_shape(before.config), "told_path": True})
        transformer.load_state_dict({**transformer.state_dict(), **before.state_dict()})
        told.transformer = transformer.to(before.device).eval()
    return told


def with_stride(world_model: WorldModel, stride: int, *, max_frames: int) -> WorldModel:
    """A copy that imagines every `stride` steps; it is to be trained, beginning from the mean of the actions.

    Args:
        max_frames: how many of its frames a frame attends to, itself included.

    Raises:
        ValueError: a stride below 1, one that has a stride already, or frames beside the action that acts.
    """
    before = world_model.transformer
    if world_model.stride != 1:
        raise ValueError(f"the world model has a stride of {world_model.stride}, expected 1")
    strided = world_model.copy()
    strided.precision = world_model.precision
    own = {**_shape(before.config), "stride": stride, "max_frames": max_frames}
    with torch.random.fork_rng(devices=[]):
        transformer = WorldModelTransformer(**own)
    weights = before.state_dict()
    embedding = "action_embedder.weight"
    transformer.load_state_dict({**weights, embedding: weights[embedding].repeat(1, stride) / stride})
    strided.transformer = transformer.to(before.device).eval()
    return strided


def own_image_size(autoencoder: Autoencoder) -> int:
    """Pixels on a side of the pictures that an autoencoder was made for."""
    config = autoencoder.config
    return int(config.image_size if isinstance(autoencoder, NanoAutoencoder) else config.sample_size)


def pixels_per_place(autoencoder: Autoencoder) -> int:
    """Pixels on a side of one latent place."""
    if isinstance(autoencoder, NanoAutoencoder):
        return DOWN
    return int(2 ** (len(autoencoder.config.block_out_channels) - 1))


def nano_world_model(*, seed: int, **shape: int) -> WorldModel:
    """A fresh world model of nano size; `shape` overrides entries of `NANO_TRANSFORMER`, for tests."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = WorldModelTransformer(**{**NANO_TRANSFORMER, **shape})
        autoencoder = NanoAutoencoder(latent_channels=transformer.config.in_channels)
    return WorldModel(transformer.eval(), autoencoder.eval())


def _shape(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a diffusers config was built with, without its private entries."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _part(state: State, part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {n.removeprefix(prefix): t for n, t in state.tensors.items() if n.startswith(prefix)}
