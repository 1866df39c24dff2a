"""Which files rows need, and what letting go of them means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from storage import checkpoints, episodes, labels, notes, phase_runs, replay, retention, success_counts
from storage.errors import Retired
from storage.states import move

STRIP = "5" * 64


@pytest.fixture
def a_checkpoint(database, blobs, tmp_path, now):
    """Save a policy with these bytes."""

    def save(content: bytes, **fields: object):
        file = tmp_path / "new"
        file.write_bytes(content)
        new = checkpoints.NewCheckpoint(kind="policy", spec_digest="x", **fields)
        with database.write() as session:
            return checkpoints.save(session, blobs, new, file=file, now=now)

    return save


def named(database, **arguments):
    with database.read() as session:
        return retention.named_blobs(session, **arguments)


def test_rows_name_the_files_of_checkpoints_of_episodes_and_of_outcomes(
    database, an_iteration, an_episode, committed, a_checkpoint, now
):
    checkpoint, row, iteration = a_checkpoint(b"one"), committed(an_episode()), an_iteration()
    with database.write() as session:
        phase_runs.queue(session, iteration, phase="collect", now=now)
        claimed = phase_runs.claim(session, "w", ttl_s=9, now=now)
        outcome = {"film_strips": {"open_drawer": {"real": STRIP}}}
        phase_runs.finish(session, claimed, outcome=outcome, now=now)
    with database.read() as session:
        parts = set(episodes.blob_digests(session, row.id).values())
    assert len(parts) == 2
    assert {checkpoint.sha256, STRIP} | parts <= named(database)
    assert iteration.spec_digest not in named(database), "only JSON is looked through, not every column"


def test_a_retired_checkpoint_needs_its_file_until_the_grace_is_over_and_even_if_a_card_mentions_it(
    database, a_checkpoint, now
):
    old = a_checkpoint(b"old")
    a_checkpoint(b"new", card={"came_from": old.sha256})
    later = now + timedelta(hours=2)
    with database.write() as session:
        newer = [row.id for row in checkpoints.list_checkpoints(session)[0] if row.id != old.id]
        (marked,) = retention.retire_checkpoints(session, newer, made_before=later, now=later)
    assert marked.id == old.id
    assert old.sha256 in named(database, retired_before=later - timedelta(hours=1))
    assert old.sha256 not in named(database, retired_before=later + timedelta(hours=1))
    assert old.sha256 not in named(database)


def test_two_rows_of_one_file_keep_it_until_both_are_retired(database, a_checkpoint, now):
    first, second = a_checkpoint(b"same"), a_checkpoint(b"same")
    later = now + timedelta(days=1)
    with database.write() as session:
        retention.retire_checkpoints(session, {second.id}, made_before=later, now=later)
    assert first.sha256 in named(database)
    with database.write() as session:
        retention.retire_checkpoints(session, set(), made_before=later, now=later)
    assert first.sha256 not in named(database)


def test_what_is_young_is_not_retired(database, a_checkpoint, now):
    a_checkpoint(b"young")
    with database.write() as session:
        assert retention.retire_checkpoints(session, set(), made_before=now, now=now) == []


def test_nobody_gets_the_file_of_a_retired_checkpoint(database, blobs, a_checkpoint, now):
    row, later = a_checkpoint(b"old"), now + timedelta(days=1)
    with database.write() as session:
        retention.retire_checkpoints(session, set(), made_before=later, now=later)
    with database.read() as session, pytest.raises(Retired, match=row.id):
        checkpoints.path(checkpoints.get(session, row.id), blobs)


def old(database, before):
    with database.read() as session:
        return [row.id for row in retention.old_episodes(session, committed_before=before)]


def test_only_old_episodes_that_nobody_measures_with_or_has_looked_at_may_go(
    database, an_iteration, an_episode, committed, now
):
    running, ended = an_iteration(), an_iteration()
    with database.write() as session:
        move(session.merge(ended), "cancelled", now=now)
    plain = committed(an_episode(1), iteration_id=ended.id)
    committed(an_episode(2), held_out=True)
    looked_at = committed(an_episode(3))
    noted = committed(an_episode(6))
    committed(an_episode(4), after_s=7200.0)
    committed(an_episode(5), iteration_id=running.id)
    with database.write() as session:
        verdict = labels.Verdict(success=False, source="human", at=now)
        labels.append(session, looked_at.id, verdict, now=now)
        notes.append(session, noted.id, "the cable snagged", author="ann", now=now)
    assert old(database, now + timedelta(hours=1)) == [plain.id]


def test_a_retired_episode_counts_on_and_trains_nothing(
    database, blobs, an_iteration, an_episode, committed, now
):
    iteration = an_iteration()
    row = committed(an_episode(), iteration_id=iteration.id)
    with database.write() as session:
        retention.retire_episodes(session, [session.merge(row)], now=now)
    with database.read() as session:
        assert replay.select(session, replay.EpisodeQuery()) == []
        assert success_counts.by_task(session, iteration_id=iteration.id) == {"open_drawer": (1, 1)}
        with pytest.raises(Retired, match=row.id):
            episodes.load(session, blobs, row.id)
        with pytest.raises(Retired, match=row.id):
            episodes.frames(session, blobs, row.id)
    assert old(database, datetime.now(UTC)) == [], "it is not retired twice"


def test_a_label_of_a_machine_keeps_no_episode(database, an_episode, committed, a_label, now):
    row = committed(an_episode(labels=(a_label(True, source="classifier"),)))
    assert old(database, now + timedelta(hours=1)) == [row.id]
