"""Upkeep: what is due is done once, by the commands themselves, and how it went stands among the events."""

import json
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from daemon.operations.gc import ITERATIONS_KEPT, retention_of
from daemon.operations.manifest import backups
from daemon.settings import Settings
from daemon.upkeep import MOST_S, Upkeep, due, slot_before
from storage import events, leases

NIGHT = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path, sqlite_url):
    def make(**known):
        known.setdefault("backup_dir", tmp_path / "backups")
        return Settings(data_dir=tmp_path / "lab", database_url=sqlite_url, worker_count=0, **known)

    (tmp_path / "lab").mkdir()
    return make


@pytest.fixture
def note(sqlite_database):
    def one(kind, at):
        with sqlite_database.write() as session:
            events.note(session, kind, at=at)

    return one


@pytest.fixture
def told(sqlite_database):
    def newest_last():
        with sqlite_database.read() as session:
            return [(row.kind, row.facts) for row in events.after(session, 0, limit=50)]

    return newest_last


def saying(out="{}", complaint="", status=0):
    """A command that stands for `gymnastd`: it prints its own words among what it was to say."""
    script = (
        "import json, sys; print(json.dumps({**json.loads(sys.argv[1]), 'words': ' '.join(sys.argv[4:])}));"
        "sys.stderr.write(sys.argv[2]); sys.exit(int(sys.argv[3]))"
    )
    return (sys.executable, "-c", script, out, complaint, str(status))


def brought_to_its_end(upkeep, now):
    """Look again and again until what runs has ended; what the last look gave."""
    pause = threading.Event()
    for _ in range(30_000):
        done = upkeep.look(now)
        if upkeep._running is None:
            return done
        pause.wait(0.01)
    raise AssertionError("it never ended")


@pytest.mark.parametrize(
    ("now", "slot"),
    [
        (NIGHT, NIGHT),
        (NIGHT - timedelta(seconds=1), NIGHT - timedelta(days=1)),
        (NIGHT + timedelta(hours=20), NIGHT),
    ],
)
def test_a_day_begins_at_the_minute_of_the_settings(now, slot):
    assert slot_before("03:00", now=now) == slot


@pytest.mark.parametrize(
    ("known", "history", "work"),
    [
        ({"backup_dir": None}, [], None),  # who sets nothing gets nothing
        ({}, [], "backup"),
        ({}, [("backup_made", -1)], "backup"),
        ({}, [("backup_made", 1)], None),
        ({}, [("backup_failed", 1)], None),  # told once, tried again the next day
        ({}, [("backup_failed", -1)], "backup"),
        ({"iterations_kept": 3}, [], "backup"),
        ({"iterations_kept": 3}, [("backup_made", 1)], "gc"),
        ({"episode_days_kept": 30}, [("backup_made", 1)], "gc"),
        ({"iterations_kept": 3}, [("backup_failed", 1)], None),  # nothing is let go that is not copied
        ({"iterations_kept": 3}, [("backup_made", 1), ("gc_done", 2)], None),
        ({"iterations_kept": 3}, [("gc_failed", 1), ("backup_made", 2)], None),
        ({"iterations_kept": 3}, [("gc_done", -1), ("backup_made", 2)], "gc"),
        ({"iterations_kept": 3, "backup_dir": None}, [], "gc"),
    ],
)
def test_what_is_due_follows_from_the_settings_and_from_what_was_done_today(
    sqlite_database, settings, note, known, history, work
):
    for kind, hours in history:
        note(kind, NIGHT + timedelta(hours=hours))
    with sqlite_database.read() as session:
        assert due(session, settings(**known), now=NIGHT + timedelta(hours=5)) == work


def test_one_is_done_after_the_other_and_each_is_noted_with_what_it_did(sqlite_database, settings, told):
    said = json.dumps({"name": "n", "files": 3, "copied_bytes": 7, "damaged": ["one", "two"]})
    upkeep = Upkeep(settings(iterations_kept=3, backups_kept=5), sqlite_database, command=saying(said))
    assert upkeep.look(NIGHT) == "upkeep started work=backup"
    assert brought_to_its_end(upkeep, NIGHT + timedelta(seconds=4)) == "upkeep done work=backup took_s=4.0"
    assert upkeep.look(NIGHT + timedelta(seconds=5)) == "upkeep started work=gc"
    assert brought_to_its_end(upkeep, NIGHT + timedelta(seconds=6)) == "upkeep done work=gc took_s=1.0"
    assert upkeep.look(NIGHT + timedelta(seconds=7)) is None
    (made, facts), (done, others) = told()
    assert (made, done) == ("backup_made", "gc_done")
    assert (facts["files"], facts["damaged"], facts["took_s"]) == (3, 2, 4.0)
    assert facts["words"].startswith("backup ")
    assert facts["words"].endswith("backups --keep 5 --json")
    assert others["words"] == "gc --json"


def test_a_backup_that_fails_is_told_once_with_its_reason_and_nothing_is_let_go(
    sqlite_database, settings, told, caplog
):
    command = saying(complaint="a bar\ngymnastd: there is no room [disk_full]\n\n", status=1)
    upkeep = Upkeep(settings(iterations_kept=3), sqlite_database, command=command)
    upkeep.look(NIGHT)
    brought_to_its_end(upkeep, NIGHT)
    assert upkeep.look(NIGHT + timedelta(hours=1)) is None
    ((kind, facts),) = told()
    assert (kind, facts["reason"]) == ("backup_failed", "gymnastd: there is no room [disk_full]")
    assert "upkeep failed work=backup reason=gymnastd: there is no room" in caplog.text
    assert upkeep.look(NIGHT + timedelta(days=1)) == "upkeep started work=backup"
    brought_to_its_end(upkeep, NIGHT + timedelta(days=1))


def test_where_somebody_else_has_the_turn_it_waits_and_tells_nobody(sqlite_database, settings, told):
    command = saying(complaint="gymnastd: lease maintenance is held [lease_held]", status=1)
    upkeep = Upkeep(settings(), sqlite_database, command=command)
    upkeep.look(NIGHT)
    assert brought_to_its_end(upkeep, NIGHT).startswith("upkeep waits work=backup reason=gymnastd: lease")
    assert upkeep.look(NIGHT + timedelta(seconds=599)) is None
    assert upkeep.look(NIGHT + timedelta(seconds=600)) == "upkeep started work=backup"
    brought_to_its_end(upkeep, NIGHT)
    assert told() == []


SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")


def test_one_that_hangs_is_ended_and_told(sqlite_database, settings, told):
    upkeep = Upkeep(settings(), sqlite_database, command=SLEEPS)
    upkeep.look(NIGHT)
    assert upkeep.look(NIGHT + timedelta(seconds=MOST_S)) is None
    upkeep.look(NIGHT + timedelta(seconds=MOST_S + 1))
    ((kind, facts),) = told()
    assert (kind, facts["reason"]) == ("backup_failed", "it took longer than 12 h and was ended")


def test_a_daemon_that_ends_takes_its_backup_with_it_and_begins_it_anew(sqlite_database, settings, told):
    upkeep = Upkeep(settings(), sqlite_database, command=SLEEPS)
    upkeep.look(NIGHT)
    child = upkeep._running.child
    upkeep.stop()
    assert child.poll() is not None
    assert told() == []
    assert upkeep.look(NIGHT) == "upkeep started work=backup"
    upkeep.stop()


@pytest.mark.slow
def test_the_real_commands_make_a_backup_and_let_go_and_give_the_turn_back(
    sqlite_database, settings, told, tmp_path
):
    ours = settings(iterations_kept=3)
    upkeep, now = Upkeep(ours, sqlite_database), datetime.now(UTC)
    for work in ("backup", "gc"):
        assert upkeep.look(now) == f"upkeep started work={work}"
        assert brought_to_its_end(upkeep, now).startswith(f"upkeep done work={work}")
    assert [kind for kind, _ in told()] == ["backup_made", "gc_done"]
    (manifest,) = backups(tmp_path / "backups")
    assert manifest.stem == told()[0][1]["name"]
    with sqlite_database.write() as session:
        leases.acquire(session, "maintenance", holder="me", ttl_s=9, now=datetime.now(UTC))


def test_gc_keeps_what_is_asked_for_else_what_the_settings_say_else_ten(settings):
    said = settings(iterations_kept=3, episode_days_kept=30)
    asked = retention_of(said, iterations=7, grace_s=1, episode_days=0.0)
    assert (asked.iterations, asked.episode_days) == (7, 0.0)
    by_settings = retention_of(said, iterations=None, grace_s=1, episode_days=None)
    assert (by_settings.iterations, by_settings.episode_days) == (3, 30)
    by_itself = retention_of(settings(), iterations=None, grace_s=1, episode_days=None)
    assert (by_itself.iterations, by_itself.episode_days) == (ITERATIONS_KEPT, None) == (10, None)
