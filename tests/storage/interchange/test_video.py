"""The same pictures come to the same bytes, whatever the memory of the process held before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.interchange.video import VideoWriter
from tests.storage.interchange.laboratory import rubbish, smooth_pictures

TIMES = 400  # with mbtree about one in 200 of these differed


def encoded(path: Path, *, seed: int, size: int, crf: int, keyframes: int) -> bytes:
    with VideoWriter(path, size=(size, size), fps=5, crf=crf, keyframes=keyframes) as video:
        for picture in smooth_pictures(4, seed=seed, width=size, height=size):
            video.add(picture)
    return path.read_bytes()


@pytest.mark.parametrize(("crf", "keyframes"), [(23, 2), (18, 12)])
def test_bytes_are_those_of_the_pictures_alone(tmp_path: Path, crf: int, keyframes: int) -> None:
    random, seen = np.random.default_rng(0), dict[tuple[int, int], set[bytes]]()
    kept: list[np.ndarray] = []
    for _ in range(TIMES):
        seed, size = int(random.integers(4)), int(random.choice([32, 48, 64]))
        kept[:] = rubbish(random)
        made = encoded(tmp_path / "film.mp4", seed=seed, size=size, crf=crf, keyframes=keyframes)
        seen.setdefault((seed, size), set()).add(made)
        assert b"mbtree=0" in made  # x264 writes its settings into the file
    assert {each: len(ways) for each, ways in seen.items()} == dict.fromkeys(seen, 1)
