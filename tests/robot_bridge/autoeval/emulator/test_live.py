"""The live view of a cell: its newest picture and what it is doing."""

from __future__ import annotations

import numpy as np

from robot_bridge.autoeval.emulator.live import LiveView
from robot_bridge.frames import decode_jpeg


def test_the_page_starts_without_a_picture_and_with_empty_words():
    live = LiveView()
    assert live.picture(0) is None
    assert live.words(1) == {"language_instruction": "N/A", "episode": 0, "timestep": 0}


def test_a_shown_picture_is_a_jpeg_of_it():
    live, image = LiveView(), np.full((32, 32, 3), (200, 90, 10), dtype=np.uint8)
    live.show(0, image)
    jpeg = live.picture(0)
    assert jpeg is not None
    assert np.abs(decode_jpeg(jpeg, width=32, height=32).astype(int) - image).max() < 6
    assert live.picture(1) is None


def test_words_change_one_by_one_and_unknown_ones_are_ignored():
    live = LiveView()
    live.tell(0, {"episode": 3, "timestep": 7})
    live.tell(0, {"timestep": 8, "waiting_for_human": True, "success": True})
    assert live.words(0) == {
        "language_instruction": "N/A",
        "episode": 3,
        "timestep": 8,
        "waiting_for_human": True,
    }
    assert live.words(1)["episode"] == 0


def test_words_that_were_read_are_the_readers_own():
    live = LiveView()
    live.words(0)["episode"] = 99
    assert live.words(0)["episode"] == 0


def test_an_answer_is_for_one_robot():
    live = LiveView()
    live.answer(1)
    assert live.answered(1).is_set()
    assert not live.answered(0).is_set()
