"""A worker's turn at a what-if: one at a time, never while a phase waits, and whatever happens it ends."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.heartbeat import WorkerStopped
from daemon.iteration import advance
from daemon.phase_worker import Worker
from daemon.settings import Settings
from daemon.spec import parse_spec
from daemon.worlds.errors import WhatIfOverdue
from daemon.worlds.tending import tend_what_ifs
from daemon.worlds.turn import GRACE_S, LIMIT_S, WhatIfContext, WhatIfTurn
from storage import iterations, what_ifs
from storage.blobs import BlobStore
from storage.db import Database
from storage.world_tables import WhatIfRow

RESULT = {"rate": {}, "rollouts": []}


class Bench:
    """A store, a clock that the test moves, and the turns of one worker."""

    def __init__(self, database: Database, blobs: BlobStore, folder: Path, now: datetime) -> None:
        self.database, self.blobs, self.now, self.seconds = database, blobs, now, 0.0
        self.settings = Settings(data_dir=folder, lease_ttl_s=0.2)
        self.stop, self.left = threading.Event(), threading.Event()

    def ask(self) -> str:
        with self.database.write() as session:
            return what_ifs.ask(session, {"instruction": "do"}, who="ann", now=self.now).id

    def turn(self, imagine: Callable[[WhatIfContext], Any]) -> WhatIfTurn:
        return WhatIfTurn(
            settings=self.settings,
            name="w",
            stop=self.stop,
            database=self.database,
            blobs=self.blobs,
            imagine=imagine,
            now=lambda: self.now,
            clock=lambda: self.seconds,
            leave=self.left.set,
        )

    def row(self, what_if_id: str) -> WhatIfRow:
        with self.database.read() as session:
            return what_ifs.get(session, what_if_id)


@pytest.fixture
def bench(sqlite_database: Database, blobs: BlobStore, tmp_path: Path, now: datetime) -> Bench:
    return Bench(sqlite_database, blobs, tmp_path, now)


def test_without_a_question_there_is_nothing_to_do(bench: Bench) -> None:
    assert bench.turn(lambda context: RESULT).once() is False


def test_one_is_done_and_its_result_kept(bench: Bench) -> None:
    first, second = bench.ask(), bench.ask()
    seen = []

    def imagine(context: WhatIfContext) -> dict[str, Any]:
        seen.append((context.request, context.blobs, context.database, context.now()))
        context.report(0.5, "half")
        return RESULT

    assert bench.turn(imagine).once() is True
    assert seen == [({"instruction": "do"}, bench.blobs, bench.database, bench.now)]
    assert sorted(bench.row(each).state for each in (first, second)) == ["finished", "queued"]


class Passing(Exception):
    code, retryable = "passing", True


@pytest.mark.parametrize(
    ("error", "code", "attempts"),
    [
        (Passing("later"), "passing", 2),
        (ZeroDivisionError("a bug"), "ZeroDivisionError", 1),
        (OSError("no such device"), "OSError", 2),
        (WhatIfOverdue(limit_s=1), "what_if_overdue", 1),
    ],
)
def test_what_goes_wrong_is_in_the_row_and_the_worker_goes_on(
    bench: Bench, error: Exception, code: str, attempts: int
) -> None:
    what_if_id = bench.ask()

    def imagine(context: WhatIfContext) -> dict[str, Any]:
        raise error

    turn = bench.turn(imagine)
    assert [turn.once() for _ in range(attempts + 1)] == [True] * attempts + [False]
    row = bench.row(what_if_id)
    assert (row.state, row.error_code, row.error_message) == ("failed", code, str(error))


def test_a_stored_error_holds_no_secret(bench: Bench) -> None:
    what_if_id = bench.ask()

    def imagine(context: WhatIfContext) -> dict[str, Any]:
        raise ZeroDivisionError("https://ann:hunter22@judge")

    bench.turn(imagine).once()
    assert bench.row(what_if_id).error_message == "https://ann:[redacted]@judge"


def test_a_worker_that_is_to_stop_gives_it_back(bench: Bench) -> None:
    what_if_id = bench.ask()

    def imagine(context: WhatIfContext) -> dict[str, Any]:
        bench.stop.set()
        context.report(0.1, "on it")
        return RESULT

    with pytest.raises(WorkerStopped):
        bench.turn(imagine).once()
    assert (bench.row(what_if_id).state, bench.row(what_if_id).attempts) == ("queued", 0)


def test_one_that_takes_too_long_ends_at_its_next_report(bench: Bench) -> None:
    what_if_id = bench.ask()

    def imagine(context: WhatIfContext) -> dict[str, Any]:
        context.report(0.1, "in time")
        bench.seconds = LIMIT_S + 1
        context.report(0.2, "late")
        return RESULT

    bench.turn(imagine).once()
    assert (bench.row(what_if_id).state, bench.row(what_if_id).error_code) == ("failed", "what_if_overdue")
    assert not bench.left.is_set()


def test_one_that_hangs_ends_with_its_process(bench: Bench) -> None:
    what_if_id = bench.ask()

    def imagine(context: WhatIfContext) -> dict[str, Any]:
        bench.seconds = LIMIT_S + GRACE_S + 1
        assert bench.left.wait(30), "the pulse ends the process"
        return RESULT  # what a process that has left does not come to

    bench.turn(imagine).once()
    assert (bench.row(what_if_id).state, bench.row(what_if_id).error_code) == ("failed", "what_if_overdue")


def test_the_lease_is_renewed_while_it_works_and_progress_is_told(bench: Bench) -> None:
    what_if_id = bench.ask()

    def imagine(context: WhatIfContext) -> dict[str, Any]:
        context.report(0.25, "a quarter")
        waiting = threading.Event()
        for _ in range(2000):
            if bench.row(what_if_id).progress_text == "a quarter":
                return RESULT
            waiting.wait(0.01)
        raise AssertionError("no heartbeat told it")

    bench.turn(imagine).once()
    assert bench.row(what_if_id).state == "finished"


def test_who_was_taken_for_dead_leaves_the_row_to_the_next(bench: Bench) -> None:
    what_if_id = bench.ask()

    def imagine(context: WhatIfContext) -> dict[str, Any]:
        with bench.database.write() as session:
            row = what_ifs.get(session, what_if_id)
            row.fence = (row.fence or 0) + 1
        return RESULT

    assert bench.turn(imagine).once() is True
    assert (bench.row(what_if_id).state, bench.row(what_if_id).result) == ("running", None)


def test_the_daemon_ends_what_no_worker_will_end(bench: Bench) -> None:
    what_if_id = bench.ask()
    assert tend_what_ifs(bench.now, database=bench.database) is None
    for _ in range(2):
        with bench.database.write() as session:
            assert what_ifs.claim(session, "killed", ttl_s=15, now=bench.now)
        bench.now += timedelta(seconds=16)
        assert tend_what_ifs(bench.now, database=bench.database) == "what-ifs tended moved=1 forgotten=0"
    assert (bench.row(what_if_id).state, bench.row(what_if_id).error_code) == ("failed", "lease_expired")
    assert tend_what_ifs(bench.now, database=bench.database) is None


def request(bench: Bench) -> None:
    """An iteration whose only phase is queued."""
    with bench.database.write() as session:
        spec = parse_spec({"phases": ["collect"]}).document()
        iterations.request_iteration(session, spec=spec, idempotency_key=None, now=bench.now)
    with bench.database.write() as session:
        while advance(session, now=bench.now):
            pass


def test_phases_come_first_and_one_what_if_at_most_comes_between_two_of_them(bench: Bench) -> None:
    done: list[str] = []
    for _ in range(3):
        bench.ask()

    def imagine(context: WhatIfContext) -> dict[str, Any]:
        done.append("what-if")
        if len(done) == 2:
            request(bench)  # while it is imagined, a phase is queued
        if len(done) == 5:
            bench.stop.set()
        return RESULT

    def collect(context: Any) -> dict[str, object]:
        done.append("phase")
        return {}

    request(bench)
    worker = Worker(
        settings=bench.settings,
        name="w",
        stop=bench.stop,
        phases={"collect": collect},
        database=bench.database,
        blobs=bench.blobs,
        now=lambda: bench.now,
        between=bench.turn(imagine).once,
    )
    worker.work()
    assert done == ["phase", "what-if", "phase", "what-if", "what-if"]


def test_with_a_full_disk_nothing_is_imagined(bench: Bench) -> None:
    bench.ask()

    def imagine(context: WhatIfContext) -> dict[str, Any]:
        raise AssertionError("there is no room for its films")

    looks = iter(range(3))

    def no_room(folder: Path) -> int:
        if next(looks, None) is None:
            bench.stop.set()
        return 0

    Worker(
        settings=bench.settings.model_copy(update={"poll_s": 0.001}),
        name="w",
        stop=bench.stop,
        phases={},
        database=bench.database,
        blobs=bench.blobs,
        now=lambda: bench.now,
        measure=no_room,
        between=bench.turn(imagine).once,
    ).work()
