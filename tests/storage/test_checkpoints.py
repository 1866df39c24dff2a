"""Checkpoints: numbered per kind, each with its parent and its episodes, never another file than saved."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage import checkpoints
from storage.blobs import BlobStore
from storage.checkpoints import NewCheckpoint
from storage.db import Database
from storage.errors import (
    BlobMissing,
    CheckpointCorrupt,
    CheckpointKindInvalid,
    CursorInvalid,
    DiskFull,
    NotJson,
    RowMissing,
)
from storage.tables import CheckpointRow

SPEC_DIGEST = "5" * 64


@pytest.fixture
def save(database: Database, blobs: BlobStore, tmp_path: Path, now: datetime) -> Callable[..., CheckpointRow]:
    """Write a small file and save it as a checkpoint."""

    def keep(kind: str = "policy", content: bytes = b"weights", **known: object) -> CheckpointRow:
        file = tmp_path / f"{kind}-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"
        file.write_bytes(content)
        new = NewCheckpoint(kind=kind, spec_digest=SPEC_DIGEST, **known)
        with database.write() as session:
            return checkpoints.save(session, blobs, new, file=file, now=now)

    return keep


def test_a_checkpoint_is_found_again_with_its_file(
    database: Database, blobs: BlobStore, save: Callable, now: datetime
) -> None:
    saved = save(content=b"w" * 1000, card={"error": 0.25})
    with database.read() as session:
        row = checkpoints.get(session, saved.id)
    assert checkpoints.path(row, blobs).read_bytes() == b"w" * 1000
    assert (row.kind, row.number, row.size_bytes, row.card) == ("policy", 1, 1000, {"error": 0.25})
    assert (row.spec_digest, row.created_at, row.parent_id) == (SPEC_DIGEST, now, None)
    assert row.sha256 == hashlib.sha256(b"w" * 1000).hexdigest()


def test_the_file_is_moved_and_not_copied(save: Callable, tmp_path: Path) -> None:
    save()
    assert list(tmp_path.glob("*.safetensors")) == []


def test_each_kind_counts_for_itself(save: Callable) -> None:
    kinds = ["policy", "world_model", "policy", "judge", "policy", "world_model"]
    assert [save(kind).number for kind in kinds] == [1, 1, 2, 1, 3, 2]


def test_the_latest_is_the_highest_number_of_its_kind(database: Database, save: Callable) -> None:
    with database.read() as session:
        assert checkpoints.latest(session, "policy") is None
    save("policy", b"1")
    newest = save("policy", b"2")
    save("judge", b"3")
    with database.read() as session:
        latest = checkpoints.latest(session, "policy")
        assert checkpoints.latest(session, "world_model") is None
    assert latest is not None
    assert latest.id == newest.id


def test_equal_files_are_one_blob_and_two_checkpoints(blobs: BlobStore, save: Callable) -> None:
    first, second = save(content=b"same"), save(content=b"same")
    assert first.id != second.id
    assert first.sha256 == second.sha256
    assert checkpoints.path(second, blobs) == checkpoints.path(first, blobs)


def test_lineage_walks_to_the_first(database: Database, save: Callable) -> None:
    first = save(content=b"1")
    second = save(content=b"2", parent_id=first.id)
    third = save(content=b"3", parent_id=second.id)
    sibling = save(content=b"4", parent_id=first.id)
    with database.read() as session:
        assert [row.id for row in checkpoints.ancestry(session, third.id)] == [third.id, second.id, first.id]
        assert [row.id for row in checkpoints.ancestry(session, sibling.id)] == [sibling.id, first.id]
        assert [row.id for row in checkpoints.ancestry(session, first.id)] == [first.id]
        assert [row.id for row in checkpoints.ancestry(session, third.id, limit=2)] == [third.id, second.id]
        lengths = [checkpoints.generations(session, id_) for id_ in (third.id, first.id, "nobody")]
        assert lengths == [3, 1, 0]
        made_of = [row.id for row in checkpoints.children(session, [first.id, third.id])]
        assert made_of == [sibling.id, second.id], "the newest first; none of the third"


def test_a_parent_that_does_not_exist_is_refused(database: Database, save: Callable) -> None:
    with pytest.raises(RowMissing, match="no checkpoint 'nobody'"):
        save(parent_id="nobody")
    with database.read() as session:
        assert checkpoints.latest(session, "policy") is None


def test_the_episodes_it_learned_from_are_kept_once_each(
    database: Database, save: Callable, committed: Callable, an_episode: Callable
) -> None:
    ids = [committed(an_episode(number)).id for number in (1, 2, 3)]
    row = save(episode_ids=[ids[2], ids[0], ids[2]])
    with database.read() as session:
        assert checkpoints.episode_ids(session, row.id) == sorted([ids[0], ids[2]])
        assert checkpoints.episode_ids(session, "nobody") == []


def test_learning_from_an_episode_that_does_not_exist_is_refused(database: Database, save: Callable) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        save(episode_ids=["nobody"])
    with database.read() as session:
        assert checkpoints.latest(session, "policy") is None


def test_the_iteration_that_made_it_is_kept(save: Callable, an_iteration: Callable) -> None:
    iteration = an_iteration()
    assert save(iteration_id=iteration.id).iteration_id == iteration.id


def test_an_unknown_kind_is_refused_and_the_file_stays(
    database: Database, save: Callable, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointKindInvalid, match="expected one of world_model, policy, judge"):
        save("critic")
    assert len(list(tmp_path.glob("critic-*"))) == 1
    with database.read() as session, pytest.raises(CheckpointKindInvalid):
        checkpoints.latest(session, "critic")


def test_a_card_that_json_cannot_hold_is_refused_and_the_file_stays(save: Callable, tmp_path: Path) -> None:
    with pytest.raises(NotJson, match="the card of a policy checkpoint"):
        save(card={"loss": float("nan")})
    assert len(list(tmp_path.glob("policy-*"))) == 1


def test_a_full_disk_leaves_the_file_and_no_row(
    database: Database, save: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1}))
        with pytest.raises(DiskFull):
            save()
    assert len(list(tmp_path.glob("policy-*"))) == 1
    with database.read() as session:
        assert checkpoints.latest(session, "policy") is None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied"])
def test_a_checkpoint_whose_file_changed_is_never_handed_out(
    blobs: BlobStore, save: Callable, damage: str
) -> None:
    row = save(content=b"weights" * 100)
    path = checkpoints.path(row, blobs)
    content = {
        "truncated": path.read_bytes()[:-1],
        "flipped": b"Weights" + path.read_bytes()[7:],
        "emptied": b"",
    }[damage]
    path.write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match=f"checkpoint {row.id} fails its checksum") as caught:
        checkpoints.path(row, blobs)
    assert hashlib.sha256(content).hexdigest() in str(caught.value)


def test_a_checkpoint_whose_file_is_gone_is_missed(blobs: BlobStore, save: Callable) -> None:
    row = save()
    checkpoints.path(row, blobs).unlink()
    with pytest.raises(BlobMissing):
        checkpoints.path(row, blobs)


def test_a_checkpoint_that_was_rolled_back_leaves_its_number_free(
    database: Database, blobs: BlobStore, save: Callable, tmp_path: Path, now: datetime
) -> None:
    file = tmp_path / "lost.safetensors"
    file.write_bytes(b"lost")
    new = NewCheckpoint(kind="policy", spec_digest=SPEC_DIGEST)
    with pytest.raises(ZeroDivisionError), database.write() as session:
        checkpoints.save(session, blobs, new, file=file, now=now)
        _ = 1 / 0
    assert save().number == 1


def test_saving_from_many_threads_numbers_densely(
    database: Database, blobs: BlobStore, tmp_path: Path, now: datetime
) -> None:
    def save_one(turn: int) -> int:
        file = tmp_path / f"{turn}.safetensors"
        file.write_bytes(bytes([turn]))
        new = NewCheckpoint(kind="policy", spec_digest=SPEC_DIGEST)
        with database.write() as session:
            return checkpoints.save(session, blobs, new, file=file, now=now).number

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(save_one, range(8))) == list(range(1, 9))


def pages_of(database: Database, **which: object) -> list[list[tuple[str, int]]]:
    pages, cursor = [], None
    while True:
        with database.read() as session:
            rows, cursor = checkpoints.list_checkpoints(session, cursor=cursor, limit=2, **which)
        pages.append([(row.kind, row.number) for row in rows])
        if cursor is None:
            return pages


def test_pages_hold_every_checkpoint_once(database: Database, save: Callable) -> None:
    for kind in ("policy", "world_model", "judge", "policy", "world_model"):
        save(kind)
    assert pages_of(database) == [
        [("policy", 2), ("world_model", 2)],
        [("judge", 1), ("policy", 1)],
        [("world_model", 1)],
    ]
    assert pages_of(database, kind="policy") == [[("policy", 2), ("policy", 1)]]


@pytest.mark.parametrize("cursor", ["", "1", "~policy", "x~policy", "1~critic", "9" * 20 + "~policy"])
def test_a_cursor_from_elsewhere_is_refused(database: Database, cursor: str) -> None:
    with database.read() as session, pytest.raises(CursorInvalid):
        checkpoints.list_checkpoints(session, cursor=cursor)


def test_a_kind_that_does_not_exist_has_no_list(database: Database) -> None:
    with database.read() as session, pytest.raises(CheckpointKindInvalid):
        checkpoints.list_checkpoints(session, kind="critic")


def test_a_checkpoint_that_is_not_there_is_missed_by_its_id(database: Database, now: datetime) -> None:
    with database.read() as session:
        with pytest.raises(RowMissing):
            checkpoints.get(session, "nobody")
        with pytest.raises(RowMissing):
            checkpoints.ancestry(session, "nobody")


def test_times_are_those_of_the_caller(
    database: Database, blobs: BlobStore, tmp_path: Path, now: datetime
) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x")
    new = NewCheckpoint(kind="judge", spec_digest=SPEC_DIGEST)
    with database.write() as session:
        row = checkpoints.save(session, blobs, new, file=file, now=now + timedelta(days=2))
    assert row.created_at == now + timedelta(days=2)
