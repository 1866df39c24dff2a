"""The journal: cursors that rise by one and are never used again, whatever disk and crashes do."""

from __future__ import annotations

import errno
import logging
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robot_bridge.events import EVENTS_MAX, EventsAnswer
from robot_bridge.station.journal import REMEMBERED, WAITERS_MAX, Journal
from tests.robot_bridge.builders import NOON, Clock

SMALL = {"segment_bytes": 300, "segments_kept": 3}  # two or three events a segment
LONG_S = 20.0  # a deadline that only a broken journal reaches


@pytest.fixture
def reopened(tmp_path: Path) -> Iterator[Callable[..., Journal]]:
    """Opens the journal of this test again, as a station that restarts."""
    opened: list[Journal] = []

    def reopen(**sizes: int) -> Journal:
        while opened:
            opened.pop().close()
        opened.append(Journal(tmp_path, now=Clock().now, **sizes))
        return opened[0]

    yield reopen
    while opened:
        opened.pop().close()


@pytest.fixture
def journal(reopened: Callable[..., Journal]) -> Journal:
    return reopened()


def cursors(answer: EventsAnswer) -> list[int]:
    return [event.cursor for event in answer.events]


def everything(journal: Journal, after: int = 0) -> list[int]:
    """All cursors from `after` on, page by page."""
    found: list[int] = []
    while page := cursors(journal.read(after)):
        found, after = found + page, page[-1]
    return found


class FullDisk:
    """The operating system's write call of a disk that takes `room` bytes and then no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int = 0) -> None:
        self.room: float = room
        self._really = os.pwrite
        monkeypatch.setattr(os, "pwrite", self._write)

    def _write(self, handle: int, content: bytes, place: int) -> int:
        if os.fstat(handle).st_size >= place + len(content):
            return self._really(handle, content, place)  # in place: needs no room
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._really(handle, content[: int(min(self.room, len(content)))], place)
        self.room -= written
        return written


def test_events_are_told_in_the_order_they_happened(journal):
    assert [journal.append("hold", episode_id="e1", t=3), journal.append("resumed")] == [1, 2]
    answer = journal.read()
    first, second = answer.events
    assert (first.kind, first.episode_id, first.facts, first.cursor) == ("hold", "e1", {"t": 3}, 1)
    assert (second.kind, second.episode_id, second.facts) == ("resumed", None, {})
    assert first.at > NOON
    assert (answer.next_cursor, answer.oldest) == (2, 1)


def test_a_journal_without_events_says_so(journal):
    answer = journal.read()
    assert (answer.events, answer.next_cursor, answer.oldest) == ((), 0, 1)


@pytest.mark.parametrize(
    ("after", "limit", "told"), [(0, 2, [1, 2]), (2, 2, [3, 4]), (4, 9, [5]), (5, 1, [])]
)
def test_events_come_in_pages(journal, after, limit, told):
    for _ in range(5):
        journal.append("hold")
    answer = journal.read(after, limit=limit)
    assert cursors(answer) == told
    assert answer.next_cursor == (told[-1] if told else after)


def test_no_answer_is_longer_than_the_protocol_allows(journal):
    for _ in range(EVENTS_MAX + 1):
        journal.append("hold")
    assert cursors(journal.read(limit=10**6)) == list(range(1, EVENTS_MAX + 1))
    assert len(journal.read(limit=-5).events) == 1


def test_a_cursor_from_a_journal_that_is_no_more_is_put_right(journal):
    journal.append("hold")
    assert journal.read(99).next_cursor == 1
    assert journal.wait(99, timeout_s=LONG_S).next_cursor == 1


def test_events_and_cursors_outlive_the_station(reopened):
    journal = reopened()
    for n in range(3):
        journal.append("hold", n=n)
    journal = reopened()
    assert journal.append("resumed") == 4
    assert everything(journal) == [1, 2, 3, 4]
    assert [event.facts for event in journal.read(1).events][:2] == [{"n": 1}, {"n": 2}]


def test_what_left_memory_is_read_from_the_disk(journal):
    for _ in range(REMEMBERED + 10):
        journal.append("hold")
    assert everything(journal) == list(range(1, REMEMBERED + 11))
    assert everything(journal, after=5) == list(range(6, REMEMBERED + 11))


def test_the_oldest_segments_are_dropped_and_the_gap_is_told(reopened, tmp_path):
    journal = reopened(**SMALL)
    for _ in range(20):
        journal.append("hold")
    journal = reopened(**SMALL)
    kept = everything(journal)
    assert kept == list(range(kept[0], 21))
    assert 1 < kept[0] < 20
    assert journal.read().oldest == kept[0]
    assert len(list((tmp_path / "journal").glob("*.jsonl"))) == 3


def test_after_many_restarts_the_newest_segment_is_still_filled(reopened, tmp_path):
    for _ in range(9):
        reopened().append("station_started")
    assert everything(reopened()) == list(range(1, 10))
    assert len(list((tmp_path / "journal").glob("*.jsonl"))) == 1


@pytest.mark.parametrize("torn", [b'{"cursor":3,"at"', b"\x00" * 40, b'{"cursor": "x"}\n', b"\n"])
def test_what_a_crash_left_half_written_is_cut_off(reopened, tmp_path, torn):
    journal = reopened()
    journal.append("hold")
    journal.append("resumed")
    journal.close()
    with (tmp_path / "journal" / "000000000001.jsonl").open("ab") as segment:
        segment.write(torn)
    journal = reopened()
    assert everything(journal) == [1, 2]
    assert journal.append("hold") == 3
    assert everything(reopened()) == [1, 2, 3]


def test_a_segment_that_was_begun_and_never_written_is_no_segment(reopened, tmp_path):
    reopened().append("hold")
    (tmp_path / "journal" / "000000000002.jsonl").touch()
    journal = reopened()
    assert journal.append("hold") == 2
    assert everything(reopened()) == [1, 2]


def test_a_line_that_the_disk_damaged_later_is_skipped(reopened, tmp_path):
    journal = reopened()
    for n in range(3):
        journal.append("hold", n=n)
    journal.close()
    path = tmp_path / "journal" / "000000000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n!1x', 1))
    assert everything(reopened()) == [1, 3]


WRITER = """
import itertools, sys
from datetime import UTC, datetime
from pathlib import Path
from robot_bridge.station.journal import Journal
journal = Journal(Path(sys.argv[1]), now=lambda: datetime.now(UTC))
for n in itertools.count():
    cursor = journal.append("hold", n=n)
    sys.stdout.write(f"{cursor}\\n")
    sys.stdout.flush()
"""


def test_every_cursor_that_was_given_survives_a_killed_station(tmp_path, reopened):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        given = [int(writer.stdout.readline()) for _ in range(25)]
        os.kill(writer.pid, signal.SIGKILL)
        given += [int(line) for line in writer.stdout.read().split()]
    journal = reopened()
    kept = everything(journal)
    assert kept[: len(given)] == given == list(range(1, len(given) + 1))
    assert journal.append("station_started") == kept[-1] + 1


def test_a_full_disk_stops_nobody_and_is_told_once(journal, monkeypatch, caplog):
    journal.append("hold")
    disk = FullDisk(monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert [journal.append("human_needed"), journal.append("estop")] == [2, 3]
        assert cursors(journal.read(1)) == [2, 3]
        disk.room = math.inf
        assert journal.append("human_done") == 4
    assert [record.message.split(" folder")[0] for record in caplog.records] == [
        "journal not written",
        "journal written again",
    ]


def test_what_the_full_disk_did_not_take_is_written_when_there_is_room(reopened, monkeypatch):
    journal = reopened()
    journal.append("hold")
    with monkeypatch.context() as full:
        FullDisk(full, room=30)  # takes a part of a line
        journal.append("estop", reason="smoke")
    journal.append("human_done")
    journal = reopened()
    assert [event.kind for event in journal.read().events] == ["hold", "estop", "human_done"]


def test_cursors_that_were_told_on_a_full_disk_are_not_given_again_after_a_crash(tmp_path, monkeypatch):
    journal = Journal(tmp_path, now=Clock().now)
    journal.append("hold")
    with monkeypatch.context() as full:
        FullDisk(full)
        journal.append("estop")
        assert journal.append("human_needed") == 3  # and here the program dies
    reborn = Journal(tmp_path, now=Clock().now)
    assert everything(reborn) == [1]
    assert reborn.append("station_started") == 4
    assert everything(reborn) == [1, 4]
    reborn.close()
    again = Journal(tmp_path, now=Clock().now)
    assert everything(again) == [1, 4]
    again.close()


def test_memory_stays_bounded_while_the_disk_is_full_and_the_gap_is_kept(reopened, monkeypatch):
    journal = reopened()
    journal.append("hold")
    with monkeypatch.context() as full:
        FullDisk(full)
        for _ in range(REMEMBERED + 5):
            journal.append("clips")
    journal.append("resumed")
    last = REMEMBERED + 7
    assert everything(reopened()) == [1, *range(last - REMEMBERED + 1, last + 1)]


def test_a_closed_journal_still_takes_and_tells_events(journal):
    journal.append("hold")
    journal.close()
    assert journal.append("estop") == 2
    assert cursors(journal.read()) == [1, 2]
    assert cursors(journal.wait(0, timeout_s=LONG_S)) == [1, 2]
    assert journal.wait(2, timeout_s=LONG_S).events == ()
    journal.close()


@pytest.mark.parametrize(
    ("fact", "kept"),
    [(math.nan, "nan"), (math.inf, "inf"), (2.5, 2.5), (None, None), (True, True), ("\ud800x", "?x")],
)
def test_any_fact_can_be_kept(reopened, fact, kept):
    reopened().append("motor_fault", fact=fact)
    (event,) = reopened().read().events
    assert event.facts == {"fact": kept}


def test_a_long_text_is_cut(journal):
    journal.append("estop", reason="x" * 10_000)
    assert journal.read().events[0].facts["reason"] == "x" * 2000


def test_whoever_waits_gets_the_event_when_it_happens(journal):
    answers: list[EventsAnswer] = []
    waiting = threading.Thread(target=lambda: answers.append(journal.wait(0, timeout_s=LONG_S)))
    waiting.start()
    journal.append("estop", reason="smoke")
    waiting.join(LONG_S)
    assert [event.facts for event in answers[0].events] == [{"reason": "smoke"}]


def test_who_waits_for_what_already_happened_does_not_wait(journal):
    journal.append("hold")
    assert cursors(journal.wait(0, timeout_s=LONG_S)) == [1]


def test_a_wait_ends_empty_when_nothing_happens(journal):
    answer, timed_out = journal.wait_a_while(0, timeout_s=0.01)
    assert (answer.events, timed_out) == ((), True)


def test_more_than_a_few_who_wait_are_answered_at_once(journal):
    """With all places taken, a ninth wait of twenty seconds that returned would otherwise hang the test."""
    answers: list[EventsAnswer] = []

    def wait() -> None:
        while not (answer := journal.wait(0, timeout_s=LONG_S)).events:
            os.sched_yield()  # the test itself had the last place for a moment
        answers.append(answer)

    waiting = [threading.Thread(target=wait) for _ in range(WAITERS_MAX)]
    for thread in waiting:
        thread.start()
    while journal.wait_a_while(0, timeout_s=0.001)[1]:
        os.sched_yield()  # a place was free: not everybody waits yet
    answer, timed_out = journal.wait_a_while(0, timeout_s=LONG_S)
    assert (answer.events, timed_out) == ((), False)
    journal.append("hold")
    for thread in waiting:
        thread.join(LONG_S)
    assert [cursors(answer) for answer in answers] == [[1]] * WAITERS_MAX


def test_who_waits_is_released_when_the_station_ends(journal):
    answers: list[EventsAnswer] = []
    waiting = threading.Thread(target=lambda: answers.append(journal.wait(0, timeout_s=LONG_S)))
    waiting.start()
    journal.release_waiters()
    waiting.join(LONG_S)
    assert answers[0].events == ()
    assert journal.append("hold") == 1  # it is only the waiting that has ended


def test_threads_that_write_at_once_get_cursors_of_their_own(reopened):
    journal, given, gate = reopened(), [], threading.Barrier(6)

    def write() -> None:
        gate.wait()
        given.extend(journal.append("hold") for _ in range(40))

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(1, 241))
    assert everything(reopened()) == list(range(1, 241))


def test_the_newest_event_of_a_kind_is_found_in_memory_and_on_disk(reopened):
    journal = reopened(**SMALL)
    assert journal.newest("lease_acquired") is None
    for fence in (1, 2):
        journal.append("lease_acquired", fence=fence)
    journal.append("hold", note='"kind":"lease_expired"')
    assert journal.newest("lease_acquired").facts == {"fence": 2}
    journal = reopened(**SMALL)
    assert journal.newest("lease_acquired").facts == {"fence": 2}
    assert journal.newest("lease_expired") is None


def test_nobody_waits_for_anothers_write_and_nothing_is_told_before_it_is_on_disk(
    journal, tmp_path, monkeypatch
):
    journal.append("hold")
    writing, go_on, really = threading.Event(), threading.Event(), os.fdatasync

    def slow(handle: int) -> None:
        writing.set()
        assert go_on.wait(LONG_S)
        really(handle)

    with monkeypatch.context() as disk:
        disk.setattr(os, "fdatasync", slow)
        first = threading.Thread(target=journal.append, args=("clips",))
        first.start()
        assert writing.wait(LONG_S)
        assert journal.append("estop") == 3  # while the disk still has the one before
        assert everything(journal) == [1]
        go_on.set()
        first.join(LONG_S)
    assert everything(journal) == [1, 2, 3]
    assert len((tmp_path / "journal" / "000000000001.jsonl").read_bytes().splitlines()) == 3
