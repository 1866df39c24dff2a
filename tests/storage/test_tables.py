"""What both databases hold to, whatever the code above them does."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from storage import audit, labels, notes
from storage.db import Database
from storage.errors import NaiveDatetime
from storage.every_table import METADATA
from storage.note_tables import EpisodeNoteRow
from storage.tables import (
    AuditEventRow,
    CheckpointRow,
    EpisodeBlobRow,
    IterationRow,
    LabelRow,
    LeaseRow,
    PhaseRunRow,
    Row,
    TaskRow,
)

INDIA = timezone(timedelta(hours=5, minutes=30))


def iteration(now: datetime, **changes: object) -> IterationRow:
    values = {"number": 1, "state": "requested", "spec": {}, "spec_digest": "0" * 64, "requested_at": now}
    return IterationRow(**(values | changes))


def phase_run(now: datetime, iteration_id: str, **changes: object) -> PhaseRunRow:
    values = {
        "iteration_id": iteration_id,
        "phase": "collect",
        "attempt": 1,
        "state": "queued",
        "progress": 0.0,
        "progress_text": "",
        "queued_at": now,
    }
    return PhaseRunRow(**(values | changes))


def checkpoint(now: datetime, **changes: object) -> CheckpointRow:
    values = {
        "kind": "policy",
        "number": 1,
        "sha256": "0" * 64,
        "size_bytes": 1,
        "spec_digest": "0" * 64,
        "card": {},
        "created_at": now,
    }
    return CheckpointRow(**(values | changes))


def refused(database: Database, *rows: Row) -> str:
    with pytest.raises(sa.exc.IntegrityError) as caught, database.write() as session:
        for row in rows:
            session.add(row)
            session.flush()
    return str(caught.value.orig)


def test_a_time_comes_back_as_the_same_instant_in_utc(database: Database) -> None:
    there = datetime(2026, 3, 1, 4, 15, 0, 123456, tzinfo=INDIA)
    with database.write() as session:
        session.add(TaskRow(id="t", instruction="", registered_at=there))
    with database.read() as session:
        found = session.get_one(TaskRow, "t").registered_at
    assert found == there
    assert found.tzinfo is UTC
    assert found.microsecond == 123456


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    naive = datetime(2026, 3, 1)  # noqa: DTZ001
    with pytest.raises(sa.exc.StatementError) as caught, database.write() as session:
        session.add(TaskRow(id="t", instruction="", registered_at=naive))
        session.flush()
    assert isinstance(caught.value.orig, NaiveDatetime)


def test_times_sort_by_instant_and_not_by_the_clock_on_the_wall(database: Database, now: datetime) -> None:
    earlier = (now - timedelta(minutes=1)).astimezone(INDIA)  # reads later on the wall
    with database.write() as session:
        session.add(TaskRow(id="later", instruction="", registered_at=now))
        session.add(TaskRow(id="earlier", instruction="", registered_at=earlier))
    with database.read() as session:
        assert list(session.scalars(sa.select(TaskRow.id).order_by(TaskRow.registered_at))) == [
            "earlier",
            "later",
        ]


def test_json_comes_back_as_it_went_in(database: Database, now: datetime) -> None:
    facts = {"nested": [{"a": None}, [1, 2.5, -0.125]], "text": 'ü "quoted" 🦾', "yes": True, "big": 2**53}
    with database.write() as session:
        audit.write(session, "a", action="b", subject="c", facts=facts, now=now)
    with database.read() as session:
        assert audit.read(session)[0].facts == facts


@pytest.mark.parametrize("state", ["", "Requested", "done"])
def test_an_iteration_has_no_state_that_the_machine_does_not_know(
    database: Database, now: datetime, state: str
) -> None:
    assert "ck_iterations_state_is_known" in refused(database, iteration(now, state=state))


def test_two_iterations_never_share_a_number(database: Database, now: datetime) -> None:
    refused(database, iteration(now), iteration(now))


def test_iterations_are_numbered_from_one(database: Database, now: datetime) -> None:
    assert "ck_iterations_number_is_positive" in refused(database, iteration(now, number=0))


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"state": "requested"}, "ck_phase_runs_state_is_known"),
        ({"attempt": 0}, "ck_phase_runs_attempt_is_positive"),
        ({"progress": 1.5}, "ck_phase_runs_progress_is_a_share"),
        ({"progress": -0.5}, "ck_phase_runs_progress_is_a_share"),
    ],
)
def test_a_phase_run_cannot_hold_nonsense(
    database: Database, now: datetime, change: dict[str, object], constraint: str
) -> None:
    parent = iteration(now, id="i")
    assert constraint in refused(database, parent, phase_run(now, "i", **change))


def test_an_attempt_exists_once(database: Database, now: datetime) -> None:
    refused(database, iteration(now, id="i"), phase_run(now, "i"), phase_run(now, "i"))


def test_a_run_of_no_iteration_is_refused(database: Database, now: datetime) -> None:
    refused(database, phase_run(now, "nowhere"))


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"kind": "critic"}, "ck_checkpoints_kind_is_known"),
        ({"number": 0}, "ck_checkpoints_number_is_positive"),
    ],
)
def test_a_checkpoint_cannot_hold_nonsense(
    database: Database, now: datetime, change: dict[str, object], constraint: str
) -> None:
    assert constraint in refused(database, checkpoint(now, **change))


def test_a_checkpoint_of_no_parent_that_exists_is_refused(database: Database, now: datetime) -> None:
    refused(database, checkpoint(now, parent_id="nobody"))


def test_a_blob_of_no_episode_is_refused(database: Database) -> None:
    refused(database, EpisodeBlobRow(episode_id="none", name="steps.npz", sha256="0" * 64, size_bytes=1))


def test_a_fence_is_never_negative(database: Database, now: datetime) -> None:
    row = LeaseRow(name="robot", holder=None, fence=-1, acquired_at=now, expires_at=now)
    assert "ck_leases_fence_counts_up" in refused(database, row)


@pytest.mark.parametrize(
    ("table", "column"), [(LabelRow, "judge"), (AuditEventRow, "actor"), (EpisodeNoteRow, "text")]
)
@pytest.mark.parametrize("change", ["update", "delete"])
def test_labels_notes_and_audit_events_are_only_ever_added(
    database: Database,
    committed: Callable,
    an_episode: Callable,
    now: datetime,
    table: type[Row],
    column: str,
    change: str,
) -> None:
    row = committed(an_episode())
    with database.write() as session:
        verdict = labels.Verdict(success=False, source="human", at=now)
        labels.append(session, row.id, verdict, now=now)
        notes.append(session, row.id, "it snagged", author="ann", now=now)
        audit.write(session, "a", action="b", subject="c", facts={}, now=now)
    statement = sa.delete(table) if change == "delete" else sa.update(table).values({column: "forged"})
    with (
        pytest.raises(sa.exc.DBAPIError, match=f"{table.__tablename__} is append-only"),
        database.write() as session,
    ):
        session.execute(statement)
    with database.read() as session:
        assert session.scalars(sa.select(table)).all()


def test_every_constraint_and_index_has_a_name_so_that_a_migration_can_drop_it(database: Database) -> None:
    found = sa.inspect(database.engine)
    for table in METADATA.tables:
        named = [found.get_pk_constraint(table), *found.get_unique_constraints(table)]
        named += [*found.get_foreign_keys(table), *found.get_check_constraints(table)]
        for constraint in named:
            assert constraint["name"], f"{table}: {constraint}"
            assert constraint["name"].split("_")[0] in {"pk", "uq", "fk", "ck"}


def test_every_mapped_table_is_there_and_no_other(database: Database) -> None:
    found = set(sa.inspect(database.engine).get_table_names())
    assert found - {"alembic_version"} == set(METADATA.tables)
    assert set(METADATA.tables) >= {"stations", "tasks", "iterations", "episodes", "labels", "checkpoints"}
