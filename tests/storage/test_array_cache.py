"""A cache that may lie is worse than none: what is damaged is made again, and nobody writes through it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.array_cache import ArrayCache
from storage.errors import CacheNameInvalid


class Maker:
    """Makes an array and counts how often."""

    def __init__(self, array: NDArray[np.float32] | None = None) -> None:
        self.array = np.arange(60, dtype=np.float32).reshape(5, 3, 4) if array is None else array
        self.made = 0

    def __call__(self) -> NDArray[np.float32]:
        self.made += 1
        return self.array


def the_file(root: Path) -> Path:
    (file,) = root.glob("*/*.npy")
    return file


def test_an_array_is_made_once_and_mapped_ever_after(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(3):
        found = ArrayCache(tmp_path).get("latents-ab12", "f00d", make)
        assert isinstance(found, np.memmap)
        assert found.dtype == np.float32
        assert np.array_equal(found, make.array)
    assert make.made == 1


@pytest.mark.parametrize("at", [3, 70, 200, -40, -1])
def test_a_file_with_a_changed_byte_is_made_again(tmp_path: Path, at: int) -> None:
    make = Maker()
    ArrayCache(tmp_path).get("latents", "a", make)
    content = bytearray(the_file(tmp_path).read_bytes())
    content[at] ^= 1
    the_file(tmp_path).write_bytes(content)
    assert np.array_equal(ArrayCache(tmp_path).get("latents", "a", make), make.array)
    assert make.made == 2


@pytest.mark.parametrize("kept", [0, 10, 100, -1])
def test_a_file_that_was_cut_short_is_made_again(tmp_path: Path, kept: int) -> None:
    make = Maker()
    ArrayCache(tmp_path).get("latents", "a", make)
    the_file(tmp_path).write_bytes(the_file(tmp_path).read_bytes()[:kept])
    assert np.array_equal(ArrayCache(tmp_path).get("latents", "a", make), make.array)
    assert make.made == 2


def test_kinds_and_keys_are_kept_apart(tmp_path: Path) -> None:
    cache, one, two, three = ArrayCache(tmp_path), Maker(), Maker(np.zeros(2)), Maker(np.ones(3))
    for kind, key, make in (("a", "x", one), ("a", "y", two), ("b", "x", three)):
        assert np.array_equal(cache.get(kind, key, make), make.array)


def test_writing_to_the_array_does_not_change_the_file(tmp_path: Path) -> None:
    make = Maker()
    ArrayCache(tmp_path).get("latents", "a", make)[:] = -1
    assert np.array_equal(ArrayCache(tmp_path).get("latents", "a", make), make.array)
    assert make.made == 1


def test_objects_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        ArrayCache(tmp_path).get("latents", "a", Maker(np.array([{}], dtype=object)))
    assert not list(tmp_path.glob("*/*"))


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> NDArray[np.float32]:
        raise RuntimeError("no such blob")

    with pytest.raises(RuntimeError):
        ArrayCache(tmp_path).get("latents", "a", broken)
    assert not list(tmp_path.glob("*/*"))


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 201, "nul\0"])
def test_names_that_could_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    for kind, key in ((name, "a"), ("a", name)):
        with pytest.raises(CacheNameInvalid):
            ArrayCache(tmp_path).get(kind, key, Maker())


def test_a_file_that_was_thrown_away_after_it_was_checked_is_made_again(tmp_path: Path) -> None:
    make, cache = Maker(), ArrayCache(tmp_path)
    cache.get("latents", "f00d", make)
    the_file(tmp_path).unlink()
    assert np.array_equal(cache.get("latents", "f00d", make), make.array)
    assert make.made == 2
