"""An ended attempt: what may be in it, and that a folder gives back exactly what was put there or refuses."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from robot_bridge.autoeval.attempt import (
    ARRAYS,
    ARRAYS_FILE,
    FACTS_FILE,
    FRAMES_FILE,
    Attempt,
    AttemptCorrupt,
)
from tests.robot_bridge.autoeval.gateway_builders import an_attempt


def require_equal(found: Attempt, expected: Attempt) -> None:
    for field in dataclasses.fields(Attempt):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        else:
            assert one == other, field.name


@pytest.mark.parametrize("steps", [1, 3])
def test_a_folder_gives_back_what_was_saved(tmp_path, steps):
    attempt = an_attempt(steps)
    attempt.save(tmp_path / "7")
    require_equal(Attempt.load(tmp_path / "7"), attempt)
    assert attempt.steps == steps


@pytest.mark.parametrize("ended_by", ["reset", "idle", "job", "recovered"])
@pytest.mark.parametrize("rotation", ["raw", "bridge_compensated"])
def test_how_it_was_driven_and_ended_is_kept(tmp_path, ended_by, rotation):
    an_attempt(ended_by=ended_by, rotation=rotation).save(tmp_path / "7")
    loaded = Attempt.load(tmp_path / "7")
    assert (loaded.ended_by, loaded.rotation) == (ended_by, rotation)


def test_wall_times_may_be_unknown(tmp_path):
    an_attempt(wall_recv=None).save(tmp_path / "7")
    assert Attempt.load(tmp_path / "7").wall_recv is None


def test_times_of_another_zone_come_back_as_the_same_moment(tmp_path):
    there = datetime(2026, 1, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    an_attempt(started_at=there).save(tmp_path / "7")
    assert Attempt.load(tmp_path / "7").started_at == datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def test_the_folder_holds_nothing_that_was_being_written(tmp_path):
    an_attempt().save(tmp_path / "7")
    assert [path.name for path in tmp_path.iterdir()] == ["7"]
    assert {path.name for path in (tmp_path / "7").iterdir()} == {FACTS_FILE, ARRAYS_FILE, FRAMES_FILE}


def test_a_folder_that_is_there_is_never_overwritten(tmp_path):
    first = an_attempt(seed=1)
    first.save(tmp_path / "7")
    with pytest.raises(OSError, match=r"not empty|exists"):
        an_attempt(seed=2).save(tmp_path / "7")
    require_equal(Attempt.load(tmp_path / "7"), first)
    assert [path.name for path in tmp_path.iterdir()] == ["7"]


def test_what_a_dead_program_left_half_written_is_no_obstacle(tmp_path):
    half = tmp_path / ".7.new"
    half.mkdir()
    (half / FRAMES_FILE).write_bytes(b"half")
    an_attempt().save(tmp_path / "7")
    require_equal(Attempt.load(tmp_path / "7"), an_attempt())
    assert not half.exists()


@pytest.mark.parametrize("name", [FACTS_FILE, ARRAYS_FILE, FRAMES_FILE])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other"])
def test_a_damaged_file_is_refused_with_its_folder_named(tmp_path, name, damage):
    an_attempt().save(tmp_path / "7")
    path = tmp_path / "7" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "cut": content[:-20], "other": b"[]"}[damage])
    with pytest.raises(AttemptCorrupt, match="cannot be joined") as refused:
        Attempt.load(tmp_path / "7")
    assert str(tmp_path) in str(refused.value)


def change_facts(folder: Path, **changes: object) -> None:
    path = folder / FACTS_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_name": "autoeval-attempt/2"},
        {"ended_by": "boredom"},
        {"rotation": "sideways"},
        {"index": -1},
        {"more": 1},
        {"started_at": "2026-01-01T12:00:00"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_facts_that_we_never_write_are_refused(tmp_path, changes):
    an_attempt().save(tmp_path / "7")
    change_facts(tmp_path / "7", **changes)
    with pytest.raises(AttemptCorrupt):
        Attempt.load(tmp_path / "7")


@pytest.mark.parametrize("change", ["less", "more"])
def test_arrays_are_exactly_those_of_the_schema(tmp_path, change):
    an_attempt().save(tmp_path / "7")
    path = tmp_path / "7" / ARRAYS_FILE
    with np.load(path) as stored:
        arrays = dict(stored)
    if change == "less":
        del arrays["sent_action"]
    else:
        arrays["extra"] = np.zeros(3)
    np.savez(path, **arrays)
    with pytest.raises(AttemptCorrupt, match=r"arrays\.npz must be"):
        Attempt.load(tmp_path / "7")


def test_one_array_is_not_the_arrays_of_an_attempt(tmp_path):
    an_attempt().save(tmp_path / "7")
    path = tmp_path / "7" / ARRAYS_FILE
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(AttemptCorrupt, match="one array, not several"):
        Attempt.load(tmp_path / "7")


def test_an_array_of_objects_is_never_unpickled(tmp_path):
    an_attempt().save(tmp_path / "7")
    np.savez(tmp_path / "7" / ARRAYS_FILE, proprio=np.array([{}], dtype=object))
    with pytest.raises(AttemptCorrupt, match="allow_pickle"):
        Attempt.load(tmp_path / "7")


@pytest.mark.parametrize("name", [name for name in ARRAYS if name != "fallback"])
def test_a_number_that_is_not_finite_is_refused(name):
    array = getattr(an_attempt(), name).copy()
    array.reshape(-1)[-1] = np.nan
    with pytest.raises(AttemptCorrupt, match=f"attempt 2 of job job-1: {name} must be finite"):
        an_attempt(**{name: array})


@pytest.mark.parametrize("name", list(ARRAYS))
def test_arrays_of_another_length_or_kind_are_refused(name):
    array = getattr(an_attempt(), name)
    with pytest.raises(AttemptCorrupt, match=name):
        an_attempt(**{name: array[:-1]})
    with pytest.raises(AttemptCorrupt, match=name):
        an_attempt(**{name: array.astype(np.int32)})


def test_an_attempt_without_a_step_is_none():
    with pytest.raises(AttemptCorrupt, match="jpegs must be at least one"):
        an_attempt(jpegs=())
