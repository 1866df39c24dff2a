"""Film strips: every few frames of an episode in one row, as a JPEG; a real one beside an imagined one.

And what the judge says along both films.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from daemon.learning.batch import Clip
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.reward.classifier import ClassifierJudge
from daemon.learning.world_model.model import WorldModel
from storage.blobs import BlobStore

EVERY = 5  # frames between two pictures of a strip: one per second at 5 Hz
ENLARGED = 2  # so that 64 pixels can be looked at


def film_strips(blobs: BlobStore, clip: Clip, imagined: Tensor) -> dict[str, str]:
    """The real strip and the one imagined from the same start and actions, as blobs.

    Args:
        imagined: uint8 [T + 1, 3, H, W], see `imagined`.

    Returns:
        {"episode_id", "real", "imagined"}, the last two sha256 names in the blob store.
    """
    return {
        "episode_id": clip.episode_id,
        "real": blobs.put(strip_jpeg(clip.frames[::EVERY])),
        "imagined": blobs.put(strip_jpeg(imagined[::EVERY])),
    }


def judged_along(judge: ClassifierJudge, clip: Clip, imagined: Tensor) -> dict[str, list[float | None]]:
    """What the judge would say if the real, and the imagined, episode ended at each frame: T + 1 numbers."""
    films = torch.stack([clip.frames.cpu(), imagined.cpu()])  # [2, T + 1, 3, H, W]
    real, other = judge.along(films, [clip.instruction] * 2)
    return {"real": rounded(real), "imagined": rounded(other)}


def rounded(probabilities: Tensor) -> list[float | None]:
    """Probabilities [n] with as many digits as anybody reads; None where one is no number."""
    return [round(value, 4) if math.isfinite(value) else None for value in probabilities.tolist()]


def imagined(world_model: WorldModel, clip: Clip, *, seed: int, every: int = 1) -> Tensor:
    """Every so many frames imagined from a clip's start and actions, uint8 [F, 3, H, W]."""
    env = ImaginedEnv(world_model, seed=seed)
    env.reset(clip.frames[:1])
    env.replay(clip.told[None])
    return env.film(every=every)[0, : clip.steps // every + 1]


def strip_jpeg(*rows: Tensor) -> bytes:
    """Rows of frames uint8 [F, 3, H, W] side by side, one row below the other, enlarged without smoothing."""
    lines = [torch.cat(list(frames.cpu()), dim=2) for frames in rows]  # each [3, H, F*W]
    picture = torch.cat(lines, dim=1).permute(1, 2, 0).numpy()  # [rows*H, F*W, 3]
    large = np.repeat(np.repeat(picture, ENLARGED, axis=0), ENLARGED, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(large)).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()
