"""Clips in the WorldGym format, as episodes: NAME.mp4 beside NAME.npz, in folders train/ and test/.

Row i of the array `arr_0` float32 [frames, 10] is the action executed AT frame i, in world-model units. The
last row belongs to a frame that has no successor: it is zero, or, where a long recording was cut, an action
whose effect nobody sees. Either way it is dropped: `frames` pictures give T = frames - 1 actions and T + 1
observations. The clips know no instruction, no label and no proprio; their pictures are 5 Hz, whatever the
video's own clock says.
"""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias
from uuid import UUID, uuid5

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from robot_bridge.conventions import (
    ACTION_DIMS,
    CONTROL_HZ,
    JOINT_DIMS,
    PROPRIO_DIMS,
    ROT_CLIP,
    WORLD_MODEL_ACTION_DIMS,
    XYZ_CLIP,
    from_world_model_action,
)
from robot_bridge.episode import Episode, EpisodeHeader, PolicyRef, StepArrays, ValidFor, assemble
from robot_bridge.frames import FrameBlob
from storage import episodes
from storage.blobs import BlobStore
from storage.db import Database
from storage.interchange.errors import ClipInvalid
from storage.tables import EpisodeRow

F32: TypeAlias = NDArray[np.float32]
U8: TypeAlias = NDArray[np.uint8]

TASK_ID: Final = "bridge_unlabelled"
STATION_ID: Final = "worldgym_clips"
NAMESPACE: Final = UUID(
    "6f0c7a51-3c0e-5e6b-9a54-0d3f6b1c2e77"
)  # of the ids that clips get from their content
UNKNOWN_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)  # clips do not say when; a constant keeps their digest
TOLERANCE: Final = 1e-3  # world-model units by which a number may pass its clip
SPLITS: Final = ("train", "test")
NOT_AN_ARCHIVE: Final = (  # what numpy raises, depending on where in the file it stumbles
    ValueError,
    TypeError,
    OSError,
    EOFError,
    MemoryError,
    zlib.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import found, and how much of it was new."""

    episodes: int
    frames: int
    added: int


def import_folder(
    database: Database,
    blobs: BlobStore,
    folder: Path,
    *,
    now: datetime,
    advance: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Commit every clip under FOLDER/train and FOLDER/test, one transaction each; test clips are held out.

    A clip that was imported before is recognised by its content and adds nothing.

    Args:
        advance: is told how many clips are done, and how many there are.

    Raises:
        ClipInvalid: a clip breaks the format, or there is none; clips before it stay imported.
        DiskFull: no room; clips before it stay imported.
    """
    clips = [(split, mp4) for split in SPLITS for mp4 in sorted((folder / split).glob("*.mp4"))]
    if not clips:
        raise ClipInvalid(path=folder, expected="NAME.mp4 in train/ or test/", found="none")
    frames = added = 0
    for done, (split, mp4) in enumerate(clips, start=1):
        of_clip, new = _import_clip(database, blobs, mp4, held_out=split == "test", now=now)
        frames, added = frames + of_clip, added + new
        if advance is not None:
            advance(done, len(clips))
    return ImportReport(episodes=len(clips), frames=frames, added=added)


def _import_clip(
    database: Database, blobs: BlobStore, mp4: Path, *, held_out: bool, now: datetime
) -> tuple[int, bool]:
    """Commit one clip unless it is known; its frames, and whether it was new."""
    npz = mp4.with_suffix(".npz")
    with database.read() as session:
        known = session.get(EpisodeRow, clip_id(mp4, npz))
    if known is not None:
        return known.steps + 1, False
    episode = read_clip(mp4, npz)
    provenance = episodes.Provenance(origin="imported", held_out=held_out)
    with database.write() as session:
        _, created = episodes.commit(session, blobs, episode, provenance=provenance, now=now)
    return len(episode.frames), created


def clip_id(mp4: Path, npz: Path) -> str:
    """The id that the content of the two files gives an episode, whatever they are called.

    Raises:
        ClipInvalid: one of the two is missing.
    """
    digests = []
    for path in (mp4, npz):
        if not path.is_file():
            raise ClipInvalid(path=path, expected="a .mp4 and a .npz of the same name", found="no such file")
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return str(uuid5(NAMESPACE, ":".join(digests)))


def read_clip(mp4: Path, npz: Path) -> Episode:
    """One clip as an episode: T = frames - 1 actions in metres and radians, T + 1 pictures.

    Raises:
        ClipInvalid: a file is missing, does not read, or does not hold what the format says.
    """
    episode_id = clip_id(mp4, npz)
    rows = read_rows(npz)
    pictures = read_pictures(mp4)
    if len(pictures) != len(rows):
        raise ClipInvalid(
            path=npz, expected=f"{len(pictures)} rows, one per frame of {mp4.name}", found=f"{len(rows)} rows"
        )
    header = EpisodeHeader(
        episode_id=episode_id,
        station_id=STATION_ID,
        task_id=TASK_ID,
        instruction="",
        mode="imported",
        policy=PolicyRef(name="unknown"),
        transform_id="worldgym_clips/1",
        control_hz=CONTROL_HZ,
        outcome="completed",
        valid_for=ValidFor(policy_eval=False, world_model=True),
        started_at=UNKNOWN_TIME,
        ended_at=UNKNOWN_TIME,
        metadata={"proprio": "absent", "last_row": _describe_last_row(rows)},
    )
    steps = _steps(from_world_model_action(rows[:-1]))
    return assemble(header, steps=steps, frames=FrameBlob.of_images(pictures))


def read_rows(npz: Path) -> F32:
    """The array of a clip, float32 [frames, 10], every number where the format has it."""
    try:
        with np.load(io.BytesIO(npz.read_bytes()), allow_pickle=False) as archive:
            names = sorted(archive.files)
            if names != ["arr_0"]:
                raise ClipInvalid(path=npz, expected="one array arr_0", found=", ".join(names) or "none")
            rows = archive["arr_0"]
    except NOT_AN_ARCHIVE as error:
        raise ClipInvalid(path=npz, expected="an npz of plain arrays", found=str(error)) from error
    if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != WORLD_MODEL_ACTION_DIMS:
        found = f"{rows.dtype} {list(rows.shape)}"
        raise ClipInvalid(path=npz, expected=f"float32 [frames, {WORLD_MODEL_ACTION_DIMS}]", found=found)
    if len(rows) < 2:
        raise ClipInvalid(path=npz, expected="at least 2 frames", found=str(len(rows)))
    _check_rows(npz, rows)
    return np.asarray(rows, dtype=np.float32)


def _check_rows(npz: Path, rows: F32) -> None:
    gripper = np.abs(np.abs(rows[:, 6]) - 1.0)
    checks = (
        ("finite numbers", np.isfinite(rows).all(axis=1)),
        (f"xyz within ±{XYZ_CLIP}", (np.abs(rows[:, :3]) <= XYZ_CLIP + TOLERANCE).all(axis=1)),
        (f"rotation within ±{ROT_CLIP}", (np.abs(rows[:, 3:6]) <= ROT_CLIP + TOLERANCE).all(axis=1)),
        ("a gripper of -1 (open) or +1 (closed)", gripper <= TOLERANCE),
        ("zeros in the last three columns", (rows[:, 7:] == 0).all(axis=1)),
    )
    for expected, holds in checks:
        if not holds.all():
            row = int(np.argmin(holds))
            raise ClipInvalid(path=npz, expected=expected, found=f"{rows[row].tolist()} in row {row}")


def _describe_last_row(rows: F32) -> Literal["zero", "cut"]:
    return "cut" if rows[-1, :6].any() else "zero"


def read_pictures(mp4: Path) -> U8:
    """Every picture of a video, uint8 [frames, H, W, 3] RGB."""
    try:
        with av.open(str(mp4)) as container:
            if not container.streams.video:
                raise ClipInvalid(path=mp4, expected="a video stream", found="none")
            decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except av.error.FFmpegError as error:
        raise ClipInvalid(path=mp4, expected="a whole video", found=str(error)) from error
    shapes = {picture.shape for picture in decoded}
    if len(shapes) != 1:
        raise ClipInvalid(path=mp4, expected="pictures of one size", found=f"{len(shapes)} sizes")
    return np.stack(decoded)


def _steps(actions: F32) -> StepArrays:
    """What a clip knows, actions [T, 7]; what it does not know is zero, and the manifest says so."""
    steps = len(actions)
    instants = np.arange(steps + 1, dtype=np.float64) / CONTROL_HZ  # [T+1]
    return StepArrays(
        raw_action=actions,
        executed_action=actions,
        state=np.zeros((steps + 1, PROPRIO_DIMS), np.float32),
        qpos=np.zeros((steps + 1, JOINT_DIMS), np.float32),
        effort_mA=np.zeros((steps + 1, PROPRIO_DIMS), np.float32),
        target_pose=np.zeros((steps, ACTION_DIMS), np.float32),
        t_obs=instants,
        t_cmd=instants[:-1],
        infer_ms=np.zeros(steps, np.float32),
        flags=np.zeros(steps, np.uint32),
    )
