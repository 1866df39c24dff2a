"""Files that are old or new, never half."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_bridge.errors import SpoolCorrupt
from robot_bridge.station.durable import read_json, remove_file, replace_file, write_json, write_synced


def test_a_replaced_file_has_the_new_contents_and_leaves_no_other(tmp_path):
    path = tmp_path / "fence.json"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert [file.name for file in tmp_path.iterdir()] == ["fence.json"]


def test_a_replacement_that_cannot_be_written_leaves_the_old_contents(tmp_path):
    path = tmp_path / "fence.json"
    replace_file(path, b"one")
    (tmp_path / ".fence.json.new").mkdir()  # the temporary name is taken by something that is no file
    with pytest.raises(OSError, match=r"fence\.json\.new"):
        replace_file(path, b"two")
    assert path.read_bytes() == b"one"


def test_json_comes_back_and_a_missing_file_is_none(tmp_path):
    path = tmp_path / "tree.json"
    assert read_json(path) is None
    write_json(path, {"fence": 3, "text": "ä"})
    assert read_json(path) == {"fence": 3, "text": "ä"}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"null", b"\xff\xfe"])
def test_a_file_that_holds_no_json_object_is_corrupt_and_not_empty(tmp_path, content):
    path = tmp_path / "tree.json"
    write_synced(path, content)
    with pytest.raises(SpoolCorrupt, match=r"tree\.json"):
        read_json(path)


def test_removing_what_is_not_there_does_nothing(tmp_path: Path):
    path = tmp_path / "estop.json"
    remove_file(path)
    path.write_text("x")
    remove_file(path)
    assert not path.exists()
