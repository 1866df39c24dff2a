"""The machine builds plain values and refuses the rest by name, whatever the opcodes say."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from robot_bridge.autoeval.errors import PickleRefused
from robot_bridge.autoeval.pickle_machine import Array, Machine, Stub
from tests.robot_bridge.autoeval.records import TRAJECTORY_MODULE, a_record, pickled_record


def run(pickled: bytes) -> object:
    return Machine().run(pickled)


def opcodes(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


def named(module: str, name: str) -> bytes:
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_values_come_out_as_pythons_own_unpickler_gives_them(protocol: int) -> None:
    plain = {
        "numbers": [0, 1, 255, 256, 65_536, -7, 2**40, -(2**70), 1.5, float("inf")],
        "texts": ["", "ü", "x" * 300],
        "rest": [None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, {3: []}],
    }
    plain["again"] = plain["texts"]
    found = run(pickle.dumps(plain, protocol=protocol))
    assert found == plain
    assert isinstance(found, dict)
    assert found["again"] is found["texts"]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bytes_come_out_whole(protocol: int) -> None:
    assert run(pickle.dumps([b"", b"ab", b"x" * 300], protocol=protocol)) == [b"", b"ab", b"x" * 300]
    assert run(pickle.dumps(bytearray(b"abc"), protocol=5)) == b"abc"


@pytest.mark.parametrize("code", ["b1", "i1", "u1", ">i2", "<u2", "i4", ">u4", "i8", "u8", "f2", "f4", ">f8"])
def test_arrays_and_scalars_of_plain_numbers_come_out_equal(code: str) -> None:
    array = np.arange(6).astype(code).reshape(2, 3)
    for written in (array, np.asfortranarray(array), np.zeros((0, 3), code), array[:, :0]):
        found = run(pickle.dumps(written, protocol=4))
        assert isinstance(found, Array)
        assert found.value.dtype == written.dtype
        np.testing.assert_array_equal(found.value, written)
    assert run(pickle.dumps(array[1, 2], protocol=4)) == array[1, 2].item()


def test_numpy_one_and_numpy_two_name_their_modules_differently_and_both_are_known() -> None:
    newer = pickle.dumps(np.arange(3), protocol=4)
    older = newer.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
    assert older != newer
    for pickled in (newer, older):
        found = run(pickled)
        assert isinstance(found, Array)
        assert found.value.tolist() == [0, 1, 2]


def test_a_record_is_a_stub_with_its_attributes_and_nothing_of_the_class() -> None:
    found = run(pickled_record(a_record(steps=1)))
    assert isinstance(found, Stub)
    assert found.name == f"{TRAJECTORY_MODULE} TrajData"
    assert found.state["language_command"] == "open the drawer"
    assert isinstance(found.state["max_joint_efforts"], Stub)


# -- what is not a record -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pickled", "refusal"),
    [
        (b"", "a broken one"),
        (b"\x80\x04", "a broken one|without an end"),
        (b"not a pickle at all", "a broken one|opcode"),
        (pickled_record(a_record(steps=1))[:-200], "a broken one"),
        (pickle.dumps(OrderedDict()), "global collections.OrderedDict"),
        (pickle.dumps({1, 2}), "opcode EMPTY_SET"),
        (opcodes(b"0"), "a broken one"),
        (opcodes(b"e"), "a broken one"),
        (opcodes(b"(0e"), "a broken one"),
        (opcodes(b"(\x85"), "a mark where"),
        (opcodes(b"h\x05"), "a broken one"),
        (opcodes(b"R"), "a broken one"),
        (opcodes(b"NNR"), "a call of a known name"),
        (opcodes(b"NNb"), "an object to fill"),
        (opcodes(b"NNa"), "a list to append to"),
        (opcodes(b"NNNs"), "a dict to fill"),
        (opcodes(b"}NNs"), "text or whole numbers as keys"),
        (opcodes(b"NN\x93"), "a name as text"),
        (opcodes(b"N)\x81"), "an object of TrajData"),
        (opcodes(named("numpy", "dtype") + b")\x81"), "numpy dtype"),
        (opcodes(named("numpy", "dtype") + b")R"), "a call of numpy dtype"),
        (opcodes(named(TRAJECTORY_MODULE, "TrajData") + b")R"), "TrajData"),
        (opcodes(named(TRAJECTORY_MODULE, "TrajData") + b")\x81Nb"), "a dict as the state"),
        (opcodes(named("wandb", "Table")), "global wandb.Table"),
        (opcodes(named("wandbevil", "Histogram")), "global wandbevil.Histogram"),
        (opcodes(named("numpy.core.multiarray", "fromfile")), "global numpy.core.multiarray.fromfile"),
        (opcodes(b"P1\n"), "opcode PERSID"),
        (opcodes(b"\x82\x01"), "opcode EXT1"),
        (b"cos\nsystem\n(S'true'\ntR.", "global os.system"),
        (b"(ios\nsystem\n.", "opcode INST"),
    ],
    ids=lambda part: None if isinstance(part, bytes) else part.replace(" ", "-"),
)
def test_what_is_no_plain_record_is_refused(pickled: bytes, refusal: str) -> None:
    with pytest.raises(PickleRefused, match=refusal):
        run(pickled)


# -- bombs --------------------------------------------------------------------------------------------------


def array_of(shape: bytes, raw: bytes) -> bytes:
    """Opcodes of a uint8 array with any shape over any bytes."""
    dtype = named("numpy", "dtype") + b"\x8c\x02u1\x89\x88\x87R"
    made = (
        named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
    )
    return made + b"(K\x01" + shape + dtype + b"\x89" + b"B" + struct.pack("<I", len(raw)) + raw + b"tb"


@pytest.mark.parametrize(
    ("shape", "refusal"),
    [
        (b"J\xff\xff\xff\x7f\x85", "bytes of array|at most four sizes"),
        (b"J\x00\x00\x01\x00J\x00\x00\x01\x00\x86", "bytes of array"),
        (b"J\xff\xff\xff\xff\x85", "at most four sizes"),
        (b"(K\x01K\x01K\x01K\x01K\x01t", "at most four sizes"),
        (b"N", "at most four sizes"),
    ],
    ids=["too long", "huge product", "negative", "five axes", "none"],
)
def test_an_array_that_claims_more_than_its_bytes_allocates_nothing(shape: bytes, refusal: str) -> None:
    with pytest.raises(PickleRefused, match=refusal):
        run(opcodes(array_of(shape, b"abc")))


@pytest.mark.parametrize(
    "claim",
    [
        b"B\xff\xff\xff\xff",
        b"\x8e" + b"\xff" * 7 + b"\x7f",
        b"\x96" + b"\xff" * 7 + b"\x7f",
        b"X\xff\xff\xff\x7f",
    ],
    ids=["bytes", "bytes8", "bytearray8", "text"],
)
def test_a_length_that_is_not_there_is_refused(claim: bytes) -> None:
    with pytest.raises(PickleRefused, match="a broken one"):
        run(opcodes(claim))


def test_lists_within_lists_a_hundred_thousand_deep_do_no_harm() -> None:
    deep = run(opcodes(b"]" * 100_000 + b"a" * 99_999))
    depth = 1
    while isinstance(deep, list) and deep:
        (deep,) = deep
        depth += 1
    assert depth == 100_000


DOUBLING = b"K\x01" + b"".join(b"\x94h" + bytes([step]) + b"\x86" for step in range(60))


def test_a_memo_that_doubles_itself_costs_one_tuple_a_step() -> None:
    """A tuple of two of the one before, sixty times: 2**60 leaves for whoever walks over them all."""
    found, depth = run(opcodes(DOUBLING)), 0
    while isinstance(found, tuple):
        assert found[0] is found[1] or depth == 59
        found, depth = found[0], depth + 1
    assert (found, depth) == (1, 60)


def test_the_doubling_memo_is_not_walked_in_any_argument_either() -> None:
    for body in (
        named("numpy", "dtype") + DOUBLING + b"R",
        named("numpy", "dtype") + DOUBLING + b"\x85R",
        named("numpy.core.multiarray", "scalar") + DOUBLING + b"R",
        DOUBLING + b")\x81",
        named(TRAJECTORY_MODULE, "TrajData") + DOUBLING + b"\x81",
        array_of(b"K\x03\x85", b"abc")[: -len(b"tb")] + DOUBLING + b"tb",
        b"}" + DOUBLING + b"Ns",
    ):
        with pytest.raises(PickleRefused):
            run(opcodes(body))


def test_a_list_that_holds_itself_is_no_trap() -> None:
    found = run(opcodes(b"]\x94h\x00a"))
    assert isinstance(found, list)
    assert found[0] is found


def test_more_opcodes_than_any_record_has_are_not_interpreted() -> None:
    with pytest.raises(PickleRefused, match="at most 2000000 opcodes"):
        run(opcodes(b"N0" * 1_000_001))
