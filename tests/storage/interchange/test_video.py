"""The same pictures come to the same bytes, whatever the memory of the process held before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.interchange.video import VideoWriter
from tests.storage.interchange.laboratory import smooth_pictures

TIMES = 400  # one in 200 of these differed while the encoder read memory that nobody had written


def encoded(path: Path, *, seed: int, size: int, crf: int, keyframes: int) -> bytes:
    with VideoWriter(path, size=(size, size), fps=5, crf=crf, keyframes=keyframes) as video:
        for picture in smooth_pictures(4, seed=seed, width=size, height=size):
            video.add(picture)
    return path.read_bytes()


def rubbish(random: np.random.Generator) -> list[np.ndarray]:
    """Memory with something in it, in pieces of many sizes, half of them freed again."""
    return [random.integers(0, 256, random.integers(1, 60_000), dtype=np.uint8) for _ in range(8)][::2]


@pytest.mark.parametrize(("crf", "keyframes"), [(23, 2), (18, 12)])
def test_bytes_are_those_of_the_pictures_alone(tmp_path: Path, crf: int, keyframes: int) -> None:
    random, seen = np.random.default_rng(0), dict[tuple[int, int], set[bytes]]()
    for _ in range(TIMES):
        seed, size = int(random.integers(4)), int(random.choice([32, 48, 64]))
        kept = rubbish(random)
        made = encoded(tmp_path / "film.mp4", seed=seed, size=size, crf=crf, keyframes=keyframes)
        seen.setdefault((seed, size), set()).add(made)
        del kept
        assert b"mbtree=0" in made  # x264 writes its settings into the file
    assert {each: len(ways) for each, ways in seen.items()} == dict.fromkeys(seen, 1)
