"""A published WorldGym checkpoint as a transformer of ours: every tensor placed once, its shape checked.

The file is a pickled dict `{model, ema, optimizer, step}`; it is read without running any of it. What becomes
of it is a diffusers folder: `config.json`, safetensors, and `origin.json`, which says what was read and how
the weights expect actions.

Source: Quevedo et al. 2025 (arXiv:2506.00613) for the architecture; names and shapes as published.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from daemon.learning.errors import BadTensor, LearningError
from daemon.learning.world_model.attention import Rotary
from daemon.learning.world_model.model import Sampling, WorldModel
from daemon.learning.world_model.transformer import (
    WORLD_ACTION_DIM,
    ActionSlot,
    WorldModelTransformer,
)

HEAD_WIDTH: Final = 64
MAX_FRAMES: Final = 20
DENOISE_STEPS: Final = 10
IMAGE_SIZE: Final = 256  # pixels; Stable Diffusion's autoencoder itself was made for more
WRAPPER: Final = "module."  # what data-parallel training puts before every name
ORIGIN_FILE: Final = "origin.json"
ACTION_SLOT: Final[ActionSlot] = "acts_at_frame"  # row i stands beside frame i and acts there
REFUSED = torch.serialization.pickle.UnpicklingError  # type: ignore[attr-defined]  # of more than tensors
NOT_A_FILE = (OSError, RuntimeError, EOFError, ValueError, KeyError, REFUSED)


class WorldgymUnreadable(LearningError):
    """A file that is not a WorldGym checkpoint, or not a whole one."""

    code = "worldgym_unreadable"

    def __init__(self, *, path: Path, expected: str, found: str) -> None:
        super().__init__(
            f"{path} is no WorldGym checkpoint: expected {expected}, found {found}. Nothing was written; "
            "download it again, or check which model it is of."
        )


class AutoencoderUnreadable(LearningError):
    """A folder without an autoencoder that fits the transformer."""

    code = "autoencoder_unreadable"

    def __init__(self, *, path: Path, channels: int, found: str) -> None:
        super().__init__(
            f"{path} holds no autoencoder for this transformer: expected an AutoencoderKL of {channels} "
            f"channels with safetensors, found {found}. Download Stable Diffusion 3's, folder vae."
        )


def import_worldgym(path: Path, folder: Path, *, rotary: Rotary = "standard") -> WorldModelTransformer:
    """Read a checkpoint into float32 and keep it in `folder` as diffusers do.

    Args:
        rotary: the file does not say it; the release trained on Bridge alone has "pixel".

    Raises:
        WorldgymUnreadable: not such a file, a name missing, unknown or of another shape, or not finite.
    """
    content = _unpickled(path)
    part = "ema" if "ema" in content else "model"
    weights = _weights(content.get(part), path=path)
    transformer = _built(weights, rotary=rotary, path=path)
    origin = {
        "format": "worldgym/1",
        "sha256": _sha256(path),
        "weights": part,
        "step": int(content["step"]) if isinstance(content.get("step"), int) else None,
        "action_slot": ACTION_SLOT,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".partial-", dir=folder) as partial:  # one that was cut short is no import
        transformer.save_pretrained(partial)
        (Path(partial) / ORIGIN_FILE).write_text(json.dumps(origin, indent=2, sort_keys=True) + "\n")
        for file in sorted(Path(partial).iterdir(), key=lambda file: file.name == ORIGIN_FILE):
            file.replace(folder / file.name)
    return transformer


def with_autoencoder(
    transformer: WorldModelTransformer, folder: Path, *, guidance: float = 1.0, horizon: int = 1
) -> WorldModel:
    """The transformer with the autoencoder that its latents are of, imagining as WorldGym does.

    Args:
        folder: an `AutoencoderKL` as diffusers keep it, or a pipeline's folder that has one in `vae`; only
            its safetensors are read.
        guidance: 3 for the release trained on the Open-X mixture, 1 for the one trained on Bridge alone.
        horizon: frames that are denoised together, in a pyramid; 1 is one after the other.

    Raises:
        AutoencoderUnreadable: no such folder, or an autoencoder of other latents.
    """
    place = folder / "vae" if (folder / "vae").is_dir() else folder
    try:
        autoencoder = AutoencoderKL.from_pretrained(place, use_safetensors=True, local_files_only=True)
        return WorldModel(
            transformer,
            autoencoder.eval(),
            sampling=Sampling(denoise_steps=DENOISE_STEPS, guidance=guidance, horizon=horizon),
            image_size=IMAGE_SIZE,
            stored=torch.float32,
        )
    except (OSError, ValueError, BadTensor) as error:
        channels, reason = transformer.config.in_channels, str(error).splitlines()[0]
        raise AutoencoderUnreadable(path=place, channels=channels, found=reason) from error


def _unpickled(path: Path) -> Mapping[str, Any]:
    """The dict in the file; only tensors and plain values are built."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except NOT_A_FILE as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise WorldgymUnreadable(path=path, expected="a file of torch.save", found=reason[:300]) from error
    if not isinstance(content, Mapping) or not {"ema", "model"} & set(content):
        found = f"keys {sorted(map(str, content))[:8]}" if isinstance(content, Mapping) else type(content)
        raise WorldgymUnreadable(path=path, expected="a dict with ema or model", found=str(found))
    return content


def _weights(found: object, *, path: Path) -> dict[str, Tensor]:
    if not isinstance(found, Mapping) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise WorldgymUnreadable(path=path, expected="a dict of tensors", found=type(found).__name__)
    wrapped = bool(found) and all(str(name).startswith(WRAPPER) for name in found)
    return {str(name).removeprefix(WRAPPER if wrapped else ""): tensor for name, tensor in found.items()}


def _built(weights: Mapping[str, Tensor], *, rotary: Rotary, path: Path) -> WorldModelTransformer:
    """A transformer of the size that the tensors have, holding them."""
    config: dict[str, Any] = {
        **_shape_of(weights, path=path),
        "max_frames": MAX_FRAMES,
        "rotary": rotary,
        "action_slot": ACTION_SLOT,
    }
    with torch.device("meta"):
        empty = WorldModelTransformer(**config)
    expected = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    missing, unknown = sorted(expected.keys() - weights), sorted(weights.keys() - expected)
    if missing or unknown:
        found = f"{len(missing)} missing {missing[:3]}, {len(unknown)} unknown {unknown[:3]}"
        raise WorldgymUnreadable(path=path, expected=f"{len(expected)} known names", found=found)
    for name, tensor in weights.items():
        if tuple(tensor.shape) != expected[name]:
            found = f"{name} {list(tensor.shape)}"
            raise WorldgymUnreadable(path=path, expected=f"{name} {list(expected[name])}", found=found)
        if not bool(torch.isfinite(tensor).all()):
            raise WorldgymUnreadable(path=path, expected="finite weights", found=f"NaN or infinity in {name}")
    transformer: WorldModelTransformer = WorldModelTransformer(**config)
    transformer.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    transformer.eval()
    return transformer


def _shape_of(weights: Mapping[str, Tensor], *, path: Path) -> dict[str, int]:
    """What the two tensors that say it say: channels, patch, width; and how many blocks there are."""
    kernel, actions = weights.get("x_proj.weight"), weights.get("action_embedder.weight")
    layers = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    fits = (
        kernel is not None and kernel.ndim == 4 and kernel.shape[0] % HEAD_WIDTH == 0 and kernel.numel() > 0
    )
    if kernel is None or actions is None or not fits or not layers:
        expected = f"x_proj.weight [dim, channels, p, p] with dim a multiple of {HEAD_WIDTH}, and blocks"
        found = "none" if kernel is None else f"{list(kernel.shape)} and {layers} blocks"
        raise WorldgymUnreadable(path=path, expected=expected, found=found)
    dim, channels, patch, _ = kernel.shape
    if tuple(actions.shape) != (dim, WORLD_ACTION_DIM):
        expected = f"action_embedder.weight [{dim}, {WORLD_ACTION_DIM}]"
        raise WorldgymUnreadable(path=path, expected=expected, found=str(list(actions.shape)))
    return {
        "in_channels": channels,
        "patch": patch,
        "dim": dim,
        "layers": layers,
        "heads": dim // HEAD_WIDTH,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
