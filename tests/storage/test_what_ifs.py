"""What-ifs: one worker at a time, tried twice at most, always brought to an end, the newest kept."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from storage import events, what_ifs
from storage.db import Database
from storage.errors import CursorInvalid, IllegalMove, LeaseLost, NotJson, RowMissing
from storage.tables import LeaseRow
from storage.what_ifs import KEPT, LONGEST_WAIT_S, MAX_ATTEMPTS, ClaimedWhatIf
from storage.world_tables import WhatIfRow

TTL_S = 15.0
REQUEST = {"instruction": "open the drawer", "rollouts": 2}


class Desk:
    """A database and a time that the test moves."""

    def __init__(self, database: Database, now: datetime) -> None:
        self.database, self.now = database, now

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def ask(self, **request: object) -> str:
        with self.database.write() as session:
            return what_ifs.ask(session, REQUEST | request, who="ann", now=self.now).id

    def claim(self, worker: str = "w") -> ClaimedWhatIf | None:
        with self.database.write() as session:
            return what_ifs.claim(session, worker, ttl_s=TTL_S, now=self.now)

    def claimed(self, worker: str = "w") -> ClaimedWhatIf:
        found = self.claim(worker)
        assert found is not None
        return found

    def row(self, what_if_id: str) -> WhatIfRow:
        with self.database.read() as session:
            return what_ifs.get(session, what_if_id)

    def kinds(self) -> list[str]:
        with self.database.read() as session:
            return [event.kind for event in events.after(session, 0)]

    def fail(self, claimed: ClaimedWhatIf, *, retry: bool) -> None:
        with self.database.write() as session:
            what_ifs.fail(session, claimed, error=("broken", "it broke"), retry=retry, now=self.now)


@pytest.fixture
def desk(database: Database, now: datetime) -> Desk:
    return Desk(database, now)


def test_the_oldest_is_done_first_and_only_by_one(desk: Desk) -> None:
    first = desk.ask()
    desk.later(1)
    second = desk.ask(rollouts=3)
    one, two = desk.claimed("a"), desk.claimed("b")
    assert (one.what_if_id, two.what_if_id) == (first, second)
    assert (one.attempt, one.request["rollouts"], two.request["rollouts"]) == (1, 2, 3)
    assert desk.claim("c") is None
    assert (desk.row(first).state, desk.row(first).worker) == ("running", "a")


def test_what_came_out_is_kept_and_everybody_is_told(desk: Desk) -> None:
    what_if_id = desk.ask()
    claimed = desk.claimed()
    with desk.database.write() as session:
        what_ifs.heartbeat(session, claimed, progress=0.5, text="chunk 4 of 8", now=desk.now)
    assert (desk.row(what_if_id).progress, desk.row(what_if_id).progress_text) == (0.5, "chunk 4 of 8")
    desk.later(2)
    with desk.database.write() as session:
        what_ifs.finish(session, claimed, result={"rate": 0.5}, now=desk.now)
    row = desk.row(what_if_id)
    assert (row.state, row.result, row.progress, row.finished_at) == (
        "finished",
        {"rate": 0.5},
        1.0,
        desk.now,
    )
    assert desk.kinds() == ["what_if_requested", "what_if_finished"]
    assert desk.claim() is None


def test_a_killed_worker_is_followed_by_one_more_and_then_it_has_failed(desk: Desk) -> None:
    what_if_id = desk.ask()
    desk.claimed("a")
    desk.later(TTL_S - 1)
    assert desk.claim("b") is None, "the first may still live"
    desk.later(2)
    assert desk.claimed("b").attempt == MAX_ATTEMPTS
    desk.later(TTL_S + 1)
    assert desk.claim("c") is None
    row = desk.row(what_if_id)
    assert (row.state, row.error_code) == ("failed", what_ifs.LEASE_EXPIRED)
    assert "worker b sent no heartbeat" in str(row.error_message)
    assert desk.kinds() == ["what_if_requested", "what_if_failed"]


def test_heartbeats_keep_it(desk: Desk) -> None:
    desk.ask()
    claimed = desk.claimed("a")
    for _ in range(3):
        desk.later(TTL_S - 1)
        with desk.database.write() as session:
            what_ifs.heartbeat(session, claimed, progress=2.0, text="", now=desk.now)
        assert desk.claim("b") is None
    assert desk.row(claimed.what_if_id).progress == 1.0


def test_who_was_taken_for_dead_can_write_nothing_more(desk: Desk) -> None:
    what_if_id = desk.ask()
    late = desk.claimed("a")
    desk.later(TTL_S + 1)
    desk.claimed("b")
    for write in (
        lambda s: what_ifs.heartbeat(s, late, progress=0.5, text="", now=desk.now),
        lambda s: what_ifs.finish(s, late, result={"of": "a"}, now=desk.now),
        lambda s: what_ifs.fail(s, late, error=("a", "b"), retry=True, now=desk.now),
        lambda s: what_ifs.release(s, late, now=desk.now),
    ):
        with pytest.raises(LeaseLost), desk.database.write() as session:
            write(session)
    assert (desk.row(what_if_id).state, desk.row(what_if_id).worker) == ("running", "b")


def test_a_fault_that_may_pass_is_tried_once_more_and_another_is_not(desk: Desk) -> None:
    passing, lasting = desk.ask(), desk.ask()
    desk.fail(desk.claimed(), retry=True)
    assert desk.row(passing).state == "queued"
    desk.fail(desk.claimed(), retry=True)
    desk.fail(desk.claimed(), retry=False)
    for what_if_id in (passing, lasting):
        assert (desk.row(what_if_id).state, desk.row(what_if_id).error_code) == ("failed", "broken")
    assert desk.claim() is None


def test_what_is_given_back_has_lost_no_attempt(desk: Desk) -> None:
    desk.ask()
    for _ in range(5):
        claimed = desk.claimed()
        assert claimed.attempt == 1
        with desk.database.write() as session:
            what_ifs.release(session, claimed, now=desk.now)


def test_nobody_waits_for_ever(desk: Desk) -> None:
    what_if_id = desk.ask()
    desk.later(LONGEST_WAIT_S)
    with desk.database.write() as session:
        assert what_ifs.reap(session, now=desk.now) == []
    desk.later(1)
    with desk.database.write() as session:
        assert [row.id for row in what_ifs.reap(session, now=desk.now)] == [what_if_id]
    assert (desk.row(what_if_id).state, desk.row(what_if_id).error_code) == ("failed", what_ifs.UNATTENDED)


def test_the_newest_are_kept_and_none_that_is_not_over_is_forgotten(desk: Desk) -> None:
    running = desk.ask()
    desk.claimed()
    over = []
    for _ in range(3):
        desk.later(1)
        over.append(desk.ask())
        with desk.database.write() as session:
            claimed = what_ifs.claim(session, "w", ttl_s=TTL_S, now=desk.now)
            assert claimed is not None
            what_ifs.finish(session, claimed, result={}, now=desk.now)
    with desk.database.write() as session:
        assert what_ifs.forget_old(session, kept=2) == 1
        assert what_ifs.forget_old(session) == 0
    assert [desk.row(what_if_id).state for what_if_id in (running, *over[1:])] == [
        "running",
        "finished",
        "finished",
    ]
    with pytest.raises(RowMissing):
        desk.row(over[0])
    assert KEPT == 200
    with desk.database.read() as session:
        leases = set(session.scalars(sa.select(LeaseRow.name)))
    assert f"what_if:{over[0]}" not in leases
    assert f"what_if:{over[1]}" in leases


def test_pages_come_newest_first_and_meet(desk: Desk) -> None:
    asked = []
    for _ in range(5):
        desk.later(1)
        asked.append(desk.ask())
    with desk.database.read() as session:
        first, cursor = what_ifs.list_what_ifs(session, limit=3)
        second, end = what_ifs.list_what_ifs(session, cursor=cursor, limit=3)
        assert [row.id for row in (*first, *second)] == asked[::-1]
        assert end is None
        assert what_ifs.count_open(session) == 5
        with pytest.raises(CursorInvalid):
            what_ifs.list_what_ifs(session, cursor="nonsense")


def test_what_is_over_does_not_begin_again(desk: Desk) -> None:
    what_if_id = desk.ask()
    claimed = desk.claimed()
    with desk.database.write() as session:
        what_ifs.finish(session, claimed, result={}, now=desk.now)
    with pytest.raises(IllegalMove), desk.database.write() as session:
        what_ifs._move(session, what_ifs.get(session, what_if_id), "running", now=desk.now)


def test_a_result_that_is_no_json_is_refused_and_the_what_if_goes_on(desk: Desk) -> None:
    desk.ask()
    claimed = desk.claimed()
    with pytest.raises(NotJson), desk.database.write() as session:
        what_ifs.finish(session, claimed, result={"rate": float("nan")}, now=desk.now)
    assert desk.row(claimed.what_if_id).state == "running"


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"state": "paused"}, "ck_what_ifs_state_is_known"),
        ({"attempts": -1}, "ck_what_ifs_attempts_count_up"),
        ({"progress": 1.5}, "ck_what_ifs_progress_is_a_share"),
        ({"progress": -0.5}, "ck_what_ifs_progress_is_a_share"),
    ],
)
def test_a_row_cannot_hold_nonsense(desk: Desk, change: dict[str, object], constraint: str) -> None:
    what_if_id = desk.ask()
    with pytest.raises(sa.exc.IntegrityError, match=constraint), desk.database.write() as session:
        row = what_ifs.get(session, what_if_id)
        for name, value in change.items():
            setattr(row, name, value)
        session.flush()
