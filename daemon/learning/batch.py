"""What learning learns from: clips of episodes and batches of windows cut from them.

Tensor letters, one meaning each, in every shape comment of `daemon.learning`:

    B batch · N groups · G rollouts per group · K chunks per rollout · L actions per chunk
    T steps · C context frames · F frames of a window · H W pixels · A action dims · S tokens per frame
    D width

Time: action `a_t` is executed at observation `o_t` and produces `o_{t+1}`; a clip has T actions and
T + 1 frames. This module cuts and checks; it neither decodes episodes nor trains.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daemon.learning.confines import Confines
from daemon.learning.errors import BadTensor, LearningError
from daemon.learning.shrinking import area_means, block_means, has_whole_blocks, means_of

IMAGE_SIZE = 64  # pixels on a side inside the nano learner
ACTION_DIM = 7  # bridge_v2: three metres, three radians, one gripper opening


class ClipInvalid(LearningError):
    """A clip breaks its own contract."""

    code = "clip_invalid"

    def __init__(self, *, episode_id: str, field: str, expected: str, found: str) -> None:
        self.episode_id = episode_id
        super().__init__(
            f"clip of episode {episode_id}: {field} should be {expected} and is {found}. "
            "Repair the import that made it, or leave this episode out."
        )


class NoWindow(LearningError):
    """No clip is long enough for the window asked for."""

    code = "no_window"

    def __init__(self, *, frames: int, longest: int, clips: int) -> None:
        super().__init__(
            f"none of {clips} clips holds a window of {frames} frames; the longest has {longest}. "
            "Ask for a shorter window or give longer episodes."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One episode as learning sees it.

    Attributes:
        frames: uint8 [T + 1, 3, H, W], frame t is observation o_t.
        actions: float32 [T, 7] in bridge_v2 metres, radians and gripper opening 0..1, as they were executed.
        instruction: the sentence the robot was given; empty when unknown.
        episode_id: where the clip comes from, for error messages and lineage.
        success: verdict at the end of the episode, None when nobody judged it.
        success_by_frame: bool [T + 1], would it count as success if it ended here; None when unknown.
        subject: bool [T + 1, H, W], pixels that show what the task is about; None when unknown.
        confines: of its beginning, one; None when the limits that were in force are unknown.
        asked: float32 [T, 7], what was asked for as far as `confines` let it through, as in imagination; None
            where that is what was executed.
    """

    frames: Tensor
    actions: Tensor
    instruction: str
    episode_id: str
    success: bool | None = None
    success_by_frame: Tensor | None = None
    subject: Tensor | None = None
    confines: Confines | None = None
    asked: Tensor | None = None

    @property
    def told(self) -> Tensor:
        """What a world model is told of this episode, float32 [T, 7]; why, see `daemon.learning.confines`."""
        return self.actions if self.asked is None else self.asked

    @property
    def steps(self) -> int:
        """T, the number of actions."""
        return int(self.actions.shape[0])

    def validate(self) -> None:
        """Check shapes, dtypes and values.

        Raises:
            ClipInvalid: the first rule that this clip breaks.
        """
        for field, expected, found, fine in self._rules():
            if not fine:
                raise ClipInvalid(episode_id=self.episode_id, field=field, expected=expected, found=found)

    def _rules(self) -> Iterable[tuple[str, str, str, bool]]:
        frames, actions = self.frames, self.actions
        yield (
            "actions",
            "float32 [T, 7], T >= 1",
            _described(actions),
            (
                actions.dtype == torch.float32
                and actions.ndim == 2
                and actions.shape[0] >= 1
                and actions.shape[1] == ACTION_DIM
            ),
        )
        yield (
            "frames",
            f"uint8 [{self.steps + 1}, 3, H, W]",
            _described(frames),
            (
                frames.dtype == torch.uint8
                and frames.ndim == 4
                and frames.shape[:2] == (self.steps + 1, 3)
                and min(frames.shape[2:]) >= 1
            ),
        )
        alike = (self.told.dtype, self.told.shape) == (actions.dtype, actions.shape)
        yield "asked", f"as actions, {_described(actions)}, or None", _described(self.asked), alike
        broken = (~(actions.isfinite() & self.told.isfinite())).nonzero()
        yield (
            "actions",
            "finite",
            f"not finite at step {broken[0, 0] if len(broken) else ''}",
            len(broken) == 0,
        )
        marks = self.success_by_frame
        yield (
            "success_by_frame",
            f"bool [{self.steps + 1}] or None",
            _described(marks),
            (marks is None or (marks.dtype == torch.bool and marks.shape == (self.steps + 1,))),
        )
        subject, shape = self.subject, (self.steps + 1, *frames.shape[2:])
        yield (
            "subject",
            f"bool {list(shape)} or None",
            _described(subject),
            (subject is None or (subject.dtype == torch.bool and subject.shape == shape)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowBatch:
    """Windows of equal length cut from clips.

    Attributes:
        frames: uint8 [B, F, 3, H, W].
        actions: float32 [B, F - 1, 7]; action f was executed at frame f of its window.
        episode_ids: the clip of each window, B strings.
    """

    frames: Tensor
    actions: Tensor
    episode_ids: tuple[str, ...]


def window_starts(
    lengths: Sequence[int],
    *,
    batch: int,
    frames: int,
    generator: torch.Generator,
    weights: Tensor | None = None,
) -> Tensor:
    """Draw (sequence, first frame) pairs, every window of every long enough sequence equally likely.

    Args:
        lengths: frames in each sequence (T + 1).
        weights: how much likelier the windows of each sequence are than others'; None: all alike.

    Returns:
        int64 [B, 2].

    Raises:
        NoWindow: no sequence holds `frames` frames.
    """
    places = torch.tensor([max(0, length - frames + 1) for length in lengths])  # [number of sequences]
    if len(places) == 0 or int(places.sum()) == 0:
        raise NoWindow(frames=frames, longest=max(lengths, default=0), clips=len(lengths))
    if weights is not None:
        which = torch.multinomial(weights * places, batch, replacement=True, generator=generator)
        offsets = torch.rand(batch, dtype=torch.float64, generator=generator) * places[which]
        return torch.stack((which, offsets.long()), dim=1)
    ends = places.cumsum(0)
    drawn = torch.randint(int(ends[-1]), (batch,), generator=generator)
    which = torch.searchsorted(ends, drawn, right=True)
    return torch.stack((which, drawn - (ends - places)[which]), dim=1)


def windows(
    clips: Sequence[Clip],
    *,
    batch: int,
    frames: int,
    generator: torch.Generator,
    out: Tensor | None = None,
) -> WindowBatch:
    """Cut `batch` windows of `frames` frames at random places.

    Clips shorter than a window are never drawn; `window_starts` refuses when all are.

    Args:
        out: uint8 [B, F, 3, H, W] for the pictures: a large batch costs more to allocate than to copy.

    Raises:
        NoWindow: no clip is long enough.
    """
    lengths = [clip.steps + 1 for clip in clips]
    starts = window_starts(lengths, batch=batch, frames=frames, generator=generator).tolist()
    return WindowBatch(
        frames=torch.stack([clips[i].frames[at : at + frames] for i, at in starts], out=out),
        actions=torch.stack([clips[i].actions[at : at + frames - 1] for i, at in starts]),
        episode_ids=tuple(clips[i].episode_id for i, _ in starts),
    )


def resize_frames(images: NDArray[np.uint8], size: int = IMAGE_SIZE) -> Tensor:
    """Shrink camera pictures by averaging areas, so that small objects fade rather than vanish.

    Args:
        images: uint8 [N, H, W, 3].

    Returns:
        uint8 [N, 3, size, size], rounded to nearest.

    Raises:
        BadTensor: another dtype or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:3]:
        found = f"{images.dtype} {list(images.shape)}"
        raise BadTensor(name="resize_frames: images", expected="uint8 [N, H, W, 3]", found=found)
    means = block_means if has_whole_blocks(images, size) else area_means
    return means(images, size)


def fitted(images: Tensor, size: int) -> Tensor:
    """Pictures of an environment at a policy's size, to the bytes that `resize_frames` makes of the same.

    Larger ones are shrunk by averaging areas; of smaller ones a pixel fills as many as it covers, which
    brings back no detail; those of the size are returned as they are.

    Args:
        images: uint8 [B, 3, H, W], on any device.

    Returns:
        uint8 [B, 3, size, size], on the same.

    Raises:
        BadTensor: another dtype or shape.
    """
    require_images(images, where="fitted")
    return images if images.shape[2:] == (size, size) else means_of(images, size)


def require_images(images: Tensor, *, where: str, size: int | None = None) -> None:
    """Refuse anything but uint8 [B, 3, H, W] (square of `size` pixels when given).

    Raises:
        BadTensor: another dtype or shape.
    """
    side = "H, W" if size is None else f"{size}, {size}"
    fits = images.ndim == 4 and images.shape[1] == 3 and (size is None or images.shape[2:] == (size, size))
    if images.dtype != torch.uint8 or not fits or 0 in images.shape:
        raise BadTensor(name=f"{where}: images", expected=f"uint8 [B, 3, {side}]", found=_described(images))


def _described(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
