"""The emulator's recordings are pickles as AutoEval writes them, of packages that are not installed."""

from __future__ import annotations

import io
import pickle
import pickletools
import sys

import numpy as np
import pytest

from robot_bridge.autoeval.emulator.errors import UnwritablePickle
from robot_bridge.autoeval.emulator.pickles import Instance, pickled
from robot_bridge.autoeval.pickle_machine import Machine, Stub


class Named:
    """Stands for any class of a package that is not installed here."""


class Reader(pickle.Unpickler):
    """Python's own unpickler, with numpy's names of today and an empty class for everything else."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.names: list[str] = []

    def find_class(self, module: str, name: str) -> object:
        self.names.append(f"{module}.{name}")
        if module.startswith("numpy"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        return Named


PLAIN = [
    *(None, True, False, 0, 1, -1, 127, 128, -128, 255, 256, 2**31, -(2**40), 2**70),
    *(0.0, -1.5, float("inf"), "", "a", "é" * 200, "x" * 70_000, b"", b"\x00\xff" * 300),
    *([], [1, [2, []]], (), (1,), (1, 2, 3, 4), {}, {"a": 1, "b": {"c": [None]}}),
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:24])
def test_plain_values_come_back_from_pythons_own_unpickler(value):
    assert pickle.loads(pickled(value)) == value  # noqa: S301 - written one line above
    assert type(pickle.loads(pickled(value))) is type(value)  # noqa: S301


@pytest.mark.parametrize("dtype", ["u1", "i4", "<f4", ">f8", "b1", "f2"])
def test_arrays_come_back_with_shape_type_and_numbers(dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    back = Reader(pickled(array)).load()
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype.newbyteorder("<")
    back[...] = 0  # a normal array, not a view of something read-only


def test_an_array_that_is_not_contiguous_keeps_its_order():
    array = np.arange(12).reshape(3, 4).T[::2]
    np.testing.assert_array_equal(Reader(pickled(array)).load(), array)


def test_an_empty_array_has_its_shape():
    assert Reader(pickled(np.zeros((0, 7), np.float32))).load().shape == (0, 7)


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_arrays_name_numpy_as_the_writers_version_does(module):
    reader = Reader(pickled(np.zeros(3), numpy_module=module))
    reader.load()
    assert reader.names == [f"{module}.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype"]


def test_an_instance_names_its_class_and_needs_no_such_package():
    before = set(sys.modules)
    record = Instance(module="wandb.sdk.data_types.histogram", name="Histogram", attributes={"bins": [1]})
    reader = Reader(pickled({"max_joint_efforts": record}))
    back = reader.load()["max_joint_efforts"]
    assert reader.names == ["wandb.sdk.data_types.histogram.Histogram"]
    assert vars(back) == {"bins": [1]}
    assert not any(name.startswith(("wandb", "robot_eval_logger")) for name in set(sys.modules) - before)


def test_the_format_is_protocol_4_and_well_formed():
    content = pickled({"a": [np.zeros((2, 2), np.uint8), 1.5, "text"]})
    opcodes = [opcode.name for opcode, _, _ in pickletools.genops(content)]
    assert opcodes[0] == "PROTO" and content[1] == 4
    assert opcodes[-1] == "STOP"
    pickletools.dis(content, out=io.StringIO())  # checks the stack and the marks


def test_the_adapters_own_interpreter_reads_them_too():
    record = Instance(
        module="robot_eval_logger.typing.traj_data",
        name="TrajData",
        attributes={"proprio": [np.arange(8, dtype=np.float32)], "success": True},
    )
    read = Machine().run(pickled(record))
    assert isinstance(read, Stub)
    assert read.state["success"] is True
    np.testing.assert_array_equal(read.state["proprio"][0].value, np.arange(8))


@pytest.mark.parametrize(
    ("value", "found"),
    [({1, 2}, "set"), (object(), "object"), (np.array(["a"]), "array of <U1"), (np.array([{}]), "array of")],
    ids=["set", "object", "text array", "object array"],
)
def test_what_recordings_never_hold_is_refused(value, found):
    with pytest.raises(UnwritablePickle, match=found):
        pickled([value])
