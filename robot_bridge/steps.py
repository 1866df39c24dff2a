"""The low-dimensional arrays of one episode, checked, and as one npz that is the same bytes every time.

T actions, T + 1 observations. Pictures and the manifest are not here.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from robot_bridge.errors import BadArray, StepsCorrupt

MAX_NPZ_BYTES: Final = 64 * 1024 * 1024  # an hour at 5 Hz is 4 MB; more is not an episode
ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # every entry's time, so that equal arrays are equal bytes

# name: (dtype, width of one row or None for a plain number, rows beyond T)
LAYOUT: Final[dict[str, tuple[str, int | None, int]]] = {
    "raw_action": ("f4", 7, 0),
    "executed_action": ("f4", 7, 0),
    "predicted_executed": ("f4", 7, 0),
    "achieved_action": ("f4", 7, 0),
    "native_action": ("f4", 7, 0),
    "state": ("f4", 7, 1),
    "native_state": ("f4", 8, 1),
    "qpos": ("f4", 8, 1),
    "effort_mA": ("f4", 7, 1),
    "target_pose": ("f4", 7, 0),
    "t_obs": ("f8", None, 1),
    "t_cmd": ("f8", None, 0),
    "infer_ms": ("f4", None, 0),
    "flags": ("u4", None, 0),
}
ALWAYS: Final = ("raw_action", "state", "t_obs", "t_cmd", "infer_ms", "flags")  # the others are where known


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepArrays:
    """What was asked, done and measured in T steps. What a robot does not tell is None, never made up.

    raw_action [T, 7] as the policy decided it, bridge_v2; executed_action [T, 7] after all limits, bridge_v2,
    or None where the robot does not say what ran: then predicted_executed [T, 7] is what the named transform
    makes of it; achieved_action [T, 7] between measured states; state [T+1, 7] bridge_v2.
    native_action [T, 7] and native_state [T+1, 8] are the numbers in the robot's own convention, where it is
    not bridge_v2. qpos [T+1, 8] radians and metres; effort_mA [T+1, 7]; target_pose [T, 7] in the layout of a
    state; t_obs [T+1] and t_cmd [T] monotonic seconds; infer_ms [T]; flags [T], see `robot_bridge.safety`.

    Raises:
        BadArray: a wrong dtype or shape, a number that is not finite, no step at all, neither an executed nor
            a predicted action, or one that was not commanded between its own observation and the next.
    """

    raw_action: NDArray[np.float32]
    state: NDArray[np.float32]
    t_obs: NDArray[np.float64]
    t_cmd: NDArray[np.float64]
    infer_ms: NDArray[np.float32]
    flags: NDArray[np.uint32]
    executed_action: NDArray[np.float32] | None = None
    predicted_executed: NDArray[np.float32] | None = None
    achieved_action: NDArray[np.float32] | None = None
    native_action: NDArray[np.float32] | None = None
    native_state: NDArray[np.float32] | None = None
    qpos: NDArray[np.float32] | None = None
    effort_mA: NDArray[np.float32] | None = None  # noqa: N815  (milliampere is written so, also in the manifest)
    target_pose: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BadArray(thing="raw_action", expected="at least one step", found=f"{self.count}")
        for name in self.present:
            dtype, width, extra = LAYOUT[name]
            _check(name, getattr(self, name), dtype=dtype, shape=_shape(self.count + extra, width))
        if self.executed_action is None and self.predicted_executed is None:
            raise BadArray(thing="executed_action", expected="known, or predicted", found="neither")
        if (self.t_obs[:-1] > self.t_cmd).any() or (self.t_cmd > self.t_obs[1:]).any():
            raise BadArray(
                thing="t_cmd", expected="t_obs[t] <= t_cmd[t] <= t_obs[t + 1]", found="times out of order"
            )

    @property
    def count(self) -> int:
        """T, the number of actions."""
        return len(self.raw_action)

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the arrays that are there, in the order they are stored in."""
        return tuple(name for name in LAYOUT if name in ALWAYS or getattr(self, name) is not None)

    @property
    def motion(self) -> NDArray[np.float32]:
        """What moved the robot, bridge_v2 [T, 7]: the executed actions or, where unknown, the predicted."""
        known = self.predicted_executed if self.executed_action is None else self.executed_action
        assert known is not None  # noqa: S101 - __post_init__ saw to it
        return known

    def spec(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """dtype and shape of every array, as the manifest lists them."""
        return {name: (LAYOUT[name][0], getattr(self, name).shape) for name in self.present}

    def to_npz(self) -> bytes:
        """All arrays as an uncompressed npz without objects; equal arrays give equal bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name in self.present:
                entry = io.BytesIO()
                npy.write_array(entry, np.ascontiguousarray(getattr(self, name)), (1, 0), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", ZIP_EPOCH), entry.getvalue())
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, data: bytes) -> StepArrays:
        """Read `to_npz` back.

        Raises:
            StepsCorrupt: truncated, an array missing, unknown, of another dtype or shape, or not finite.
        """
        if len(data) > MAX_NPZ_BYTES:
            raise StepsCorrupt(thing="size", expected=f"<= {MAX_NPZ_BYTES} bytes", found=f"{len(data)} bytes")
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                arrays = _read_arrays(archive)
        except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, OSError) as cause:
            raise StepsCorrupt(thing="archive", expected="a whole npz", found=str(cause)) from cause
        try:
            return cls(**arrays)
        except BadArray as cause:
            raise StepsCorrupt(**cause.parts) from cause


def _shape(rows: int, width: int | None) -> tuple[int, ...]:
    return (rows,) if width is None else (rows, width)


def _check(name: str, array: object, *, dtype: str, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(dtype) or array.shape != shape:
        found = f"{getattr(array, 'dtype', type(array).__name__)} {getattr(array, 'shape', '')}"
        raise BadArray(thing=name, expected=f"{dtype} {shape}", found=found)
    if not np.isfinite(array).all():
        raise BadArray(thing=name, expected="finite numbers", found="nan or inf")


def _read_arrays(archive: zipfile.ZipFile) -> dict[str, NDArray[Any]]:
    found = [name.removesuffix(".npy") for name in archive.namelist()]
    wrong = (set(ALWAYS) - set(found)) | (set(found) - set(LAYOUT))
    if wrong or len(set(found)) != len(found) or not all(n.endswith(".npy") for n in archive.namelist()):
        raise StepsCorrupt(thing="arrays", expected=f"{ALWAYS} and no unknown one", found=sorted(found))
    if sum(entry.file_size for entry in archive.infolist()) > MAX_NPZ_BYTES:
        raise StepsCorrupt(thing="unpacked size", expected=f"<= {MAX_NPZ_BYTES} bytes", found="more")
    return {name: _read_array(name, archive.read(f"{name}.npy")) for name in found}


def _read_array(name: str, entry: bytes) -> NDArray[Any]:
    """Read one npy by its header, refusing shapes that the entry's own length does not bear out."""
    stream = io.BytesIO(entry)
    if npy.read_magic(stream) != (1, 0):
        raise StepsCorrupt(thing=name, expected="npy version 1.0", found="another version")
    shape, fortran, dtype = npy.read_array_header_1_0(stream)
    wanted = np.dtype(LAYOUT[name][0])
    if fortran or dtype != wanted:
        raise StepsCorrupt(thing=name, expected=f"{wanted} in C order", found=f"{dtype}")
    body = entry[stream.tell() :]
    if int(np.prod(shape, dtype=object)) * wanted.itemsize != len(body):
        raise StepsCorrupt(thing=name, expected=f"{shape} of {wanted}", found=f"{len(body)} bytes")
    return np.frombuffer(body, dtype=wanted).reshape(shape).copy()
