"""One rollout of AutoEval's as our gateway saw it, finished, and the folder that holds it.

AutoEval never sends the observation after the last action, and never says how the rollout ended: an attempt
has T actions and the T observations they were decided on, s_0 .. s_{T-1}. Its last observation and its label
come from AutoEval's dataset, see `join`. An attempt that still grows is the recorder's.

    attempt.json   what it was: job, task, policy, times
    arrays.npz     numbers per step
    frames.bin     the pictures, see `robot_bridge.frames`
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from robot_bridge.autoeval.tasks import Rotation
from robot_bridge.conventions import ACTION_DIMS, F32, F64, IMAGE_SIZE
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import FramesCorrupt, RobotBridgeError
from robot_bridge.frames import FrameBlob
from robot_bridge.station.durable import sync_folder, write_synced

EndedBy: TypeAlias = Literal["reset", "idle", "job", "recovered"]

FACTS_FILE: Final = "attempt.json"
ARRAYS_FILE: Final = "arrays.npz"
FRAMES_FILE: Final = "frames.bin"

ARRAYS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {  # name: (dtype, shape of one row)
    "proprio": ("f4", (8,)),
    "policy_action": ("f4", (ACTION_DIMS,)),
    "sent_action": ("f4", (ACTION_DIMS,)),
    "t_recv": ("f8", ()),
    "t_sent": ("f8", ()),
    "infer_ms": ("f4", ()),
    "fallback": ("?", ()),
    "wall_recv": ("f8", ()),
}
MAY_BE_UNKNOWN: Final = ("wall_recv",)


class AttemptCorrupt(RobotBridgeError):
    code = "attempt_corrupt"
    sentence = "attempt {where}: {thing} must be {expected}, found {found}. It cannot be joined; look at it."


class AttemptFacts(BaseModel):
    """`attempt.json`: everything about an attempt that is not per step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_name: Literal["autoeval-attempt/1"] = "autoeval-attempt/1"
    job_id: str
    index: int = Field(ge=0)
    task_id: str
    instruction: str
    policy: PolicyRef
    rotation: Rotation
    started_at: AwareDatetime
    ended_at: AwareDatetime
    ended_by: EndedBy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attempt:
    """T steps of one rollout; attempt `index` of its job, counted from 0 over all `/reset`s.

    jpegs [T] are the pictures as received, 256 x 256; proprio [T, 8] is autoeval_mg as received.
    policy_action [T, 7] is what the policy decided, in bridge_v2; sent_action [T, 7] is what AutoEval was
    told, the same numbers in rotation mode "raw". Where `fallback` [T] is true the policy decided nothing in
    time, both are the hold action, and infer_ms [T] is how long it was waited for. t_recv and t_sent [T] are
    monotonic seconds of the gateway; wall_recv [T] unix seconds. `ended_at` is when the last action was sent:
    whatever ended the attempt came later.

    Raises:
        AttemptCorrupt: no step, an array of another shape, dtype or length, or a number that is not finite.
    """

    job_id: str
    index: int
    task_id: str
    instruction: str
    policy: PolicyRef
    rotation: Rotation
    jpegs: tuple[bytes, ...]
    proprio: F32
    policy_action: F32
    sent_action: F32
    t_recv: F64
    t_sent: F64
    infer_ms: F32
    fallback: NDArray[np.bool_]
    started_at: datetime
    ended_at: datetime
    ended_by: EndedBy
    wall_recv: F64 | None = None

    def __post_init__(self) -> None:
        if not self.jpegs:
            self._refuse("jpegs", "at least one", "none")
        for name, (dtype, row) in ARRAYS.items():
            array = getattr(self, name)
            if array is None and name in MAY_BE_UNKNOWN:
                continue
            if array.dtype != np.dtype(dtype) or array.shape != (self.steps, *row):
                self._refuse(name, f"{dtype} {(self.steps, *row)}", f"{array.dtype} {array.shape}")
            if not np.isfinite(array).all():
                self._refuse(name, "finite", "NaN or infinity")

    @property
    def steps(self) -> int:
        """T, the number of actions that were sent."""
        return len(self.jpegs)

    def save(self, folder: Path) -> None:
        """Write it to a folder that is not there yet: the folder appears whole and synced, or not at all.

        Raises:
            OSError: no room, or the folder is there; nothing of it was left behind.
        """
        temporary = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(temporary, ignore_errors=True)  # of a program that died here
        temporary.mkdir(parents=True)
        try:
            frames = FrameBlob.of_jpegs(self.jpegs, width=IMAGE_SIZE, height=IMAGE_SIZE)
            write_synced(temporary / FRAMES_FILE, frames.data)
            write_synced(temporary / ARRAYS_FILE, self._npz())
            write_synced(temporary / FACTS_FILE, self._facts().model_dump_json().encode())
            sync_folder(temporary)
            os.rename(temporary, folder)  # noqa: PTH104 - fails where a folder with something in it is
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(folder.parent)

    @classmethod
    def load(cls, folder: Path) -> Attempt:
        """Read it back.

        Raises:
            AttemptCorrupt: a file is missing, cut short, or does not fit the others.
        """
        try:
            facts = AttemptFacts.model_validate_json((folder / FACTS_FILE).read_bytes())
            frames = FrameBlob((folder / FRAMES_FILE).read_bytes())
            arrays = _read_arrays(folder / ARRAYS_FILE)
        except (OSError, ValidationError, FramesCorrupt, ValueError, EOFError, zipfile.BadZipFile) as cause:
            raise AttemptCorrupt(
                where=folder, thing="its files", expected="readable", found=str(cause)
            ) from cause
        missing = set(ARRAYS) - set(arrays) - set(MAY_BE_UNKNOWN)
        if missing or set(arrays) - set(ARRAYS):
            raise AttemptCorrupt(
                where=folder, thing=ARRAYS_FILE, expected=sorted(ARRAYS), found=sorted(arrays)
            )
        jpegs = tuple(frames.jpeg(index) for index in range(len(frames)))
        named = {name: getattr(facts, name) for name in AttemptFacts.model_fields if name != "schema_name"}
        return cls(jpegs=jpegs, **arrays, **named)

    def _facts(self) -> AttemptFacts:
        ours = {field.name for field in fields(self)} & set(AttemptFacts.model_fields)
        return AttemptFacts(**{name: getattr(self, name) for name in ours})

    def _npz(self) -> bytes:
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in ARRAYS if getattr(self, name) is not None}
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    def _refuse(self, thing: str, expected: str, found: str) -> None:
        where = f"{self.index} of job {self.job_id}"
        raise AttemptCorrupt(where=where, thing=thing, expected=expected, found=found)


def _read_arrays(path: Path) -> dict[str, Any]:
    stored = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    if not isinstance(stored, NpzFile):
        raise ValueError(f"{path.name} is one array, not several")
    with stored:
        return {name: stored[name] for name in stored.files}
