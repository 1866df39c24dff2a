"""One episode as AutoEval publishes it, after the pickle is gone: plain arrays and plain facts.

How it is fetched, read safely and matched with our own recording is in the modules beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from robot_bridge.autoeval.errors import DatasetMalformed
from robot_bridge.conventions import ACTION_DIMS, IMAGE_SIZE

Fact: TypeAlias = str | int | float | bool | None

MG_STATE_DIMS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trajectory:
    """T steps as AutoEval logs them: element t is what was seen *after* action t.

    images uint8 [T, 256, 256, 3] RGB and proprio float32 [T, 8] (autoeval_mg) are s_1 .. s_T: s_0 is not in
    the dataset. action float32 [T, 7] is what the policy server answered, before the cell's own clipping.
    `success` is the classifier's verdict, None where there is none; `facts` are the other plain values.

    Raises:
        DatasetMalformed: the arrays do not fit each other, or a number is not finite.
    """

    index: int
    instruction: str
    images: NDArray[np.uint8]
    action: NDArray[np.float32]
    proprio: NDArray[np.float32]
    success: bool | None
    facts: dict[str, Fact]

    def __post_init__(self) -> None:
        self._require("images", self.images, dtype=np.uint8, row=(IMAGE_SIZE, IMAGE_SIZE, 3))
        self._require("action", self.action, dtype=np.float32, row=(ACTION_DIMS,))
        self._require("proprio", self.proprio, dtype=np.float32, row=(MG_STATE_DIMS,))
        if not (np.isfinite(self.action).all() and np.isfinite(self.proprio).all()):
            thing = f"trajectory {self.index}"
            raise DatasetMalformed(thing=thing, expected="finite numbers", found="nan or inf")

    @property
    def count(self) -> int:
        """T, the number of actions."""
        return len(self.action)

    def _require(self, name: str, array: object, *, dtype: type, row: tuple[int, ...]) -> None:
        wanted = (max(len(self.action), 1), *row)
        found_dtype, found = getattr(array, "dtype", None), getattr(array, "shape", ())
        if found_dtype != np.dtype(dtype) or found != wanted:
            raise DatasetMalformed(
                thing=f"{name} of trajectory {self.index}",
                expected=f"{np.dtype(dtype)} {wanted}",
                found=f"{found_dtype} {found}",
            )
