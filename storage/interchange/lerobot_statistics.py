"""Minimum, maximum, mean, deviation and count of each feature, gathered episode by episode."""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

F64: TypeAlias = NDArray[np.float64]

WHITE: Final = 255


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
    """Statistics over the pixels of pictures uint8 [H, W, 3], per channel. Sums of whole numbers: exact."""

    def __init__(self) -> None:
        self.pictures = self._pixels = 0
        self._low, self._high, self._sum, self._squares = [WHITE] * 3, [0] * 3, [0] * 3, [0] * 3

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Take in one picture."""
        levels = np.arange(WHITE + 1)
        for channel in range(3):
            counts = np.bincount(picture[..., channel].ravel(), minlength=len(levels))
            present = np.flatnonzero(counts)
            self._low[channel] = min(self._low[channel], int(present[0]))
            self._high[channel] = max(self._high[channel], int(present[-1]))
            self._sum[channel] += int(counts @ levels)
            self._squares[channel] += int(counts @ levels**2)
        self.pictures += 1
        self._pixels += picture.shape[0] * picture.shape[1]

    def state(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        counts = {"pictures": self.pictures, "pixels": self._pixels}
        return {**counts, "low": self._low, "high": self._high, "sum": self._sum, "squares": self._squares}

    def include(self, state: dict[str, Any]) -> None:
        """Take in what another one counted."""
        self.pictures += state["pictures"]
        self._pixels += state["pixels"]
        self._low = [min(pair) for pair in zip(self._low, state["low"], strict=True)]
        self._high = [max(pair) for pair in zip(self._high, state["high"], strict=True)]
        self._sum = [sum(pair) for pair in zip(self._sum, state["sum"], strict=True)]
        self._squares = [sum(pair) for pair in zip(self._squares, state["squares"], strict=True)]

    def tree(self) -> dict[str, Any]:
        """As LeRobot shapes them: [[[r]], [[g]], [[b]]] in 0 .. 1, and the number of pictures."""
        count = max(self._pixels, 1)
        spread = [
            squares * count - total * total for squares, total in zip(self._squares, self._sum, strict=True)
        ]
        values = {
            "min": [low / WHITE for low in self._low],
            "max": [high / WHITE for high in self._high],
            "mean": [total / (count * WHITE) for total in self._sum],
            "std": [math.sqrt(each) / (count * WHITE) for each in spread],
        }
        shaped = {name: [[[value]] for value in each] for name, each in values.items()}
        return {**shaped, "count": [self.pictures]}
