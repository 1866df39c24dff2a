"""The camera's newest picture, for people who look: `GET /v1/snapshot` of robot-station/v1.3 on the wire.

It is no observation: no episode is made of it and nothing is decided on it. Its age is counted by the
station, so that no two clocks have to agree; its time of day is for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Final

import requests

from robot_bridge.errors import RobotBridgeError, StationMisbehaved, StationRefused
from robot_bridge.frames import JPEG_START
from robot_bridge.protocol import PICTURE_AGE_HEADER, PICTURE_NUMBER_HEADER, PICTURE_TIME_HEADER

SNAPSHOT_PATH: Final = "/v1/snapshot"
SNAPSHOT_TYPE: Final = "image/jpeg"
LARGEST_SNAPSHOT: Final = 4 * 1024 * 1024  # bytes; a picture of 640 x 640 pixels has some 300 KiB


class NoPicture(StationRefused):
    """The camera has shown nothing yet."""

    code = "no_picture"
    retryable = True
    sentence = "this station's camera has shown nothing yet: {reason}. Ask again, or reset the robot."


class SnapshotUnsupported(RobotBridgeError):
    """The station speaks a version without the call."""

    code = "snapshot_unsupported"
    sentence = (
        "the station at {url} shows no camera: {expected} does, and it has no such call. Update the station."
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """One picture as it was taken.

    Attributes:
        jpeg: the picture, RGB.
        number: rises with every new picture for as long as the station runs.
        age_s: seconds between the capture and the answer, by the station's clock.
        captured_at: the time of day at the station.
    """

    jpeg: bytes
    number: int
    age_s: float
    captured_at: datetime


def read_snapshot(answer: requests.Response, *, url: str) -> Snapshot:
    """The record in an answer.

    Raises:
        StationMisbehaved: no JPEG, one that is too large, or one that nobody says the age of.
    """
    kind = answer.headers.get("Content-Type", "").split(";")[0].strip()
    if kind != SNAPSHOT_TYPE or not answer.content.startswith(JPEG_START):
        raise _misbehaved(url, expected="a JPEG", found=f"{len(answer.content)} bytes of {kind or 'no type'}")
    if len(answer.content) > LARGEST_SNAPSHOT:
        found = f"{len(answer.content)} bytes"
        raise _misbehaved(url, expected=f"at most {LARGEST_SNAPSHOT} bytes", found=found)
    try:
        number = int(answer.headers[PICTURE_NUMBER_HEADER])
        age_s = float(answer.headers[PICTURE_AGE_HEADER]) / 1000.0
        captured_at = datetime.fromisoformat(answer.headers[PICTURE_TIME_HEADER])
    except (KeyError, ValueError) as cause:
        raise _misbehaved(url, expected="number, age and time", found="headers without") from cause
    if not isfinite(age_s) or age_s < 0.0 or number < 1 or captured_at.tzinfo is None:
        raise _misbehaved(url, expected="number, age and time", found=f"number {number}, {age_s} s old")
    return Snapshot(jpeg=answer.content, number=number, age_s=age_s, captured_at=captured_at)


def _misbehaved(url: str, *, expected: str, found: str) -> StationMisbehaved:
    return StationMisbehaved(url=url, call=f"GET {SNAPSHOT_PATH}", expected=expected, found=found)
