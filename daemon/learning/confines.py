"""What a station would let through of the moves that a policy asks for, worked out before anybody moves.

In imagination nobody stops an arm: a policy that presses its hand against the floor of its box would be told
there that the hand went through, and learn to. So rollouts that begin at an episode are confined as its arm
was: by the largest step and by the box, which need nothing but the place of the target and the limits that
were in force.

What takes the arm's geometry or its motors, `robot_bridge.safety`'s cone, reach, speeds, accelerations and
effort, is not worked out here, nor is the largest turn. A world model has to know it: of a robot's episodes
it is told what was asked for, confined in the same way, and not what was executed. Told that, it would see
hands go back wherever the effort guard turned them round, and never learn that pressing makes them go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from daemon.learning.errors import BadTensor

XYZ = slice(0, 3)
UNCONFINED = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confines:
    """Of M beginnings, metres: how far each target may go from where it is, and how far in one step.

    Attributes:
        low, high: float32 [M, 3]; infinite where nothing is known.
        step: float32 [M], along each axis; likewise.

    Raises:
        BadTensor: other shapes, not a number, or a box without inside.
    """

    low: Tensor
    high: Tensor
    step: Tensor

    def __post_init__(self) -> None:
        count = len(self.step)
        shapes = [list(part.shape) for part in (self.low, self.high, self.step)]
        if shapes != [[count, 3], [count, 3], [count]]:
            raise BadTensor(name="confines", expected="[M, 3], [M, 3] and [M]", found=str(shapes))
        if not bool((self.low < self.high).all()) or not bool((self.step > 0).all()):
            found = f"low {self.low.tolist()}, high {self.high.tolist()}, step {self.step.tolist()}"
            raise BadTensor(name="confines", expected="low below high, step above 0", found=found)

    @classmethod
    def around(cls, place: ArrayLike, *, low: ArrayLike, high: ArrayLike, step: float) -> Confines:
        """Of one target at `place` [3] in the box with these corners [3], metres in the same frame.

        Raises:
            BadTensor: as above.
            ValueError, TypeError: not such numbers.
        """
        corners = np.stack([np.asarray(corner, dtype=np.float32) for corner in (low, high)])  # [2, 3]
        box = corners - np.asarray(place, dtype=np.float32)
        return cls(
            low=torch.from_numpy(box[:1]), high=torch.from_numpy(box[1:]), step=torch.tensor([float(step)])
        )

    def __len__(self) -> int:
        return len(self.step)

    def take(self, rows: Tensor) -> Confines:
        """Those with these numbers, in this order."""
        return Confines(low=self.low[rows], high=self.high[rows], step=self.step[rows])

    def after(self, moves: Tensor) -> Confines:
        """Of the places that these moves [T, 7] lead to, each beginning by the same ones."""
        gone = moves[:, XYZ].sum(0)
        return Confines(low=self.low - gone, high=self.high - gone, step=self.step)


def unconfined(count: int = 1) -> Confines:
    """Of beginnings of which no limits are known: everything that is asked is let through."""
    nowhere = torch.full((count, 3), UNCONFINED)
    return Confines(low=-nowhere, high=nowhere, step=torch.full((count,), UNCONFINED))


def together(parts: Sequence[Confines | None]) -> Confines | None:
    """Those of all beginnings in turn, None being one of which nothing is known; None where all are."""
    if all(part is None for part in parts):
        return None
    known = [unconfined() if part is None else part for part in parts]
    return Confines(
        low=torch.cat([part.low for part in known]),
        high=torch.cat([part.high for part in known]),
        step=torch.cat([part.step for part in known]),
    )


def let_through(asked: Tensor, confines: Confines | None) -> Tensor:
    """An episode's moves [T, 7] as they are imagined for whoever asks for them."""
    return asked if confines is None else ConfinedArms(confines).let_through(asked[None])[0]


class ConfinedArms:
    """Where the targets of B rollouts have been moved, and what that leaves of their next moves."""

    def __init__(self, confines: Confines, *, device: torch.device | None = None) -> None:
        self._low, self._high = confines.low.to(device), confines.high.to(device)
        self._step = confines.step.to(device)[:, None]
        self._moved = torch.zeros_like(self._low)

    def let_through(self, actions: Tensor) -> Tensor:
        """The chunk [B, L, 7] as it would be executed; what is not cut is what was asked, to the bit.

        As a station does, a target that is outside may stay or come in, never go further out.

        Raises:
            BadTensor: not one chunk for each.
        """
        if actions.ndim != 3 or len(actions) != len(self._moved):
            expected = f"[{len(self._moved)}, L, A]"
            raise BadTensor(name="actions", expected=expected, found=str(list(actions.shape)))
        executed = actions.detach().clone()
        for move in executed.unbind(1):
            move[:, XYZ] = self._kept_in(move[:, XYZ].clamp(-self._step, self._step))
        return executed

    def _kept_in(self, asked: Tensor) -> Tensor:
        wanted = self._moved + asked
        place = wanted.clamp(torch.minimum(self._low, self._moved), torch.maximum(self._high, self._moved))
        moved = torch.where(place == wanted, asked, place - self._moved)
        self._moved = place
        return moved
