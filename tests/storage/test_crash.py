"""kill -9 in the middle of work: what was acknowledged is there and readable, the rest can be repeated."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

import storage
from storage import episodes, phase_runs
from storage.blobs import BlobStore
from storage.db import Database
from storage.tables import EpisodeBlobRow, EpisodeRow

ROOT = Path(storage.__file__).parents[1]
BUILDERS = Path(__file__).with_name("conftest.py")
EPISODES = 60

COMMITTING = """
import runpy, sys
from datetime import UTC, datetime
from pathlib import Path
from storage.blobs import BlobStore
from storage.db import Database
from storage.episodes import Provenance, commit

url, folder, builders, first, last = sys.argv[1:]
build_episode = runpy.run_path(builders)["build_episode"]
database, blobs = Database(url), BlobStore(Path(folder))
for number in range(int(first), int(last) + 1):
    with database.write() as session:
        collected, now = Provenance(origin="collect"), datetime.now(UTC)
        row, created = commit(session, blobs, build_episode(number), provenance=collected, now=now)
    print(row.id, created, flush=True)  # the acknowledgement: after the transaction, never before
"""
CLAIMING = """
import sys
from datetime import datetime
from storage.db import Database
from storage import phase_runs

url, now = sys.argv[1:]
with Database(url).write() as session:
    claimed = phase_runs.claim(session, "victim", ttl_s=30, now=datetime.fromisoformat(now))
print(claimed.phase_run_id, claimed.fence, flush=True)
sys.stdin.readline()  # until it is killed
"""


@contextmanager
def child(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def url_of(database: Database) -> str:
    return database.url.render_as_string(hide_password=False)


def committing(database: Database, blobs: BlobStore, first: int, last: int) -> tuple[object, ...]:
    return (COMMITTING, url_of(database), blobs.root, BUILDERS, first, last)


def acknowledged_until_killed(database: Database, blobs: BlobStore, *, after: int) -> list[str]:
    """The ids that a committing process reported before, and while, it was killed."""
    with child(*committing(database, blobs, 1, EPISODES)) as started:
        assert started.stdout is not None
        lines = [started.stdout.readline() for _ in range(after)]
        os.kill(started.pid, signal.SIGKILL)
        lines += started.stdout.readlines()
        assert started.wait(timeout=60) == -signal.SIGKILL
    return [line.split()[0] for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("after", [1, 4])
def test_every_acknowledged_episode_survives_kill_9(database: Database, blobs: BlobStore, after: int) -> None:
    acknowledged = acknowledged_until_killed(database, blobs, after=after)
    assert after <= len(acknowledged) < EPISODES
    database.dispose()
    with database.read() as session:
        for episode_id in acknowledged:
            assert episodes.load(session, blobs, episode_id).manifest.episode_id == episode_id
        rows = list(session.scalars(sa.select(EpisodeRow.id)))
    assert set(acknowledged) <= set(rows)
    assert len(rows) <= len(acknowledged) + 1  # at most the one whose acknowledgement was cut off


def test_no_row_names_a_file_that_is_not_there_and_leftovers_are_swept(
    database: Database, blobs: BlobStore
) -> None:
    acknowledged_until_killed(database, blobs, after=2)
    with database.read() as session:
        named = set(session.scalars(sa.select(EpisodeBlobRow.sha256)))
    for sha256 in named:
        assert blobs.read(sha256)
    blobs.sweep(named, older_than_s=0, now=datetime.now(UTC) + timedelta(hours=1))
    left = {path.name for path in blobs.root.rglob("*") if path.is_file()}
    assert left == named


def test_work_goes_on_after_the_crash_and_doubles_nothing(database: Database, blobs: BlobStore) -> None:
    acknowledged = acknowledged_until_killed(database, blobs, after=2)
    last = len(acknowledged) + 2
    with child(*committing(database, blobs, 1, last)) as started:
        report = [line.split() for line in started.communicate(timeout=60)[0].splitlines()]
        assert started.returncode == 0
    assert [episode_id for episode_id, _ in report[: len(acknowledged)]] == acknowledged
    assert {created for _, created in report[: len(acknowledged)]} == {"False"}
    assert report[-1][1] == "True"
    with database.read() as session:
        assert session.scalars(sa.select(sa.func.count()).select_from(EpisodeRow)).one() == last


def test_a_killed_workers_run_is_taken_over_once_its_lease_runs_out(
    database: Database, an_iteration, now: datetime
) -> None:
    with database.write() as session:
        phase_runs.queue(session, session.merge(an_iteration()), phase="collect", now=now)
    with child(CLAIMING, url_of(database), now.isoformat()) as victim:
        assert victim.stdout is not None
        phase_run_id, fence = victim.stdout.readline().split()
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait(timeout=60)
    with database.write() as session:
        assert phase_runs.claim(session, "heir", ttl_s=30, now=now + timedelta(seconds=29)) is None
        taken = phase_runs.claim(session, "heir", ttl_s=30, now=now + timedelta(seconds=30))
        assert taken is not None
        assert (taken.attempt, taken.fence) == (2, int(fence) + 1)
        assert phase_runs.get(session, phase_run_id).state == "abandoned"
