"""The report: its exit status, its JSON, its text, its files."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from robot_bridge.check.verdicts import CheckReport, Item
from tests.robot_bridge.builders import NOON

GOOD = Item(name="motors", verdict="passed", found="all well", numbers={"largest_mA": 316.25, "motors": 7})
BAD = Item(name="move x", verdict="failed", found="missed | by\nfar", numbers={"missed": 0.0123456})
LEFT = Item(name="park", verdict="skipped", found="nobody agreed to motion")


def report(*items: Item, dry_run: bool = False, allowed: bool = True) -> CheckReport:
    return CheckReport(
        robot_model="toy",
        software_digest="ab" * 32,
        renderer="camera",
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=40),
        dry_run=dry_run,
        allowed_to_move=allowed,
        items=items,
    )


@pytest.mark.parametrize(
    ("items", "dry_run", "allowed", "status"),
    [
        ((GOOD,), False, True, 0),
        ((GOOD, BAD), False, True, 1),
        ((GOOD, LEFT), False, False, 2),
        ((GOOD, LEFT), True, False, 0),
        ((BAD, LEFT), True, False, 1),
        ((BAD, LEFT), False, False, 1),
    ],
)
def test_the_exit_status_says_well_failed_or_incomplete(items, dry_run, allowed, status):
    assert report(*items, dry_run=dry_run, allowed=allowed).exit_status == status


def test_the_json_holds_every_item_with_its_numbers():
    tree = json.loads(report(GOOD, BAD, LEFT).json_text())
    assert tree["schema"] == "station-check/1"
    assert tree["exit_status"] == 1
    assert tree["started_at"] == NOON.isoformat()
    assert [item["verdict"] for item in tree["items"]] == ["passed", "failed", "skipped"]
    assert tree["items"][0]["numbers"] == {"largest_mA": 316.25, "motors": 7}


def test_the_text_is_a_table_that_what_was_found_cannot_break():
    text = report(GOOD, BAD, LEFT).text()
    assert text.startswith("# Bring-up check of toy: 1 passed, 1 failed, 1 skipped\n")
    assert "| move x | FAILED | missed / by far | missed 0.01235 |" in text
    assert "| motors | ok | all well | largest_mA 316.2, motors 7 |" in text
    assert "no safety certificate" in text


@pytest.mark.parametrize(
    ("dry_run", "allowed", "words"),
    [(True, False, "none, a dry run"), (False, True, "at most 1 cm"), (False, False, "motion: not allowed")],
)
def test_the_text_says_whether_anything_moved(dry_run, allowed, words):
    assert words in report(GOOD, dry_run=dry_run, allowed=allowed).text()


def test_both_files_are_written_whole_and_over_older_ones(tmp_path):
    folder = tmp_path / "new" / "folder"
    report(BAD).write(folder)
    paths = report(GOOD).write(folder)
    assert [path.name for path in paths] == ["check.json", "check.md"]
    assert json.loads(paths[0].read_text())["exit_status"] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["check.json", "check.md"]
