"""Statistics that are gathered piece by piece are those of the whole."""

from __future__ import annotations

import json

import numpy as np
import pytest

from storage.interchange.lerobot_statistics import Levels, Running


@pytest.mark.parametrize("cuts", [[100], [1, 99], [30, 30, 40], [1] * 100])
def test_rows_that_come_in_pieces_have_the_statistics_of_all_rows(cuts: list[int]) -> None:
    rows = np.random.default_rng(0).normal(5.0, 2.0, (100, 3))
    running = Running()
    for piece in np.split(rows, np.cumsum(cuts)[:-1]):
        running.add(piece)
    tree = running.tree()
    np.testing.assert_allclose(tree["mean"], rows.mean(axis=0))
    np.testing.assert_allclose(tree["std"], rows.std(axis=0))
    assert tree["min"] == rows.min(axis=0).tolist()
    assert tree["max"] == rows.max(axis=0).tolist()
    assert tree["count"] == [100]


def test_a_large_offset_does_not_eat_the_deviation() -> None:
    """A sum of squares would: 1e8 squared leaves no digit for a spread of 1."""
    running = Running()
    for value in (1e8, 1e8 + 1, 1e8 + 2):
        running.add(np.array([[value]]))
    assert running.tree()["std"] == pytest.approx([np.sqrt(2 / 3)])


def test_pixels_are_counted_by_channel_in_shares_of_white() -> None:
    pictures = np.random.default_rng(1).integers(10, 240, (4, 6, 5, 3), dtype=np.uint8)
    levels = Levels()
    for picture in pictures:
        levels.add(picture)
    tree, shares = levels.tree(), pictures.reshape(-1, 3) / 255.0
    for key, found in (
        ("mean", shares.mean(axis=0)),
        ("std", shares.std(axis=0)),
        ("min", shares.min(axis=0)),
        ("max", shares.max(axis=0)),
    ):
        np.testing.assert_allclose(np.array(tree[key]), found[:, None, None])
    assert tree["count"] == [4]


def test_pictures_of_one_colour_have_no_deviation() -> None:
    levels = Levels()
    levels.add(np.full((3, 3, 3), 255, np.uint8))
    assert levels.tree()["std"] == [[[0.0]]] * 3
    assert levels.tree()["min"] == levels.tree()["max"] == [[[1.0]]] * 3


def test_levels_that_were_counted_apart_and_kept_as_json_are_those_of_all_to_the_last_bit() -> None:
    pictures = np.random.default_rng(2).integers(0, 256, (9, 7, 5, 3), dtype=np.uint8)
    together, joined = Levels(), Levels()
    for picture in pictures:
        together.add(picture)
    for part in np.split(pictures, [1, 5]):
        own = Levels()
        for picture in part:
            own.add(picture)
        joined.include(json.loads(json.dumps(own.state())))
    assert joined.tree() == together.tree()
    assert joined.state() == together.state()
