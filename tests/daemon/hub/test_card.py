"""The model card: real successes with their intervals, the data by digest, the whole line."""

from datetime import datetime

from daemon.hub.card import About, about, model_card
from storage import checkpoints
from storage.blobs import BlobStore
from storage.checkpoints import NewCheckpoint
from storage.db import Database
from storage.episodes import Provenance, commit
from storage.tables import CheckpointRow


def a_row(number: int, now: datetime) -> CheckpointRow:
    return CheckpointRow(
        id=f"id-{number}", kind="policy", number=number, sha256="5" * 64, created_at=now, card={}
    )


def test_it_tells_successes_by_task_with_wilsons_interval_and_the_line(now):
    found = About(
        row=a_row(3, now),
        ancestry=[a_row(3, now), a_row(1, now)],
        success={"open_drawer": (9, 10), "close_drawer": (0, 0)},
        episodes=12,
        data_digest="d" * 64,
    )
    lines = model_card(found, licence="mit").splitlines()
    assert "| open_drawer | 9/10 | 90 % | 60 to 98 % |" in lines
    assert "| close_drawer | 0/0 | unknown | 0 to 100 % |" in lines
    assert f"12 recorded episodes, sha256 over them `{'d' * 64}`." in lines
    assert lines[-2:] == ["1. Policy 3, `id-3`", "2. Policy 1, `id-1`"]


def test_what_is_known_comes_from_the_store(
    database: Database, blobs: BlobStore, now, tmp_path, an_episode
) -> None:
    file = tmp_path / "policy"
    file.write_bytes(b"weights")
    with database.write() as session:
        acted = checkpoints.save(
            session, blobs, NewCheckpoint(kind="policy", spec_digest="0" * 64), file=file, now=now
        )
        origin = Provenance(origin="collect", checkpoint_id=acted.id)
        rows = [
            commit(session, blobs, an_episode(n, success=n > 1), provenance=origin, now=now)[0]
            for n in (1, 2)
        ]
        file.write_bytes(b"more weights")
        new = NewCheckpoint(
            kind="policy", spec_digest="0" * 64, parent_id=acted.id, episode_ids=[row.id for row in rows]
        )
        child = checkpoints.save(session, blobs, new, file=file, now=now)
    with database.read() as session:
        parent, found = about(session, acted), about(session, child)
    assert parent.success == {"open_drawer": (1, 2)}
    assert (parent.episodes, parent.data_digest) == (0, None)
    assert found.success == {}
    assert found.episodes == 2
    assert len(found.data_digest or "") == 64
    assert [row.id for row in found.ancestry] == [child.id, acted.id]
