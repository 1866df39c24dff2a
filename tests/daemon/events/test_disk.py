"""The watch on the disk: told once when it is low, once when there is room again."""

import pytest

from daemon.disk import free_bytes
from daemon.events.disk import GB, watch_disk
from storage import events


@pytest.fixture
def look(sqlite_database, tmp_path, now):
    def look_once(free: float) -> None:
        watch_disk(
            sqlite_database, tmp_path, low_gb=10.0, measure=lambda folder: round(free * GB), now=lambda: now
        )

    return look_once


def told(database) -> list[str]:
    with database.read() as session:
        return [event.kind for event in events.after(session, 0)]


def test_a_disk_with_room_is_not_told_of(sqlite_database, look):
    look(10.0)
    assert told(sqlite_database) == []


def test_a_low_disk_is_told_of_once_until_there_is_clearly_room_again(sqlite_database, look):
    for free in (9.9, 9.0, 10.1, 11.9, 12.0, 12.0, 9.5):
        look(free)
    assert told(sqlite_database) == ["disk_low", "disk_ok", "disk_low"]


def test_what_is_told_has_the_numbers(sqlite_database, look, tmp_path):
    look(3.5)
    with sqlite_database.read() as session:
        (event,) = events.after(session, 0)
    assert event.facts == {"folder": str(tmp_path), "free_gb": 3.5, "low_gb": 10.0}


def test_a_database_that_cannot_be_written_to_is_tried_again(sqlite_database, look, caplog):
    sqlite_database.downgrade("0009")
    look(1.0)
    assert "disk not told" in caplog.text
    sqlite_database.upgrade()
    look(1.0)
    assert told(sqlite_database) == ["disk_low"]


def test_the_real_disk_is_measured(tmp_path):
    assert free_bytes(tmp_path) > 0
