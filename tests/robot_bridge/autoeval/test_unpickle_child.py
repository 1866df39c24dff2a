"""What a record must hold, and what the child takes from it; the process itself is tested with `unpickle`."""

from __future__ import annotations

import io
import json
import os
import pickle
from typing import Any

import numpy as np
import pytest

from robot_bridge.autoeval.errors import PickleRefused
from robot_bridge.autoeval.unpickle_child import MAX_STEPS, answer_of, write
from tests.robot_bridge.autoeval.records import a_record, classes_of_autoeval, pickled_record


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"obs": {"image_wrist": []}}, "another camera or none"),
        ({"obs": {"image_primary": [np.zeros((8, 8, 3), np.uint8)]}}, r"uint8 \(8, 8, 3\)"),
        ({"obs": {"image_primary": [np.zeros((256, 256, 3), np.float32)]}}, "float32"),
        ({"obs": {"image_primary": []}}, "pictures"),
        ({"action": []}, "actions"),
        ({"action": [np.zeros(6, np.float32)]}, r"shape \(6,\)"),
        ({"action": [np.full(7, np.nan)]}, "finite"),
        ({"action": [np.full(7, 1e300)]}, "finite"),
        ({"action": ["seven77"]}, "7 numbers"),
        ({"action": [[0, 1, 2, 3, 4, 5, 10**400]]}, "7 numbers"),
        ({"action": [np.zeros(7, np.float32)] * 2}, "2 actions"),
        ({"proprio": [np.zeros(7, np.float32)]}, "proprios"),
        ({"language_command": 7}, "language_command"),
        ({"language_command": "x" * 501}, "language_command"),
        ({"success": "yes"}, "success"),
        ({"success": 2}, "success"),
    ],
    ids=lambda part: part.split(" ")[0] if isinstance(part, str) else "-".join(part),
)
def test_a_record_with_other_contents_is_refused(changes: dict[str, Any], refusal: str) -> None:
    with pytest.raises(PickleRefused, match=refusal):
        answer_of(pickled_record(a_record(steps=1, **changes)))


@pytest.mark.parametrize("missing", ["obs", "action", "proprio", "language_command"])
def test_a_record_without_one_of_its_parts_is_refused(missing: str) -> None:
    record = a_record(steps=1)
    del record[missing]
    with pytest.raises(PickleRefused):
        answer_of(pickled_record(record))


def test_arrays_of_objects_are_refused() -> None:
    record = a_record(steps=1, eval_rollout_time=np.array([{}, os.system], dtype=object))
    with pytest.raises(PickleRefused, match=r"dtype O8|global posix\.system"):
        answer_of(pickled_record(record))


def test_arrays_with_fields_are_refused() -> None:
    record = a_record(steps=1, eval_rollout_time=np.zeros(2, dtype=[("a", "f4"), ("b", "O")]))
    with pytest.raises(PickleRefused, match="dtype V12"):
        answer_of(pickled_record(record))


def test_one_picture_named_ten_thousand_times_is_not_multiplied() -> None:
    """The pickle is small, since all entries are the same picture; the answer would be gigabytes."""
    frame, action = np.zeros((256, 256, 3), np.uint8), np.zeros(7, np.float32)
    record = a_record(
        steps=1,
        obs={"image_primary": [frame] * 10_000},
        action=[action] * 10_000,
        proprio=[np.zeros(8, np.float32)] * 10_000,
    )
    with pytest.raises(PickleRefused, match=f"1 to {MAX_STEPS} of pictures"):
        answer_of(pickled_record(record))


def test_too_many_facts_are_cut_and_long_texts_too() -> None:
    record = a_record(steps=1, **{f"fact_{number}": "x" * 600 for number in range(100)})
    record["not an identifier"] = 1
    facts = answer_of(pickled_record(record))[0]["facts"]
    assert len(facts) == 64
    assert max(len(str(value)) for value in facts.values()) == 500
    assert "not an identifier" not in facts


@pytest.mark.parametrize(
    "value", [{"success": True}, [1, 2, 3], 7, None], ids=["dict", "list", "int", "none"]
)
def test_something_else_than_a_record_is_refused_by_its_kind(value: object) -> None:
    with pytest.raises(PickleRefused, match=f"asks for {type(value).__name__}, allowed is a TrajData"):
        answer_of(pickle.dumps(value))


def test_a_histogram_alone_is_no_record() -> None:
    with classes_of_autoeval() as classes:
        alone = pickle.dumps(classes["Histogram"]())
    with pytest.raises(PickleRefused, match="a TrajData"):
        answer_of(alone)


def test_numbers_that_json_cannot_say_are_no_facts() -> None:
    record = a_record(steps=1, huge=2**70, odd=float("nan"), nested={"a": 1}, kept=2.5)
    facts = answer_of(pickled_record(record))[0]["facts"]
    assert facts["kept"] == 2.5
    assert facts.keys().isdisjoint({"huge", "odd", "nested", "max_joint_efforts"})


def test_the_answer_is_one_line_and_then_exactly_the_bytes_of_the_arrays() -> None:
    out = io.BytesIO()
    write(out, *answer_of(pickled_record(a_record(steps=2))))
    line, _, body = out.getvalue().partition(b"\n")
    assert json.loads(line)["steps"] == 2
    assert len(body) == 2 * (256 * 256 * 3 + 7 * 4 + 8 * 4)
