"""Read one pickle of a raw BridgeData folder from standard input, write its numbers to standard output.

`bridge_raw_read` runs this in a throw-away process with an empty environment; it confines itself as the
reader of AutoEval's pickles does, and interprets the pickle with the same machine, which can call nothing.

Output: one line of JSON, {"refused": {…}} or {"shapes": {name: [rows, width]}}, and after it those arrays as
float64, little-endian, in this order. obs_dict.pkl gives "state" and, where it is there, "time_stamp";
policy_out.pkl gives "actions".
"""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np

from robot_bridge.autoeval.errors import PickleRefused
from robot_bridge.autoeval.pickle_machine import Array, Machine, refused
from robot_bridge.autoeval.unpickle_child import confine, write

MAX_PICKLE_BYTES: Final = 64 * 1024 * 1024
MAX_ROWS: Final = 10_000
MAX_WIDTH: Final = 64
STATES: Final = ("full_state", "state")  # the first that is there

Numbers = np.ndarray[Any, Any]


def numbers_of(pickled: bytes) -> dict[str, Numbers]:
    """The arrays that an importer needs, float64 [rows, width].

    Raises:
        PickleRefused: it is neither of the two files.
    """
    value = Machine().run(pickled)
    if isinstance(value, dict):
        return _observations(value)
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        if not all("actions" in each for each in value):
            raise refused("actions in every step", "a step without")
        return {"actions": rows([each["actions"] for each in value], "actions")}
    raise refused("a dict of observations, or a list of steps", type(value).__name__)


def _observations(value: dict[Any, Any]) -> dict[str, Numbers]:
    for name in STATES:
        if name in value:
            found = {"state": rows(value[name], name)}
            break
    else:
        raise refused(f"one of {', '.join(STATES)}", "neither")
    if "time_stamp" in value:
        found["time_stamp"] = rows(value["time_stamp"], "time_stamp")
    return found


def rows(value: object, thing: str) -> Numbers:
    """An array, or a list of numbers or of arrays, as float64 [rows, width]."""
    parts = [value] if isinstance(value, Array) else value
    if not isinstance(parts, list) or not 1 <= len(parts) <= MAX_ROWS:
        raise refused(f"1 to {MAX_ROWS} rows of {thing}", type(value).__name__)
    plain = [each.value if isinstance(each, Array) else each for each in parts]
    try:
        stacked = np.array(plain[0] if isinstance(value, Array) else plain, dtype="<f8")
    except (TypeError, ValueError) as cause:
        raise refused(f"numbers as {thing}", "something else") from cause
    if stacked.ndim not in (1, 2) or len(stacked) > MAX_ROWS or stacked.size > MAX_ROWS * MAX_WIDTH:
        raise refused(f"rows of {thing}", f"shape {stacked.shape}")
    return stacked.reshape(len(stacked), -1)


def main() -> None:
    """Confine, read, interpret, answer. Arguments: memory in bytes, processor time in seconds."""
    memory_bytes, cpu_s = (int(argument) for argument in sys.argv[1:])
    confine(memory_bytes=memory_bytes, cpu_s=cpu_s)
    pickled = sys.stdin.buffer.read(MAX_PICKLE_BYTES + 1)
    try:
        if len(pickled) > MAX_PICKLE_BYTES:
            raise refused(f"at most {MAX_PICKLE_BYTES} bytes", "more")
        found = numbers_of(pickled)
    except PickleRefused as no:
        write(sys.stdout.buffer, {"refused": {key: no.parts[key] for key in ("expected", "found")}})
        return
    shapes = {name: list(array.shape) for name, array in found.items()}
    write(sys.stdout.buffer, {"shapes": shapes}, found.values())


if __name__ == "__main__":
    main()
