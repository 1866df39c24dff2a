"""Files that are old or new, never half."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from robot_bridge.errors import SpoolCorrupt
from robot_bridge.station.durable import (
    PRIVATE,
    PUBLIC,
    append_line,
    read_json,
    remove_file,
    replace_file,
    whole_lines,
    write_json,
    write_synced,
)


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


@pytest.mark.parametrize(("mode", "found"), [(PUBLIC, 0o644), (PRIVATE, 0o600)])
def test_a_file_has_the_mode_it_was_given_whatever_was_there(tmp_path, mode, found):
    path = tmp_path / "tokens.json"
    path.touch(0o666)
    (tmp_path / ".tokens.json.new").touch(0o666)
    replace_file(path, b"x", mode=mode)
    assert stat.S_IMODE(path.stat().st_mode) & ~0o022 == found & ~0o022
    assert stat.S_IMODE(path.stat().st_mode) | mode == mode


def test_lines_are_added_one_after_the_other(tmp_path):
    path = tmp_path / "e1.jsonl"
    for line in (b"one", b"", b"three"):
        append_line(path, line)
    assert path.read_bytes() == b"one\n\nthree\n"


def test_half_a_line_of_a_crash_goes_before_the_next_one_comes(tmp_path):
    path = tmp_path / "e1.jsonl"
    path.write_bytes(b"one\nhal")
    append_line(path, b"two")
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("room", [0, 3])
def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path, monkeypatch, room):
    path, really = tmp_path / "e1.jsonl", os.pwrite
    append_line(path, b"one")
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda handle, content, place: really(handle, content[:room], place))
        with pytest.raises(OSError, match="No space left"):
            append_line(path, b"two")
    assert path.read_bytes() == b"one\n"


def test_only_whole_lines_count():
    assert [whole_lines(content) for content in (b"", b"a", b"a\n", b"a\nb", b"\n\n")] == [0, 0, 2, 2, 2]
