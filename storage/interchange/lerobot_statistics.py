"""Minimum, maximum, mean, deviation and count of each feature, gathered episode by episode."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

F64: TypeAlias = NDArray[np.float64]


class Running:
    """Statistics over the rows of arrays [N, D] that come one after the other. D is fixed by the first."""

    def __init__(self) -> None:
        self.count = 0
        self._min: F64 = np.zeros(0)
        self._max: F64 = np.zeros(0)
        self._mean: F64 = np.zeros(0)
        self._squares: F64 = np.zeros(0)  # sum of squared distances from the mean

    def add(self, rows: NDArray[Any]) -> None:
        """Take in rows [N, D], N >= 1. Source: Chan et al. 1979, the pairwise update of mean and squares."""
        new = np.asarray(rows, dtype=np.float64)
        count, mean = len(new), new.mean(axis=0)
        squares = np.square(new - mean).sum(axis=0)
        if self.count == 0:
            self._min, self._max, self._mean, self._squares = new.min(axis=0), new.max(axis=0), mean, squares
        else:
            apart, total = mean - self._mean, self.count + count
            self._squares = self._squares + squares + np.square(apart) * self.count * count / total
            self._mean = self._mean + apart * count / total
            self._min, self._max = (
                np.minimum(self._min, new.min(axis=0)),
                np.maximum(self._max, new.max(axis=0)),
            )
        self.count += count

    def tree(self) -> dict[str, Any]:
        """The five statistics as lists, the deviation over the population."""
        deviation = np.sqrt(self._squares / self.count)
        values = {"min": self._min, "max": self._max, "mean": self._mean, "std": deviation}
        return {**{name: each.tolist() for name, each in values.items()}, "count": [self.count]}


class Levels:
    """Statistics over the pixels of pictures uint8 [H, W, 3], kept as one histogram per channel."""

    def __init__(self) -> None:
        self.pictures = 0
        self._counts = np.zeros((3, 256), np.int64)

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Take in one picture."""
        self._counts += [np.bincount(picture[..., channel].ravel(), minlength=256) for channel in range(3)]
        self.pictures += 1

    def tree(self) -> dict[str, Any]:
        """As LeRobot shapes them: [[[r]], [[g]], [[b]]] in 0 .. 1, and the number of pictures."""
        shares = self._counts / np.maximum(self._counts.sum(axis=1, keepdims=True), 1)  # [3, 256]
        levels = np.arange(256) / 255.0
        mean = shares @ levels
        deviation = np.sqrt(np.maximum(shares @ np.square(levels) - np.square(mean), 0.0))
        present = self._counts > 0
        low, high = levels[present.argmax(axis=1)], levels[255 - present[:, ::-1].argmax(axis=1)]
        values = {"min": low, "max": high, "mean": mean, "std": deviation}
        shaped = {name: [[[value]] for value in each.tolist()] for name, each in values.items()}
        return {**shaped, "count": [self.pictures]}
