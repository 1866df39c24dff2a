"""Writes AutoEval's recordings as pickles, opcode by opcode: nothing here can read or run one.

The recordings name classes of packages that are not installed here (robot_eval_logger, wandb). Python's own
pickler would need those modules in the interpreter; this writer needs their names only. It knows just what
those recordings hold: plain values, containers, numpy arrays and instances of a named class.

Source: PEP 3154 (protocol 4), and `pickletools` for the opcodes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from robot_bridge.autoeval.emulator.errors import UnwritablePickle

PROTO_4: Final = b"\x80\x04"
STOP: Final = b"."
MARK: Final = b"("
NONE, TRUE, FALSE = b"N", b"\x88", b"\x89"
LONG1: Final = b"\x8a"
BINFLOAT: Final = b"G"
SHORT_BINUNICODE, BINUNICODE = b"\x8c", b"X"
SHORT_BINBYTES, BINBYTES = b"C", b"B"
EMPTY_TUPLE, TUPLE = b")", b"t"
EMPTY_LIST, APPENDS = b"]", b"e"
EMPTY_DICT, SETITEMS = b"}", b"u"
STACK_GLOBAL, REDUCE, NEWOBJ, BUILD = b"\x93", b"R", b"\x81", b"b"
LITTLE_ENDIAN_STATE: Final = (3, "<", None, None, None, -1, -1, 0)  # what numpy keeps about a dtype
BYTE_STATE: Final = (3, "|", None, None, None, -1, -1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An object of a class that need not exist here: its module, its name, its attributes."""

    module: str
    name: str
    attributes: dict[str, Any]


def pickled(value: Any, *, numpy_module: str = "numpy.core") -> bytes:
    """One value as a pickle of protocol 4, as an installation with that numpy would have written it.

    Raises:
        UnwritablePickle: something in it is no plain value, container, numeric array or `Instance`.
    """
    return PROTO_4 + _Writer(numpy_module).write(value) + STOP


class _Writer:
    def __init__(self, numpy_module: str) -> None:
        self._numpy = numpy_module

    def write(self, value: Any) -> bytes:
        if value is None or isinstance(value, bool):
            return {None: NONE, True: TRUE, False: FALSE}[value]
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, Instance):
            return self._instance(value)
        if isinstance(value, int | float | str | bytes):
            return _scalar(value)
        return self._container(value)

    def _container(self, value: Any) -> bytes:
        if isinstance(value, tuple):
            return MARK + b"".join(map(self.write, value)) + TUPLE if value else EMPTY_TUPLE
        if isinstance(value, list):
            return EMPTY_LIST + MARK + b"".join(map(self.write, value)) + APPENDS
        if isinstance(value, dict):
            pairs = b"".join(self.write(part) for pair in value.items() for part in pair)
            return EMPTY_DICT + MARK + pairs + SETITEMS
        raise UnwritablePickle(found=type(value).__name__)

    def _global(self, module: str, name: str) -> bytes:
        return _scalar(module) + _scalar(name) + STACK_GLOBAL

    def _instance(self, value: Instance) -> bytes:
        attributes = self.write(value.attributes)
        return self._global(value.module, value.name) + EMPTY_TUPLE + NEWOBJ + attributes + BUILD

    def _array(self, array: NDArray[Any]) -> bytes:
        if array.dtype.kind not in "biuf":
            raise UnwritablePickle(found=f"array of {array.dtype}")
        kept = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        make = self._global(f"{self._numpy}.multiarray", "_reconstruct")
        empty = MARK + self._global("numpy", "ndarray") + self.write((0,)) + _scalar(b"b") + TUPLE
        state = MARK + self.write(1) + self.write(array.shape) + self._dtype(kept.dtype) + FALSE
        return make + empty + REDUCE + state + _scalar(kept.tobytes()) + TUPLE + BUILD

    def _dtype(self, dtype: np.dtype[Any]) -> bytes:
        made = self._global("numpy", "dtype") + self.write((dtype.str[1:], False, True)) + REDUCE
        return made + self.write(BYTE_STATE if dtype.itemsize == 1 else LITTLE_ENDIAN_STATE) + BUILD


def _scalar(value: int | float | str | bytes) -> bytes:
    if isinstance(value, str):
        return _sized(value.encode("utf-8", "surrogatepass"), SHORT_BINUNICODE, BINUNICODE)
    if isinstance(value, bytes):
        return _sized(value, SHORT_BINBYTES, BINBYTES)
    if isinstance(value, float):
        return BINFLOAT + struct.pack(">d", value)
    length = value.bit_length() // 8 + 1
    return LONG1 + bytes([length]) + value.to_bytes(length, "little", signed=True)


def _sized(content: bytes, short: bytes, long: bytes) -> bytes:
    if len(content) < 256:
        return short + bytes([len(content)]) + content
    return long + struct.pack("<I", len(content)) + content
