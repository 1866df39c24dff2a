"""Step arrays: strict about shape, type, finiteness and time; the same bytes every time; no pickle."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_bridge.errors import BadArray, StepsCorrupt
from robot_bridge.steps import ALWAYS, LAYOUT, StepArrays
from tests.robot_bridge.builders import some_steps, with_array

STEPS = some_steps(4)
NPZ = STEPS.to_npz()


def rezipped(**changes: bytes | None) -> bytes:
    """The archive with entries replaced, added, or, with None, left out."""
    with zipfile.ZipFile(io.BytesIO(NPZ)) as archive:
        entries: dict[str, bytes | None] = {
            n.removesuffix(".npy"): archive.read(n) for n in archive.namelist()
        }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {**entries, **changes}.items():
            if content is not None:
                archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(array: np.ndarray, *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


@pytest.mark.parametrize("name", LAYOUT)
def test_every_array_comes_back_bit_for_bit(name):
    again = getattr(StepArrays.from_npz(NPZ), name)
    original = getattr(STEPS, name)
    assert again.dtype == original.dtype
    np.testing.assert_array_equal(again, original)


def test_numpy_itself_reads_what_was_written():
    with np.load(io.BytesIO(NPZ), allow_pickle=False) as archive:
        assert sorted(archive.files) == sorted(LAYOUT)
        np.testing.assert_array_equal(archive["raw_action"], STEPS.raw_action)


def test_equal_arrays_are_equal_bytes_even_when_their_memory_is_laid_out_differently():
    assert some_steps(4).to_npz() == NPZ
    assert with_array(STEPS, "state", np.asfortranarray).to_npz() == NPZ
    assert some_steps(4, seed=1).to_npz() != NPZ
    with zipfile.ZipFile(io.BytesIO(NPZ)) as archive:  # nor do they say when they were written
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_there_is_one_observation_more_than_there_are_actions():
    spec = STEPS.spec()
    assert STEPS.count == 4
    assert spec["raw_action"] == ("f4", (4, 7))
    assert spec["state"] == ("f4", (5, 7))
    assert spec["qpos"] == ("f4", (5, 8))
    assert spec["t_obs"] == ("f8", (5,))
    assert spec["flags"] == ("u4", (4,))


@pytest.mark.parametrize("name", [name for name in LAYOUT if name != "raw_action"])
@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: np.concatenate([a, a[-1:]])])
def test_one_row_too_few_or_too_many_is_refused(name, change):
    with pytest.raises(BadArray, match=name):
        with_array(STEPS, name, change)


@pytest.mark.parametrize("name", LAYOUT)
def test_another_dtype_is_refused_and_not_converted(name):
    with pytest.raises(BadArray, match=name):
        with_array(STEPS, name, lambda a: a.astype(np.int64))


@pytest.mark.parametrize("name", [name for name in LAYOUT if name != "flags"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused(name, bad):
    def spoil(array: np.ndarray) -> np.ndarray:
        array[-1] = bad
        return array

    with pytest.raises(BadArray):
        with_array(STEPS, name, spoil)


def test_an_episode_without_a_step_is_refused():
    with pytest.raises(BadArray, match="at least one step"):
        with_array(STEPS, "raw_action", lambda a: a[:0])


@pytest.mark.parametrize(
    ("t_obs", "t_cmd", "ordered"),
    [
        ([0.0, 0.2, 0.4], [0.0, 0.2], True),
        ([0.0, 0.2, 0.4], [0.2, 0.4], True),
        ([0.0, 0.0, 0.0], [0.0, 0.0], True),
        ([0.0, 0.2, 0.4], [0.3, 0.3], False),  # a_0 after o_1
        ([0.0, 0.2, 0.4], [0.1, 0.1], False),  # a_1 before o_1
        ([0.4, 0.2, 0.0], [0.4, 0.2], False),
    ],
)
def test_an_action_is_commanded_between_its_observation_and_the_next(t_obs, t_cmd, ordered):
    times = {"t_obs": np.array(t_obs), "t_cmd": np.array(t_cmd)}
    if ordered:
        assert some_steps(2, **times).count == 2
    else:
        with pytest.raises(BadArray, match="t_cmd"):
            some_steps(2, **times)


@given(st.integers(0, len(NPZ) - 1))
def test_an_archive_that_ends_too_early_is_refused(length):
    with pytest.raises(StepsCorrupt):
        StepArrays.from_npz(NPZ[:length])


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"state": None}, "arrays"),
        ({"extra": npy(np.zeros(3))}, "arrays"),
        ({"state": npy(np.zeros((5, 7)))}, "state"),
        ({"state": npy(np.zeros((5, 6), dtype=np.float32))}, "state"),
        ({"state": npy(np.asfortranarray(np.ones((5, 7), dtype=np.float32)))}, "state"),
        ({"state": npy(STEPS.state)[:-4]}, "state"),
        ({"state": npy(STEPS.state).replace(b"(5, 7)", b"(5, 9)")}, "state"),
        ({"state": b"not an array"}, "archive"),
        ({"state": b""}, "archive"),
        ({"state": npy(np.full((5, 7), np.nan, dtype=np.float32))}, "state"),
        ({"flags": npy(np.arange(4))}, "flags"),
    ],
)
def test_an_archive_with_other_contents_is_refused(changes, about):
    with pytest.raises(StepsCorrupt, match=about):
        StepArrays.from_npz(rezipped(**changes))


def test_an_array_of_objects_is_refused_before_anything_is_unpickled():
    tripwire = Tripwire()
    with pytest.raises(StepsCorrupt):
        StepArrays.from_npz(rezipped(state=npy(np.array([tripwire] * 5, dtype=object), pickled=True)))
    assert Tripwire.unpickled == 0


def test_a_header_that_claims_more_than_is_there_costs_no_memory():
    header = npy(STEPS.state).replace(b"(5, 7), }            ", b"(5, 7000000000000), }")
    assert b"7000000000000" in header
    with pytest.raises(StepsCorrupt, match="state"):
        StepArrays.from_npz(rezipped(state=header))


def test_an_archive_as_large_as_no_episode_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in LAYOUT:
            archive.writestr(f"{name}.npy", bytes(8 * 1024 * 1024))
    assert len(buffer.getvalue()) < 1024 * 1024
    with pytest.raises(StepsCorrupt, match="unpacked size"):
        StepArrays.from_npz(buffer.getvalue())


class Tripwire:
    """Counts how often it is made by unpickling."""

    unpickled = 0

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return Tripwire._spring, ()

    @staticmethod
    def _spring() -> None:
        Tripwire.unpickled += 1


@pytest.mark.parametrize("name", sorted(set(LAYOUT) - set(ALWAYS)))
def test_what_a_robot_does_not_tell_is_absent_and_stays_so(name):
    arrays = some_steps(3, **{name: None})
    again = StepArrays.from_npz(arrays.to_npz())
    assert getattr(again, name) is None
    assert name not in again.spec()
    assert again.present == arrays.present


def test_an_episode_without_any_idea_of_what_moved_the_robot_is_refused():
    with pytest.raises(BadArray, match="neither"):
        some_steps(3, executed_action=None, predicted_executed=None)


def test_what_moved_the_robot_is_what_ran_and_else_what_must_have_run():
    arrays = some_steps(3)
    np.testing.assert_array_equal(arrays.motion, arrays.executed_action)
    unknown = some_steps(3, executed_action=None)
    np.testing.assert_array_equal(unknown.motion, unknown.predicted_executed)
