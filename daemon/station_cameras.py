"""What the stations' cameras show, for many who look: a station is asked once for all of them.

A picture never claims to be newer than it is. Its age is what the station said, and it goes on growing here
while the station says nothing more: the last picture stays, marked as old. Nothing is kept on a disk.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from daemon.settings import Settings
from daemon.shared_questions import SharedQuestions
from daemon.station_clients import station_client
from daemon.station_watch import watched_addresses
from robot_bridge.errors import RobotBridgeError
from robot_bridge.snapshot import NoPicture, SnapshotUnsupported

CameraState = Literal["live", "old", "dark", "none"]

FRESH_S = 0.4  # how long an answer is taken for now: two pictures a second, and never a third
LEFT_ALONE_S = 5.0  # a station that did not answer
UNSUPPORTED_S = 60.0  # one that shows no camera; it may be updated meanwhile
ANSWER_S = 1.0  # of one question
PATIENCE_S = 0.5  # whoever looks waits no longer for all of them together
LIVE_S = 2.0  # an older picture does not show what the robot does now
KEPT = 4  # pictures of one station: who was told of one comes for it at once
NO_CAMERA = "This station shows no camera: it speaks an older robot-station than v1.3."


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraView:
    """One station's camera as it is shown now.

    Attributes:
        place: which station, from 0 on, in the order of the settings.
        state: `live`; `old`: the newest picture is; `dark`: there is none yet; `none`: the station has no
            call for pictures.
        age_s: seconds since the picture was taken.
        digest: names the picture, see `StationCameras.picture`.
        failure: why there is nothing newer, where that is known.
    """

    place: int
    address: str
    state: CameraState
    age_s: float | None = None
    digest: str | None = None
    failure: str | None = None

    @property
    def says(self) -> str:
        """The same for people; never that a picture is live when it is not."""
        if self.state == "none":
            return NO_CAMERA
        why = f" {self.failure.rstrip('.')}." if self.failure else ""
        if self.age_s is None:
            return f"No picture yet.{why}"
        if self.state == "live":
            return f"Live, {age_in_words(self.age_s)} old."
        return f"Not live: this picture is {age_in_words(self.age_s)} old.{why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What became of one question; `supported` is None where nobody knows."""

    supported: bool | None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """A picture and when it was taken, by this daemon's clock."""

    digest: str
    taken_at: float


class StationCameras:
    """The cameras of the settings' stations; none where AutoEval has them. Threads may share it."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._addresses = watched_addresses(settings)
        self._questions = SharedQuestions(
            self._addresses, ask=self._fetch, lasts_s=_lasts_s, clock=clock, name="cameras"
        )
        self._lock = threading.Lock()
        self._newest: dict[str, _Taken] = {}
        self._pictures: dict[str, dict[str, bytes]] = {address: {} for address in self._addresses}

    def ask(self) -> None:
        """Begin to ask, for whoever looks a moment later."""
        for address in self._addresses:
            self._questions.ask(address)

    def look(self) -> list[CameraView]:
        """What each camera shows, in the order of the settings. One that hangs is waited for once."""
        questions = [self._questions.ask(address) for address in self._addresses]
        now = self._clock()
        wait([one.answer for one in questions if now - one.asked_at < PATIENCE_S], timeout=PATIENCE_S)
        return [
            self._view(place, one.answer.result() if one.answer.done() else None)
            for place, one in enumerate(questions)
        ]

    def picture(self, place: int, digest: str) -> bytes | None:
        """The JPEG that a view named; None when newer ones have taken its place."""
        if not 0 <= place < len(self._addresses):
            return None
        with self._lock:
            return self._pictures[self._addresses[place]].get(digest)

    def close(self) -> None:
        """Ask nobody any more."""
        self._questions.close()

    def _fetch(self, address: str) -> _Said:
        asked_at = self._clock()
        try:
            with closing(station_client(self._settings, address, tries=1)) as client:
                found = client.snapshot(timeout_s=ANSWER_S)
        except SnapshotUnsupported:
            return _Said(supported=False)
        except NoPicture as nothing:
            return _Said(supported=True, failure=str(nothing))
        except (RobotBridgeError, OSError) as error:
            return _Said(supported=None, failure=str(error))
        digest = hashlib.sha256(found.jpeg).hexdigest()[:32]
        with self._lock:
            kept = self._pictures[address]
            kept.pop(digest, None)
            kept[digest] = found.jpeg
            while len(kept) > KEPT:
                del kept[next(iter(kept))]
            # as if the answer had been made when it was asked for: rather too old than too new
            self._newest[address] = _Taken(digest=digest, taken_at=asked_at - found.age_s)
        return _Said(supported=True)

    def _view(self, place: int, said: _Said | None) -> CameraView:
        address = self._addresses[place]
        with self._lock:
            newest = self._newest.get(address)
        failure = "the station has not answered yet" if said is None else said.failure
        if said is not None and said.supported is False:
            return CameraView(place=place, address=address, state="none")
        if newest is None:
            return CameraView(place=place, address=address, state="dark", failure=failure)
        age_s = max(0.0, self._clock() - newest.taken_at)
        return CameraView(
            place=place,
            address=address,
            state="live" if age_s <= LIVE_S else "old",
            age_s=age_s,
            digest=newest.digest,
            failure=failure,
        )


def age_in_words(age_s: float) -> str:
    """`0.4 s`, `12 s`, `3 min`, `2 h`."""
    if age_s < 10.0:
        return f"{age_s:.1f} s"
    if age_s < 120.0:
        return f"{age_s:.0f} s"
    return f"{age_s / 60.0:.0f} min" if age_s < 7200.0 else f"{age_s / 3600.0:.0f} h"


def _lasts_s(said: _Said) -> float:
    if said.supported is False:
        return UNSUPPORTED_S
    return LEFT_ALONE_S if said.supported is None else FRESH_S
