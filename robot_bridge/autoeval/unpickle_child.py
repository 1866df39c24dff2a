"""Read one AutoEval pickle from standard input, write plain arrays to standard output: a throw-away process.

`unpickle` runs this in an empty environment. Before it looks at the first byte the process takes away from
itself what it does not need (`confine`): opening files and sockets, writing files, starting processes, memory
and time. The pickle is then interpreted by `pickle_machine`, which has nothing that could be called.

Output: one line of JSON. Either {"refused": {"expected": …, "found": …}}, or {"steps": T, "instruction": …,
"success": …, "facts": {…}} and after it T pictures uint8 [256, 256, 3], T actions float32 [7] and T proprios
float32 [8], little-endian. Raw arrays, because a reader can check their length and needs no parser.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO, Final

import numpy as np

from robot_bridge.autoeval.errors import PickleRefused
from robot_bridge.autoeval.pickle_machine import TRAJECTORY, Array, Machine, Stub, refused

MAX_PICKLE_BYTES: Final = 96 * 1024 * 1024  # 400 pictures of 192 KiB are 75 MiB
MAX_STEPS: Final = 400
MAX_FACTS: Final = 64
MAX_TEXT: Final = 500
MAX_NAME: Final = 64
MAX_WHOLE_NUMBER: Final = 2**53  # what JSON can say exactly
IMAGE_SHAPE: Final = (256, 256, 3)
CAMERA: Final = "image_primary"
ARRAY_FIELDS: Final = frozenset({"obs", "action", "proprio", "language_command", "success"})


def confine(*, memory_bytes: int, cpu_s: int) -> None:
    """Give up, for good, everything that interpreting a pickle does not need.

    No file or socket can be opened (there is no free descriptor), none can be written to or grow, no process
    started, and memory and time are bounded. Root keeps the right to fork, but a fork gains nothing.
    """
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: 0,
    }
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (allowed, allowed))


def rows(value: object, thing: str) -> list[Any]:
    """The elements of a list, or the rows of an array."""
    if isinstance(value, Array):
        return list(value.value)
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_STEPS:
        raise refused(f"1 to {MAX_STEPS} of {thing}", f"{type(value).__name__}")
    return [each.value if isinstance(each, Array) else each for each in value]


def pictures(state: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """The T pictures of the one camera, each checked."""
    cameras = state.get("obs")
    if not isinstance(cameras, dict) or CAMERA not in cameras:
        raise refused(f"obs with {CAMERA}", "another camera or none")
    found = rows(cameras[CAMERA], "pictures")
    for picture in found:
        shape, kind = getattr(picture, "shape", None), getattr(picture, "dtype", None)
        if shape != IMAGE_SHAPE or kind != np.uint8:
            raise refused(f"pictures uint8 {IMAGE_SHAPE}", f"{kind} {shape}")
    return found


def vectors(value: object, thing: str, *, width: int) -> np.ndarray[Any, Any]:
    """T rows of `width` finite numbers as float32 [T, width]."""
    found = [vector(row, thing, width=width) for row in rows(value, thing)]
    return np.stack(found) if found else np.zeros((0, width), np.float32)


def vector(row: object, thing: str, *, width: int) -> np.ndarray[Any, Any]:
    is_list = isinstance(row, list | tuple) and len(row) == width and all(is_number(each) for each in row)
    if not is_list and not isinstance(row, np.ndarray):
        raise refused(f"{thing} of {width} numbers", type(row).__name__)
    with np.errstate(over="ignore"):
        numbers = np.asarray(row).astype("<f4")
    if numbers.shape != (width,) or not np.isfinite(numbers).all():
        raise refused(f"{thing} of {width} finite numbers", f"shape {numbers.shape}")
    return numbers


def is_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= MAX_WHOLE_NUMBER)


def plain_facts(state: dict[Any, Any]) -> dict[str, Any]:
    """The plain values among the other attributes; histograms and everything nested are left behind."""
    facts = {}
    for name, value in state.items():
        if not isinstance(name, str) or not name.isidentifier() or len(name) > MAX_NAME:
            continue
        if name in ARRAY_FIELDS:
            continue
        if isinstance(value, str):
            facts[name] = value[:MAX_TEXT]
        elif value is None or isinstance(value, bool) or (is_number(value) and math.isfinite(value)):
            facts[name] = value
    return dict(list(facts.items())[:MAX_FACTS])


def verdict(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if is_number(value) and value in (0, 1):
        return bool(value)
    raise refused("success as yes, no or nothing", type(value).__name__)


def answer_of(pickled: bytes) -> tuple[dict[str, Any], Sequence[np.ndarray[Any, Any]]]:
    """The JSON line and the arrays of one record.

    Raises:
        PickleRefused: it is not a plain record of one episode.
    """
    record = Machine().run(pickled)
    if not isinstance(record, Stub) or record.name != TRAJECTORY:
        raise refused("a TrajData", type(record).__name__)
    state = record.state
    instruction = state.get("language_command")
    if not isinstance(instruction, str) or len(instruction) > MAX_TEXT:
        raise refused(f"language_command of at most {MAX_TEXT} characters", type(instruction).__name__)
    images = pictures(state)
    action = vectors(state.get("action"), "actions", width=7)
    proprio = vectors(state.get("proprio"), "proprios", width=8)
    if not 1 <= len(images) == len(action) == len(proprio) <= MAX_STEPS:
        found = f"{len(images)} pictures, {len(action)} actions, {len(proprio)} proprios"
        raise refused(f"1 to {MAX_STEPS} steps, equally many of each", found)
    head = {
        "steps": len(images),
        "instruction": instruction,
        "success": verdict(state.get("success")),
        "facts": plain_facts(state),
    }
    return head, [*images, action, proprio]


def write(out: BinaryIO, head: dict[str, Any], arrays: Iterable[np.ndarray[Any, Any]] = ()) -> None:
    out.write(json.dumps(head, allow_nan=False).encode() + b"\n")
    for array in arrays:
        out.write(np.ascontiguousarray(array).tobytes())
    out.flush()


def main() -> None:
    """Confine, read, interpret, answer. Arguments: memory in bytes, processor time in seconds."""
    memory_bytes, cpu_s = (int(argument) for argument in sys.argv[1:])
    confine(memory_bytes=memory_bytes, cpu_s=cpu_s)
    pickled = sys.stdin.buffer.read(MAX_PICKLE_BYTES + 1)
    try:
        if len(pickled) > MAX_PICKLE_BYTES:
            raise refused(f"at most {MAX_PICKLE_BYTES} bytes", "more")
        head, arrays = answer_of(pickled)
    except PickleRefused as no:
        write(sys.stdout.buffer, {"refused": {key: no.parts[key] for key in ("expected", "found")}})
        return
    write(sys.stdout.buffer, head, arrays)


if __name__ == "__main__":
    main()
