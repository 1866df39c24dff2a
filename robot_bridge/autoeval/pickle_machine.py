"""An interpreter for the few pickle opcodes that plain records are made of. It can build, and cannot call.

AutoEval publishes pickles, and Python's own unpickler runs whatever a pickle names. It is not used here: this
machine knows the opcodes of numbers, text, lists, dicts and tuples, and the few names that AutoEval's records
hold are marks to it, not things that could be called. Whatever else a pickle names is refused by that name.
What the values mean is not known here; `unpickle_child` runs this in a process of its own.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from robot_bridge.autoeval.errors import PickleRefused

MAX_OPCODES: Final = 2_000_000  # a record of 400 steps has some 40,000
MAX_SIDE: Final = 100_000_000  # of one axis of an array

TRAJECTORY: Final = "robot_eval_logger.typing.traj_data TrajData"
RECONSTRUCT: Final = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
SCALAR: Final = ("numpy.core.multiarray scalar", "numpy._core.multiarray scalar")
NDARRAY: Final = "numpy ndarray"
DTYPE: Final = "numpy dtype"
NAMES: Final = frozenset({TRAJECTORY, NDARRAY, DTYPE, *RECONSTRUCT, *SCALAR})
DTYPES: Final = frozenset(["b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"])
BYTE_ORDERS: Final = frozenset("<>|=")
MARK: Final = object()


def refused(expected: str, found: str) -> PickleRefused:
    return PickleRefused(thing="the pickle", expected=expected, found=found[:200])


class Name(str):
    """A global that a pickle names; only a mark."""

    __slots__ = ()


class Stub:
    """An object of a class that is known by name only, and what it was built with."""

    def __init__(self, name: Name) -> None:
        self.name = name
        self.state: dict[str, Any] = {}

    def build(self, state: object) -> None:
        if not isinstance(state, dict):
            raise refused(f"a dict as the state of {self.name}", type(state).__name__)
        self.state = state


class Dtype:
    """A numpy dtype of plain numbers."""

    def __init__(self, code: object) -> None:
        if type(code) is not str or code not in DTYPES:
            raise refused("arrays of plain numbers", f"dtype {code if type(code) is str else type(code)}")
        self.code, self.order = code, "<"

    def build(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise refused("a dtype without fields", "one with fields")
        if type(state[1]) is not str or state[1] not in BYTE_ORDERS:
            raise refused("a byte order", "something else")
        self.order = state[1]

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order.replace("=", "<") + self.code)


class Array:
    """A numpy array that is being built; `value` once its bytes are there."""

    def __init__(self) -> None:
        self.value: np.ndarray[Any, Any] = np.zeros(0, np.uint8)

    def build(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise refused("an array's state of five parts", type(state).__name__)
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, Dtype) or not isinstance(raw, bytes | bytearray):
            raise refused("an array of plain numbers", f"bytes as {type(raw).__name__}")
        if not isinstance(shape, tuple) or len(shape) > 4 or not all(_is_size(side) for side in shape):
            raise refused("at most four sizes", "another shape")
        if math.prod(shape) * dtype.numpy.itemsize != len(raw):
            raise refused(f"{math.prod(shape) * dtype.numpy.itemsize} bytes of array", f"{len(raw)} bytes")
        self.value = np.frombuffer(raw, dtype=dtype.numpy).reshape(shape, order="F" if fortran else "C")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= MAX_SIDE


class Machine:
    """Interprets a pickle's opcodes over a stack of plain values. One run, one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, pickled: bytes) -> object:
        """The value that the pickle describes.

        Raises:
            PickleRefused: an opcode or a name that plain records do not need, or a broken pickle.
        """
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(pickled))):
                if count > MAX_OPCODES:
                    raise refused(f"at most {MAX_OPCODES} opcodes", "more")
                if opcode.name == "STOP":
                    return self.pop()
                self.step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeError) as cause:
            raise refused("a whole pickle", f"a broken one ({type(cause).__name__})") from cause
        raise refused("a whole pickle", "one without an end")

    def step(self, name: str, argument: object) -> None:
        if name in PUSHES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in STEPS:
            STEPS[name](self, argument)
        elif name not in IGNORED:
            raise refused("opcodes of plain values", f"opcode {name}")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise refused("a whole pickle", "a broken one (a mark where a value belongs)")
        return value

    def pop_to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:
            at -= 1
            if at < 0:
                raise refused("a whole pickle", "a broken one (no mark)")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def tuple_of(self, size: int) -> None:
        values = [self.pop() for _ in range(size)]
        self.stack.append(tuple(reversed(values)))

    def dict_of(self, pairs: list[Any]) -> None:
        self.stack.append({})
        self.set_items(pairs)

    def append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise refused("a list to append to", type(self.stack[-1]).__name__)
        self.stack[-1].extend(values)

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise refused("a dict to fill", type(target).__name__)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in {str, int}:
                raise refused("text or whole numbers as keys", type(key).__name__)
            target[key] = value

    def remember(self, key: int) -> None:
        self.memo[int(key)] = self.stack[-1]

    def recall(self, key: int) -> None:
        self.stack.append(self.memo[int(key)])

    def name(self, full: str) -> None:
        module, _, name = full.partition(" ")
        is_histogram = (module == "wandb" or module.startswith("wandb.")) and name == "Histogram"
        if full not in NAMES and not is_histogram:
            raise refused("numpy arrays, TrajData and wandb histograms", f"global {module}.{name}")
        self.stack.append(Name(full))

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise refused("a name as text", type(name).__name__)
        self.name(f"{module} {name}")

    def reduce(self) -> None:
        arguments, name = self.pop(), self.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise refused("a call of a known name", type(name).__name__)
        if name in RECONSTRUCT and arguments and arguments[0] == NDARRAY:
            self.stack.append(Array())
        elif name == DTYPE and arguments:
            self.stack.append(Dtype(arguments[0]))
        elif name in SCALAR and len(arguments) == 2 and isinstance(arguments[0], Dtype):
            self.stack.append(np.frombuffer(arguments[1], dtype=arguments[0].numpy, count=1)[0].item())
        else:
            raise refused("a call that makes an array", f"a call of {name}")

    def new_object(self) -> None:
        arguments, name = self.pop(), self.pop()
        if not isinstance(name, Name) or arguments != () or not name.endswith((" TrajData", " Histogram")):
            found = name if isinstance(name, Name) else type(name).__name__
            raise refused("an object of TrajData or of a histogram", found)
        self.stack.append(Stub(name))

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if not isinstance(target, Stub | Dtype | Array):
            raise refused("an object to fill", type(target).__name__)
        target.build(state)


IGNORED: Final = frozenset({"PROTO", "FRAME"})
PUSHES: Final = (  # opcodes whose argument is the value
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
CONSTANTS: Final[dict[str, Callable[[], object]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: MARK,
}
STEPS: Final[dict[str, Callable[[Machine, Any], object]]] = {
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "DICT": lambda m, _: m.dict_of(m.pop_to_mark()),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    "PUT": lambda m, key: m.remember(key),
    "BINPUT": lambda m, key: m.remember(key),
    "LONG_BINPUT": lambda m, key: m.remember(key),
    "GET": lambda m, key: m.recall(key),
    "BINGET": lambda m, key: m.recall(key),
    "LONG_BINGET": lambda m, key: m.recall(key),
    "GLOBAL": lambda m, full: m.name(str(full)),
    "STACK_GLOBAL": lambda m, _: m.stack_name(),
    "REDUCE": lambda m, _: m.reduce(),
    "NEWOBJ": lambda m, _: m.new_object(),
    "BUILD": lambda m, _: m.build(),
}
