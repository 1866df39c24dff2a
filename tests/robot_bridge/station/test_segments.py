"""The journal's files by themselves: what is on disk after every way of ending."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_bridge.events import EventAnswer
from robot_bridge.station.segments import Segments
from tests.robot_bridge.builders import NOON


def events(*cursors: int) -> list[EventAnswer]:
    return [EventAnswer(cursor=cursor, at=NOON, kind="hold") for cursor in cursors]


def opened(folder: Path, *, segment_bytes: int = 10**6, segments_kept: int = 16) -> Segments:
    return Segments(folder, segment_bytes=segment_bytes, segments_kept=segments_kept)


def read(segments: Segments, after: int = 0) -> list[int]:
    return [event.cursor for event in segments.read(after, limit=100)]


def test_a_batch_is_written_up_to_the_first_gap_in_its_cursors(tmp_path):
    segments = opened(tmp_path)
    segments.append(events(1, 2, 5, 6))
    assert (segments.last, read(segments)) == (2, [1, 2])
    segments.append(events(5, 6))
    assert (read(segments), read(segments, 2), read(segments, 3)) == ([1, 2], [5, 6], [5, 6])
    segments.close()
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == [
        "000000000001.jsonl",
        "000000000005.jsonl",
    ]


def test_nothing_is_written_for_no_events(tmp_path):
    segments = opened(tmp_path)
    segments.append([])
    assert (segments.last, segments.oldest) == (0, 0)
    segments.close()


def test_closed_files_take_nothing(tmp_path):
    segments = opened(tmp_path)
    segments.close()
    with pytest.raises(OSError, match="closed"):
        segments.append(events(1))
    segments.close()


def test_a_full_segment_is_followed_by_a_new_one(tmp_path):
    segments = opened(tmp_path, segment_bytes=1, segments_kept=2)
    for cursor in (1, 2, 3):
        segments.append(events(cursor))
    assert (segments.oldest, read(segments), read(segments, 2)) == (2, [2], [3])
    segments.close()


@pytest.mark.parametrize("digits", [b"", b"x" * 20, b"-0000000000000000005", b"00000000000000000004"])
def test_a_ceiling_that_is_no_number_or_lower_changes_nothing(tmp_path, digits):
    segments = opened(tmp_path)
    segments.append(events(*range(1, 8)))
    segments.close()
    (tmp_path / "ceiling").write_bytes(digits)
    assert opened(tmp_path).last == 7


def test_a_ceiling_above_the_files_is_where_cursors_go_on(tmp_path):
    segments = opened(tmp_path)
    segments.append(events(1, 2))
    segments.raise_ceiling(9)
    segments.raise_ceiling(4)  # never down
    segments.close()
    segments = opened(tmp_path)
    assert segments.last == 9
    segments.append(events(10))
    assert (read(segments), read(segments, 2)) == ([1, 2], [10])
    segments.close()


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "notes.jsonl").write_text("mine")
    segments = opened(tmp_path)
    segments.append(events(1))
    segments.close()
    assert opened(tmp_path).last == 1
    assert (tmp_path / "notes.jsonl").read_text() == "mine"
