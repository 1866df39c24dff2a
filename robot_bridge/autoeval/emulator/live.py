"""What AutoEval's web page shows live: per robot the newest picture and a few words. Nobody has to log in.

Source: job_scheduler.py (image upload) and web_viewer.py of AutoEval at 3ea3ff4.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from robot_bridge.autoeval.emulator.arm import U8
from robot_bridge.frames import encode_jpeg

FEEDS: Final = 2
STATUS_FIELDS: Final = ("language_instruction", "episode", "timestep", "waiting_for_human")


class LiveView:
    """Pictures and words of both robots, and whether a human has answered. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures: dict[int, bytes] = {}
        self._words: list[dict[str, Any]] = [
            {"language_instruction": "N/A", "episode": 0, "timestep": 0} for _ in range(FEEDS)
        ]
        self._answers = [threading.Event() for _ in range(FEEDS)]

    def show(self, index: int, image: U8) -> None:
        """Put up an RGB picture [H, W, 3]."""
        self.upload(index, encode_jpeg(image))

    def upload(self, index: int, jpeg: bytes) -> None:
        with self._lock:
            self._pictures[index] = jpeg

    def picture(self, index: int) -> bytes | None:
        with self._lock:
            return self._pictures.get(index)

    def tell(self, index: int, words: dict[str, Any]) -> None:
        """Change some of the words; others, and names that the page does not know, stay as they are."""
        with self._lock:
            self._words[index] |= {name: words[name] for name in STATUS_FIELDS if name in words}

    def words(self, index: int) -> dict[str, Any]:
        with self._lock:
            return dict(self._words[index])

    def answer(self, index: int) -> None:
        """A human says that the scene is in order again."""
        self._answers[index].set()

    def answered(self, index: int) -> threading.Event:
        """Set once a human has answered; whoever asks clears it first."""
        return self._answers[index]
