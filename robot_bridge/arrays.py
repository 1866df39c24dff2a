"""Numbers that somebody sent, as float64 arrays or as a clear refusal. What they mean is not here."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_bridge.errors import BadArray


def finite(values: ArrayLike, *, thing: str, error: type[BadArray] = BadArray) -> NDArray[np.float64]:
    """An array of finite numbers of any shape.

    Raises:
        BadArray: (or the `error` asked for) no array of numbers, or one with NaN or infinity.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise error(thing=thing, expected="an array of numbers", found=type(values).__name__) from cause
    if not np.isfinite(numbers).all():
        raise error(thing=thing, expected="finite numbers", found="nan or inf")
    return numbers


def vector(values: ArrayLike, count: int, *, thing: str) -> NDArray[np.float64]:
    """`count` finite numbers.

    Raises:
        BadArray: another shape, or not finite.
    """
    numbers = finite(values, thing=thing)
    if numbers.shape != (count,):
        raise BadArray(thing=thing, expected=f"{count} numbers", found=f"shape {numbers.shape}")
    return numbers
