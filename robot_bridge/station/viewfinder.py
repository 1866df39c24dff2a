"""The newest picture, kept for people who look: whoever asks gets a copy and waits for no motion.

While an episode runs, its own observations are shown and nothing else is captured. Between episodes the
station looks through the camera on purpose, but only while somebody asks, and at most twice a second. A
picture is encoded once, however many ask for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from robot_bridge.drivers.driver import CameraDescription, Sample
from robot_bridge.errors import BadArray
from robot_bridge.frames import encode_jpeg
from robot_bridge.snapshot import NoPicture, Snapshot

WATCHED_S: Final = 5.0  # so long after a question somebody still counts as looking
LOOK_EVERY_S: Final = 0.5
AFTER_TROUBLE_S: Final = 5.0  # before a camera that gave nothing is looked through again
NOT_YET: Final = "nobody has looked through it yet"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shown:
    """A picture and its place in time; `captured_at` is seconds on the station's clock."""

    sample: Sample
    number: int
    captured_at: float


class Viewfinder:
    """What the camera of one station showed last. Any thread may ask; who shows holds the motion lock."""

    def __init__(
        self, camera: CameraDescription, *, clock: Callable[[], float], now: Callable[[], datetime]
    ) -> None:
        self._noisy = camera.noisy
        self._clock, self._now = clock, now
        self._newest: _Shown | None = None
        self._trouble = NOT_YET
        self._asked_at: float | None = None
        self._looked_at: float | None = None
        self._pause_s = LOOK_EVERY_S
        self._encoding = threading.Lock()
        self._encoded: tuple[int, bytes] = (0, b"")

    def show(self, sample: Sample) -> None:
        """Take a picture over. One that the camera gave before stays as old as it is."""
        if not np.isfinite(sample.age_s):
            return  # nobody could say how old it is
        before = self._newest
        if before is not None and self._is_same(before.sample, sample):
            return
        number = 1 if before is None else before.number + 1
        captured_at = self._clock() - max(0.0, sample.age_s)
        self._newest = _Shown(sample=sample, number=number, captured_at=captured_at)

    def wants_look(self) -> bool:
        """Whether somebody asks and the newest picture got old; who is told yes has to look."""
        now = self._clock()
        if self._asked_at is None or now - self._asked_at > WATCHED_S:
            return False
        if self._looked_at is not None and now - self._looked_at < self._pause_s:
            return False
        self._looked_at = now
        return True

    def looked(self, trouble: str = "") -> bool:
        """Say how a look went; gives whether its trouble is news."""
        news = bool(trouble) and trouble != self._trouble
        self._trouble = trouble
        self._pause_s = AFTER_TROUBLE_S if trouble else LOOK_EVERY_S
        return news

    def snapshot(self) -> Snapshot:
        """The newest picture as it is sent, with its age at this moment.

        Raises:
            NoPicture: there is none yet; somebody who asks again soon may find one.
        """
        self._asked_at = self._clock()
        shown = self._newest
        if shown is None:
            raise NoPicture(reason=self._trouble or NOT_YET)
        jpeg = self._jpeg(shown)
        age_s = max(0.0, self._clock() - shown.captured_at)
        captured_at = self._now() - timedelta(seconds=age_s)
        return Snapshot(jpeg=jpeg, number=shown.number, age_s=age_s, captured_at=captured_at)

    def _is_same(self, before: Sample, sample: Sample) -> bool:
        """A sensor is never still: equal pictures of one that has noise are the same picture again."""
        if sample.seq == before.seq:
            return True
        return self._noisy and np.array_equal(sample.image, before.image)

    def _jpeg(self, shown: _Shown) -> bytes:
        with self._encoding:
            if self._encoded[0] != shown.number:
                try:
                    self._encoded = (shown.number, encode_jpeg(shown.sample.image))
                except BadArray as cause:
                    raise NoPicture(reason=str(cause)) from cause
            return self._encoded[1]
