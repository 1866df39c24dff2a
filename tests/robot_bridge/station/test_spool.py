"""The spool: complete or not there, kept until acknowledged, one station at a time."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from robot_bridge.errors import (
    BadRequest,
    IdempotencyMismatch,
    SpoolBusy,
    SpoolCorrupt,
    SpoolDiskFull,
    UnknownBlob,
    UnknownEpisode,
)
from robot_bridge.protocol import SpoolAnswer
from robot_bridge.station.spool import Spool
from tests.robot_bridge.builders import NOON, an_episode


@pytest.fixture
def reopened(tmp_path: Path) -> Iterator[Callable[[], Spool]]:
    """Opens the spool of this test, closing the one opened before: a station that restarts."""
    opened: list[Spool] = []

    def reopen() -> Spool:
        while opened:
            opened.pop().close()
        opened.append(Spool(tmp_path / "spool"))
        return opened[0]

    yield reopen
    while opened:
        opened.pop().close()


@pytest.fixture
def spool(reopened: Callable[[], Spool]) -> Spool:
    return reopened()


def kept_in(spool: Spool, folder: str) -> list[str]:
    """Names of what lies in one of the spool's folders."""
    return sorted(path.name for path in (spool.root / folder).iterdir())


def files(spool: Spool) -> list[str]:
    return sorted(
        str(path.relative_to(spool.root))
        for path in spool.root.rglob("*")
        if path.is_file() and path.name != "lock"
    )


def test_an_episode_that_was_put_is_there_after_a_restart(reopened):
    episode = an_episode()
    reopened().put(episode)
    spool = reopened()
    assert [manifest.digest for manifest in spool.waiting()] == [episode.digest]
    steps = spool.blob_path("episode-1", episode.manifest.blob_sha256("steps.npz"))
    frames = spool.blob_path("episode-1", episode.manifest.blob_sha256("frames.bin"))
    assert steps.read_bytes() == episode.steps.to_npz()
    assert frames.read_bytes() == episode.frames.data


def test_putting_the_same_episode_twice_keeps_one(spool):
    spool.put(an_episode())
    spool.put(an_episode())
    assert spool.size()[0] == 1


def test_another_episode_under_the_same_id_is_refused_and_the_first_one_stays(spool):
    spool.put(an_episode())
    with pytest.raises(IdempotencyMismatch, match="episode-1"):
        spool.put(an_episode(seed=1))
    assert spool.manifest("episode-1").digest == an_episode().digest


def test_the_oldest_episode_is_listed_first(spool):
    for name, minutes in (("late", 9), ("early", 1), ("middle", 5)):
        spool.put(an_episode(episode_id=name, ended_at=NOON + timedelta(minutes=minutes)))
    assert [manifest.episode_id for manifest in spool.waiting()] == ["early", "middle", "late"]


def test_the_size_is_that_of_the_files(spool):
    assert spool.size() == (0, 0)
    episode = an_episode()
    spool.put(episode)
    expected = len(episode.steps.to_npz()) + len(episode.frames.data) + len(episode.manifest.canonical_json())
    assert spool.size() == (1, expected)


def test_an_acknowledged_episode_is_gone_and_its_digest_is_remembered(reopened):
    spool = reopened()
    episode = an_episode()
    spool.put(episode)
    spool.acknowledge("episode-1", episode.digest)
    assert files(spool) == ["acked/episode-1", "verdicts/episode-1.json"]
    assert not spool.holds("episode-1")
    assert reopened().acked_digest("episode-1") == episode.digest


def test_acknowledging_twice_is_acknowledging_once(spool):
    spool.put(an_episode())
    spool.acknowledge("episode-1", an_episode().digest)
    spool.acknowledge("episode-1", an_episode().digest)
    with pytest.raises(IdempotencyMismatch):
        spool.acknowledge("episode-1", an_episode(seed=1).digest)


def test_an_acknowledgement_of_another_manifest_removes_nothing(spool):
    spool.put(an_episode())
    with pytest.raises(IdempotencyMismatch):
        spool.acknowledge("episode-1", "0" * 64)
    assert spool.holds("episode-1")
    assert spool.acked_digest("episode-1") is None


def test_an_acknowledgement_that_a_crash_cut_short_is_completed_at_the_next_start(reopened):
    """The mark is written first: a crash before the removal leaves both."""
    spool = reopened()
    episode = an_episode()
    spool.put(episode)
    (spool.root / "acked" / "episode-1").write_text(episode.digest)
    spool = reopened()
    assert spool.waiting() == []
    assert not spool.holds("episode-1")
    spool.acknowledge("episode-1", episode.digest)


def test_a_mark_of_another_manifest_removes_nothing_at_the_next_start(reopened):
    spool = reopened()
    spool.put(an_episode())
    (spool.root / "acked" / "episode-1").write_text("0" * 64)
    assert reopened().holds("episode-1")


@pytest.mark.parametrize("call", ["manifest", "acknowledge", "blob"])
def test_an_episode_that_never_was_here_is_unknown(spool, call):
    calls = {
        "manifest": lambda: spool.manifest("nobody"),
        "acknowledge": lambda: spool.acknowledge("nobody", "0" * 64),
        "blob": lambda: spool.blob_path("nobody", "0" * 64),
    }
    with pytest.raises(UnknownEpisode, match="nobody"):
        calls[call]()


@pytest.mark.parametrize("sha256", ["0" * 64, "../manifest.json", ""])
def test_only_blobs_that_the_manifest_names_are_given_out(spool, sha256):
    spool.put(an_episode())
    with pytest.raises(UnknownBlob):
        spool.blob_path("episode-1", sha256)


def test_a_half_written_episode_is_swept_at_the_next_start(reopened):
    spool = reopened()
    half = spool.root / "incoming" / "episode-1"
    half.mkdir()
    (half / "frames.bin").write_bytes(b"half")
    spool = reopened()
    assert files(spool) == []
    spool.put(an_episode())
    assert spool.holds("episode-1")


def test_an_episode_that_was_open_when_the_station_died_is_lost_and_says_so(reopened):
    spool = reopened()
    spool.open("episode-1", {"task_id": "open_drawer"})
    assert not spool.is_lost("episode-1")
    spool = reopened()
    assert spool.is_lost("episode-1")
    assert reopened().is_lost("episode-1")
    assert not spool.holds("episode-1")


def test_an_episode_that_died_between_its_files_and_its_note_is_not_lost(reopened):
    """The folder is renamed first, the note removed second: after a crash in between, the folder counts."""
    spool = reopened()
    spool.put(an_episode())
    spool.open("episode-1", {})
    spool = reopened()
    assert spool.holds("episode-1")
    assert not spool.is_lost("episode-1")


@pytest.mark.parametrize("end", ["put", "dropped"])
def test_an_episode_that_ended_is_not_lost(reopened, end):
    spool = reopened()
    spool.open("episode-1", {})
    if end == "put":
        spool.put(an_episode())
    else:
        spool.drop_open()
    assert not reopened().is_lost("episode-1")


def test_two_stations_do_not_share_a_spool(spool):
    with pytest.raises(SpoolBusy, match="another folder"):
        Spool(spool.root)
    spool.put(an_episode())


def test_a_spool_is_free_again_when_its_station_has_gone(reopened):
    first = reopened()
    first.put(an_episode())
    assert reopened().holds("episode-1")


@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "other"])
def test_a_manifest_that_does_not_read_back_is_named_with_its_file(spool, damage):
    spool.put(an_episode())
    path = spool.root / "episodes" / "episode-1" / "manifest.json"
    damages = {
        "cut": lambda: path.write_bytes(path.read_bytes()[:-20]),
        "emptied": lambda: path.write_bytes(b""),
        "removed": path.unlink,
        "other": lambda: path.write_text(json.dumps({"schema": "episode/7"})),
    }
    damages[damage]()
    with pytest.raises(SpoolCorrupt, match=r"manifest\.json"):
        spool.manifest("episode-1")


def test_a_note_of_the_open_episode_that_does_not_read_back_stops_the_start(tmp_path):
    root = tmp_path / "spool"
    Spool(root).close()
    (root / "open.json").write_text("{")
    with pytest.raises(SpoolCorrupt, match=r"open\.json"):
        Spool(root)
    (root / "open.json").write_text('{"episode_id": "episode-1"}')
    spool = Spool(root)  # the refused start let go of the lock
    assert spool.is_lost("episode-1")
    spool.close()


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_full_disk_leaves_nothing_half_written_and_the_same_episode_fits_later(spool, monkeypatch, written):
    episode, really, calls = an_episode(), os.fsync, []

    def no_room(handle: int) -> None:
        calls.append(handle)
        if len(calls) > written:
            raise OSError(errno.ENOSPC, "No space left on device")
        really(handle)

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_room)
        with pytest.raises(SpoolDiskFull, match=r"No space left.*make room") as refused:
            spool.put(episode)
    assert (refused.value.code, refused.value.retryable) == ("disk_full", True)
    assert files(spool) == []
    assert spool.waiting() == []
    spool.put(episode)
    assert [manifest.digest for manifest in spool.waiting()] == [episode.digest]


def place(spool: Spool, name: str, minutes: int) -> None:
    spool.put(an_episode(episode_id=name, ended_at=NOON + timedelta(minutes=minutes)))


def names(answer: SpoolAnswer) -> list[str]:
    return [episode.episode_id for episode in answer.episodes]


def test_a_page_says_of_every_episode_what_is_needed_to_fetch_it(spool):
    episode = an_episode()
    spool.put(episode)
    (listed,) = spool.page().episodes
    assert (listed.episode_id, listed.manifest_sha256) == ("episode-1", episode.digest)
    assert (listed.task_id, listed.outcome, listed.T) == ("open_drawer", "completed", 4)


def test_pages_follow_each_other_without_gap_or_repetition(spool):
    for minutes, name in enumerate(("a", "b", "c", "d", "e")):
        place(spool, name, minutes)
    first = spool.page(limit=2)
    second = spool.page(first.next_cursor, limit=2)
    third = spool.page(second.next_cursor, limit=2)
    assert [names(page) for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert third.next_cursor is None


def test_episodes_that_ended_together_are_all_listed(spool):
    for name in ("c", "a", "b"):
        place(spool, name, 0)
    first = spool.page(limit=1)
    assert [*names(first), *names(spool.page(first.next_cursor))] == ["a", "b", "c"]


def test_a_page_goes_on_where_the_last_one_ended_whatever_was_acknowledged(spool):
    for minutes, name in enumerate(("a", "b", "c")):
        place(spool, name, minutes)
    page = spool.page(limit=2)
    for name in names(page):
        spool.acknowledge(name, spool.manifest(name).digest)
    assert names(spool.page(page.next_cursor)) == ["c"]


@pytest.mark.parametrize("cursor", ["", "x", "1", "1~", "1~../a", "-1~a", "1~a\n", "9" * 30 + "~a"])
def test_a_cursor_that_no_page_gave_is_refused(spool, cursor):
    with pytest.raises(BadRequest, match="cursor"):
        spool.page(cursor)


@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_an_episode_that_does_not_read_back_is_named_and_stops_no_other(spool, damage, caplog):
    for minutes, name in enumerate(("a", "b", "c")):
        place(spool, name, minutes)
    assert names(spool.page()) == ["a", "b", "c"]
    path = spool.root / "episodes" / "b" / "manifest.json"
    path.unlink() if damage is None else path.write_bytes(damage)
    for _ in range(2):
        page = spool.page()
        assert (names(page), page.unreadable) == (["a", "c"], ("b",))
    assert [manifest.episode_id for manifest in spool.waiting()] == ["a", "c"]
    assert caplog.text.count("episode not listed episode=b") == 1


def test_a_manifest_under_the_name_of_another_is_not_listed_under_either(spool):
    place(spool, "a", 0)
    (spool.root / "episodes" / "a").rename(spool.root / "episodes" / "b")
    page = spool.page()
    assert (names(page), page.unreadable) == ([], ("b",))


def test_an_episode_whose_id_is_taken_is_kept_aside(reopened):
    spool = reopened()
    spool.put(an_episode())
    spool.open("episode-1", {})
    other = an_episode(seed=1)
    for _ in range(2):  # told each time, kept once
        with pytest.raises(IdempotencyMismatch, match="episode-1"):
            spool.put(other)
    (folder,) = kept_in(spool, "quarantine")
    kept = spool.root / "quarantine" / folder
    assert folder == f"episode-1-{other.digest}"
    assert (kept / "manifest.json").read_bytes() == other.manifest.canonical_json()
    assert (kept / "steps.npz").read_bytes() == other.steps.to_npz()
    assert (kept / "frames.bin").read_bytes() == other.frames.data
    assert names(spool.page()) == ["episode-1"]
    assert spool.size()[1] > sum(len(blob) for blob in (other.frames.data, an_episode().frames.data))
    spool = reopened()
    assert kept_in(spool, "quarantine") == [folder]
    assert not spool.is_lost("episode-1")


def test_an_episode_whose_id_was_acknowledged_for_another_is_kept_aside(spool):
    episode = an_episode()
    spool.put(episode)
    spool.acknowledge("episode-1", episode.digest)
    spool.put(episode)  # this one is safe already
    assert not spool.holds("episode-1")
    with pytest.raises(IdempotencyMismatch):
        spool.put(an_episode(seed=1))
    assert len(kept_in(spool, "quarantine")) == 1
    assert not spool.holds("episode-1")


def test_an_episode_that_meets_an_unreadable_one_of_its_name_is_kept_aside(spool):
    spool.put(an_episode())
    (spool.root / "episodes" / "episode-1" / "manifest.json").write_bytes(b"{")
    with pytest.raises(IdempotencyMismatch):
        spool.put(an_episode())
    assert len(kept_in(spool, "quarantine")) == 1


def test_the_lost_are_listed(reopened):
    assert [name.removesuffix(".json") for name in kept_in(reopened(), "lost")] == []
    for name in ("b", "a"):
        spool = reopened()
        spool.open(name, {})
    assert [name.removesuffix(".json") for name in kept_in(reopened(), "lost")] == ["a", "b"]


def test_the_verdicts_of_an_episode_outlive_its_acknowledgement(reopened):
    spool = reopened()
    episode = an_episode()
    spool.put(episode)
    assert spool.verdicts("episode-1") == episode.manifest.labels
    spool.acknowledge("episode-1", episode.digest)
    assert reopened().verdicts("episode-1") == episode.manifest.labels


@pytest.mark.parametrize("content", ["{", "{}", '{"labels": 3}', '{"labels": [{"success": true}]}'])
def test_verdicts_that_do_not_read_back_are_named_or_none(spool, content):
    episode = an_episode()
    spool.put(episode)
    spool.acknowledge("episode-1", episode.digest)
    (spool.root / "verdicts" / "episode-1.json").write_text(content)
    if content == "{}":
        assert spool.verdicts("episode-1") == ()
    else:
        with pytest.raises(SpoolCorrupt, match=r"verdicts/episode-1\.json"):
            spool.verdicts("episode-1")


def test_what_a_failed_try_left_behind_is_in_nobodys_way(spool):
    half = spool.root / "incoming" / "episode-1"
    half.mkdir()
    (half / "frames.bin").write_bytes(b"half")
    spool.put(an_episode())
    assert spool.manifest("episode-1").digest == an_episode().digest


def test_listing_and_acknowledging_at_once_disturb_each_other_never(spool):
    for minutes in range(12):
        place(spool, f"e{minutes}", minutes)
    faults: list[Exception] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                spool.page(), spool.size(), spool.waiting()
            except Exception as fault:
                faults.append(fault)

    looking = threading.Thread(target=look)
    looking.start()
    for minutes in range(12):
        spool.acknowledge(f"e{minutes}", spool.manifest(f"e{minutes}").digest)
    done.set()
    looking.join()
    assert faults == []
    assert spool.size() == (0, 0)
