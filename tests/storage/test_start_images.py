"""Pictures of people's own: listed in the order in which they came, removed without a trace of their blob."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from storage import start_images
from storage.db import Database
from storage.errors import RowMissing
from storage.start_images import NewStartImage
from storage.world_tables import StartImageRow


def new(task: str = "open_drawer", sha256: str = "a" * 64) -> NewStartImage:
    return NewStartImage(task_id=task, instruction="open it", sha256=sha256, width=64, height=48)


def test_a_picture_is_there_until_it_is_removed(database: Database, now: datetime) -> None:
    with database.write() as session:
        row = start_images.add(session, new(), who="ann", now=now)
    with database.read() as session:
        found = start_images.get(session, row.id)
        assert found.image == {"sha256": "a" * 64, "width": 64, "height": 48}
        assert (found.added_by, found.removed_at) == ("ann", None)
    with database.write() as session:
        start_images.remove(session, start_images.get(session, row.id), now=now)
    with database.read() as session:
        assert start_images.present(session) == []
        kept = session.get_one(StartImageRow, row.id)
        assert (kept.image, kept.removed_at) == (None, now)
        with pytest.raises(RowMissing):
            start_images.get(session, row.id)


def test_they_are_listed_oldest_first_and_by_task(database: Database, now: datetime) -> None:
    with database.write() as session:
        late = start_images.add(session, new("close_drawer"), who="a", now=now + timedelta(seconds=1))
        early = start_images.add(session, new(), who="a", now=now)
    with database.read() as session:
        assert [row.id for row in start_images.present(session)] == [early.id, late.id]
        assert [row.id for row in start_images.present(session, tasks=["close_drawer"])] == [late.id]


def test_a_picture_without_a_blob_is_one_that_was_removed(database: Database, now: datetime) -> None:
    with (
        pytest.raises(sa.exc.IntegrityError, match="ck_start_images_image_ends"),
        database.write() as session,
    ):
        row = start_images.add(session, new(), who="ann", now=now)
        row.image = None
        session.flush()
