"""Read AutoEval's pickles without trusting them: one throw-away process each, arrays come back.

What the process may do and how it interprets a pickle is in `unpickle_child` and `pickle_machine`. Here it is
started with nothing in its environment, fed through a pipe, watched by the clock, and its answer is checked
as if it were hostile too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np

from robot_bridge.autoeval.errors import DatasetMalformed, PickleRefused, SandboxFailed
from robot_bridge.autoeval.trajectory import MG_STATE_DIMS, Fact, Trajectory
from robot_bridge.autoeval.unpickle_child import IMAGE_SHAPE, MAX_PICKLE_BYTES, MAX_STEPS
from robot_bridge.conventions import ACTION_DIMS

CHILD: Final = "robot_bridge.autoeval.unpickle_child"
ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each thread wants 32 MiB of stack
HEAD_MAX_BYTES: Final = 256 * 1024
STEP_BYTES: Final = 256 * 256 * 3 + 4 * (ACTION_DIMS + MG_STATE_DIMS)
READ_MAX_BYTES: Final = HEAD_MAX_BYTES + MAX_STEPS * STEP_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """What one pickle may cost: address space, processor seconds, and seconds by the wall clock."""

    memory_bytes: int = 1024 * 1024 * 1024
    cpu_s: int = 30
    wall_s: float = 60.0


def decode(pickled: bytes, *, index: int, limits: SandboxLimits | None = None) -> Trajectory:
    """The trajectory in one `traj_<index>.pkl`.

    Raises:
        PickleRefused: it names what plain records do not need, or is not such a record; nothing ran.
        SandboxFailed: it took too much memory or time, or the process broke over it.
        DatasetMalformed: its arrays do not fit each other.
    """
    thing = f"traj_{index}.pkl"
    if len(pickled) > MAX_PICKLE_BYTES:
        found = f"{len(pickled)} bytes"
        raise PickleRefused(thing=thing, expected=f"at most {MAX_PICKLE_BYTES} bytes", found=found)
    head, body = run_confined(CHILD, pickled, thing=thing, read_max=READ_MAX_BYTES, limits=limits)
    return _trajectory(head, body, index=index)


def run_confined(
    child: str, pickled: bytes, *, thing: str, read_max: int, limits: SandboxLimits | None = None
) -> tuple[dict[str, Any], bytes]:
    """What a module that confines itself makes of a pickle: its line of JSON, and the bytes after it.

    Raises:
        PickleRefused: it will not build what the pickle names.
        SandboxFailed: it took too much memory or time, said more than `read_max` bytes, or broke.
    """
    answer = _run(child, pickled, thing=thing, read_max=read_max, limits=limits or SandboxLimits())
    first, _, body = answer.partition(b"\n")
    head = _head(first, thing)
    if "refused" in head:
        raise PickleRefused(thing=thing, **_texts(head["refused"], thing))
    return head, body


def _run(child_module: str, pickled: bytes, *, thing: str, read_max: int, limits: SandboxLimits) -> bytes:
    """All that the child says; it is killed when its time is over or it says too much."""
    bounds = [str(limits.memory_bytes), str(limits.cpu_s)]
    arguments = [sys.executable, "-I", "-B", "-m", child_module, *bounds]
    with subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ONE_THREAD,
        cwd="/",
        start_new_session=True,
    ) as child:
        assert child.stdin is not None and child.stdout is not None  # noqa: S101 - both are pipes
        clock = _Clock(limits.wall_s, child.kill)
        _feed(child.stdin, pickled)
        answer = child.stdout.read(read_max + 1)
        if len(answer) > read_max:
            child.kill()
        status = child.wait()
        clock.cancel()
    if clock.has_struck:
        raise SandboxFailed(thing=thing, reason=f"it was not done after {limits.wall_s} s")
    if len(answer) > read_max or b"\n" not in answer:
        reason = f"the process ended with status {status} and without an answer"
        raise SandboxFailed(thing=thing, reason=reason)
    return answer


class _Clock(threading.Timer):
    """Does something once the time is over, and remembers that it did."""

    def __init__(self, seconds: float, strike: Callable[[], None]) -> None:
        super().__init__(seconds, self._strike)
        self.daemon, self.has_struck, self._do = True, False, strike
        self.start()

    def _strike(self) -> None:
        self.has_struck = True
        self._do()


def _feed(pipe: IO[bytes], pickled: bytes) -> None:
    """Write all of it; a child that died instead of reading has said why, or will have said nothing."""
    with suppress(BrokenPipeError):
        pipe.write(pickled)
    with suppress(BrokenPipeError):
        pipe.close()


def _head(line: bytes, thing: str) -> dict[str, Any]:
    try:
        head = json.loads(line) if len(line) <= HEAD_MAX_BYTES else None
    except ValueError:
        head = None
    if not isinstance(head, dict):
        raise SandboxFailed(thing=thing, reason="its answer is not one line of JSON")
    return head


def _texts(parts: object, thing: str) -> dict[str, str]:
    if not isinstance(parts, dict):
        raise SandboxFailed(thing=thing, reason="its refusal cannot be read")
    return {key: str(parts.get(key, ""))[:300] for key in ("expected", "found")}


def _trajectory(head: dict[str, Any], body: bytes, *, index: int) -> Trajectory:
    steps = head.get("steps")
    if not isinstance(steps, int) or not 1 <= steps <= MAX_STEPS or len(body) != steps * STEP_BYTES:
        found = f"{len(body)} bytes"
        raise DatasetMalformed(thing=f"traj_{index}.pkl", expected=f"{steps} whole steps", found=found)
    picture_bytes = steps * int(np.prod(IMAGE_SHAPE))
    numbers = np.frombuffer(body, dtype="<f4", offset=picture_bytes)
    action, proprio = np.split(numbers, [steps * ACTION_DIMS])
    success = head.get("success")
    return Trajectory(
        index=index,
        instruction=str(head.get("instruction", "")),
        images=np.frombuffer(body, dtype=np.uint8, count=picture_bytes).reshape(steps, *IMAGE_SHAPE),
        action=action.reshape(steps, ACTION_DIMS).astype(np.float32),
        proprio=proprio.reshape(steps, MG_STATE_DIMS).astype(np.float32),
        success=success if isinstance(success, bool) else None,
        facts=_plain(head.get("facts")),
    )


def _plain(facts: object) -> dict[str, Fact]:
    found = facts.items() if isinstance(facts, dict) else ()
    return {name: value for name, value in found if value is None or isinstance(value, str | int | float)}
