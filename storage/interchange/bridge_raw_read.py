"""Episodes in from folders of raw BridgeData V2: ours with all they had, those of others with what they tell.

Their pickles are read in a throw-away process that can call nothing. The format itself is bridge_v2, so
nobody has to say so. Recordings from before 2021-07-23 lag by one step between arm and camera: they are kept
and said to be of no use for a world model.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from robot_bridge.autoeval.unpickle import run_confined
from robot_bridge.errors import RobotBridgeError
from robot_bridge.frames import FrameBlob, decode_jpeg
from storage.interchange import bridge_raw_layout as layout
from storage.interchange.bridge_pickle_child import MAX_PICKLE_BYTES, MAX_ROWS, MAX_WIDTH
from storage.interchange.errors import DatasetInvalid
from storage.interchange.foreign import Origin, check_rows, foreign_record
from storage.interchange.record import F32, Found, Record, read_side, require_equal, restored
from storage.interchange.seal import Seal

CHILD: Final = "storage.interchange.bridge_pickle_child"
READ_MAX_BYTES: Final = 64 * 1024 + 2 * 8 * MAX_ROWS * MAX_WIDTH
WIDTH: Final = 7


def find_bridge_raw(folder: Path, seal: Seal | None) -> Iterator[Found]:
    """Every trajectory below the folder, not read yet.

    Raises:
        DatasetInvalid: there is none, or a file of one is missing.
    """
    trajectories = sorted(path.parent for path in folder.rglob(layout.OBSERVATIONS))
    if not trajectories:
        expected = f"trajectories with {layout.OBSERVATIONS} below it"
        raise DatasetInvalid(path=folder, expected=expected, found="none")
    for trajectory in trajectories:
        yield _found(folder, trajectory, seal)


def _found(folder: Path, trajectory: Path, seal: Seal | None) -> Found:
    if seal is None:
        digest = _digest(trajectory)
        origin = Origin(format=layout.FORMAT, path=trajectory, digest=digest)
        return Found(episode_id=origin.episode_id, digest=digest, read=partial(_read_foreign, origin))
    place = trajectory.relative_to(folder).as_posix()
    if place not in seal.places:
        raise DatasetInvalid(path=trajectory, expected="trajectories that manifest.json knows", found=place)
    episode_id = seal.places[place]
    digest = read_side(folder, episode_id).manifest.digest
    read = partial(_read_ours, folder, trajectory, episode_id=episode_id)
    return Found(episode_id=episode_id, digest=digest, read=read)


def _read_ours(folder: Path, trajectory: Path, *, episode_id: str) -> Record:
    side = read_side(folder, episode_id)
    actions, states = _rows(trajectory)
    require_equal(trajectory / layout.POLICY, "action", told=side.steps.raw_action, found=actions)
    require_equal(trajectory / layout.OBSERVATIONS, "state", told=side.steps.state, found=states)
    return restored(side, _frames(trajectory), codec="jpeg")


def _read_foreign(origin: Origin) -> Record:
    actions, states = _rows(origin.path)
    at = layout.recorded_at(origin.path)
    return foreign_record(
        origin,
        actions=actions,
        states=states,
        frames=_frames(origin.path),
        instruction=_instruction(origin.path / layout.LANGUAGE),
        valid=at is None or at >= layout.PROMPT,
    )


def _rows(trajectory: Path) -> tuple[F32, F32]:
    """Actions [T, 7] and states [T + 1, 7]."""
    found = []
    for name, key in ((layout.POLICY, "actions"), (layout.OBSERVATIONS, "state")):
        path = trajectory / name
        arrays = _unpickled(path)
        if key not in arrays:
            raise DatasetInvalid(path=path, expected=key, found=", ".join(arrays))
        with np.errstate(over="ignore"):
            rows = arrays[key].astype(np.float32)
        check_rows(path, key, rows, width=WIDTH)
        found.append(rows)
    if len(found[1]) != len(found[0]) + 1:
        expected = f"{len(found[0]) + 1} states, one more than actions"
        raise DatasetInvalid(path=trajectory, expected=expected, found=f"{len(found[1])}")
    return found[0], found[1]


def _unpickled(path: Path) -> dict[str, NDArray[np.float64]]:
    """The arrays of one pickle; nothing in it is run."""
    try:
        with path.open("rb") as file:
            pickled = file.read(MAX_PICKLE_BYTES + 1)
        head, body = run_confined(CHILD, pickled, thing=path.name, read_max=READ_MAX_BYTES)
        return _arrays(head, body)
    except (OSError, RobotBridgeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DatasetInvalid(path=path, expected="a pickle of plain numbers", found=str(error)) from error


def _arrays(head: dict[str, Any], body: bytes) -> dict[str, NDArray[np.float64]]:
    """What the child said, checked as if it were hostile too."""
    found, at = {}, 0
    for name, (rows, width) in head["shapes"].items():
        if not 0 <= rows <= MAX_ROWS or not 0 <= width * rows <= MAX_ROWS * MAX_WIDTH:
            raise ValueError(f"an answer of {rows} by {width} numbers")
        count = rows * width
        found[str(name)] = np.frombuffer(body, "<f8", count=count, offset=at).reshape(rows, width)
        at += 8 * count
    return found


def _frames(trajectory: Path) -> FrameBlob:
    """The pictures as they are, each decoded once to see that it is whole."""
    paths = _pictures(trajectory)
    path = paths[0]
    jpegs = [each.read_bytes() for each in paths]
    try:
        with Image.open(io.BytesIO(jpegs[0])) as first:
            width, height = first.size
        for number, jpeg in enumerate(jpegs):
            path = paths[number]  # the one to name, should it break
            decode_jpeg(jpeg, width=width, height=height)
        return FrameBlob.of_jpegs(jpegs, width=width, height=height)
    except (RobotBridgeError, UnidentifiedImageError, OSError) as error:
        raise DatasetInvalid(path=path, expected="a JPEG as large as the first", found=str(error)) from error


def _pictures(trajectory: Path) -> list[Path]:
    camera = trajectory / layout.CAMERA
    paths = sorted(camera.glob("im_*.jpg"), key=layout.picture_number)
    if not paths or [layout.picture_number(path) for path in paths] != list(range(len(paths))):
        expected = "pictures im_0.jpg, im_1.jpg, … without a gap"
        raise DatasetInvalid(path=camera, expected=expected, found=f"{len(paths)} files")
    return paths


def _instruction(path: Path) -> str:
    """The first line that says what to do; lines about confidence do not."""
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in lines if line.strip() and "confidence" not in line), "")


def _digest(trajectory: Path) -> str:
    """sha256 over the names and contents of what an importer reads."""
    total = hashlib.sha256()
    files = [trajectory / name for name in (layout.OBSERVATIONS, layout.POLICY, layout.LANGUAGE)]
    for path in [*files, *_pictures(trajectory)]:
        if path.is_file():
            total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
