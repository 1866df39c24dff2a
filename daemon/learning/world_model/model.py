"""A world model whole: transformer, autoencoder and how it samples, in one object and one file.

Pictures go in and come out as uint8; in between they are latents. Imagination is in `sampling.py`,
training in `training.py`.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daemon.learning.batch import require_images
from daemon.learning.devices import autocast, choose_precision
from daemon.learning.state import CheckpointUnreadable, State, half, load_state, save_state
from daemon.learning.world_model.autoencoder import NanoAutoencoder
from daemon.learning.world_model.transformer import WorldModelTransformer

KIND = "world_model"
ENCODE_BATCH = 256  # pictures at once: bounds memory, costs no speed
NANO_TRANSFORMER: Mapping[str, int] = {
    "in_channels": 8,
    "patch": 2,
    "dim": 160,
    "layers": 4,
    "heads": 5,
    "max_frames": 16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How frames are imagined: denoise steps per frame, and the noise level that context is shown at."""

    denoise_steps: int = 2
    context_level: int = 14


class WorldModel:
    """Predicts what the camera sees after an action.

    Attributes:
        card: how it was made; travels in the checkpoint.
        precision: of matrix products; chosen for this machine, not saved.
    """

    def __init__(
        self,
        transformer: WorldModelTransformer,
        autoencoder: NanoAutoencoder,
        *,
        sampling: Sampling | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        self.transformer = transformer
        self.autoencoder = autoencoder
        self.sampling = sampling or Sampling()
        self.card = dict(card or {})
        self.precision = choose_precision(transformer.device.type)

    @property
    def device(self) -> torch.device:
        return self.transformer.device  # type: ignore[no-any-return]

    @property
    def image_size(self) -> int:
        """Pixels on a side of the square pictures."""
        return int(self.autoencoder.config.image_size)

    @property
    def latent_side(self) -> int:
        """Places on a side of a latent frame."""
        return int(self.autoencoder.place.shape[-1])

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents float32 [B, c, h, w] of pictures uint8 [B, 3, H, W].

        Raises:
            BadTensor: another dtype, shape or size.
        """
        require_images(images, where="world model", size=self.image_size)
        parts = [self._encode(part) for part in images.split(ENCODE_BATCH)]
        return torch.cat(parts)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures uint8 [B, 3, H, W] of latents [B, c, h, w]."""
        return torch.cat([self._decode(part) for part in latents.split(ENCODE_BATCH)])

    def copy(self) -> "WorldModel":
        """An independent world model with the same weights: what finetuning changes."""
        transformer = copy.deepcopy(self.transformer)
        autoencoder = copy.deepcopy(self.autoencoder)
        return WorldModel(transformer, autoencoder, sampling=self.sampling, card=self.card)

    def save(self, path: Path, card: Mapping[str, Any]) -> None:
        """Write one file in float16, whole or not at all.

        Raises:
            StateNotFinite: the weights are not worth saving.
        """
        parts: dict[str, WorldModelTransformer | NanoAutoencoder] = {
            "transformer": self.transformer,
            "autoencoder": self.autoencoder,
        }
        tensors = {f"{part}.{name}": t for part, m in parts.items() for name, t in m.state_dict().items()}
        config: dict[str, Any] = {part: _shape(module.config) for part, module in parts.items()}
        config["sampling"] = asdict(self.sampling)
        save_state(path, half(tensors), kind=KIND, config=config, card=card)

    @classmethod
    def load(cls, path: Path, *, device: torch.device | None = None) -> "WorldModel":
        """Read a file that `save` wrote, into float32.

        Raises:
            CheckpointUnreadable: missing, cut short, of another kind, or not what its config says.
        """
        state = load_state(path, kind=KIND)
        try:
            transformer = WorldModelTransformer(**state.config["transformer"])
            autoencoder = NanoAutoencoder(**state.config["autoencoder"])
            transformer.load_state_dict(_part(state, "transformer"))
            autoencoder.load_state_dict(_part(state, "autoencoder"))
            sampling = Sampling(**state.config["sampling"])
        except (KeyError, TypeError, RuntimeError) as error:
            expected = "config and tensors of a world model"
            raise CheckpointUnreadable(path=path, expected=expected, found=str(error)) from error
        for module in (transformer, autoencoder):
            module.to(device or torch.device("cpu")).eval()
        return cls(transformer, autoencoder, sampling=sampling, card=state.card)

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
