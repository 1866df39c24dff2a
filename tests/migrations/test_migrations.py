"""Migrations: they make the tables that the models describe, undo themselves, and leave nothing half done."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import migrations
from storage.db import Database
from storage.tables import Row

FOLDER = Path(migrations.__file__).parent
SCRIPTS = ScriptDirectory(str(FOLDER))
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]


def differences(database: Database) -> list[object]:
    """What a new migration would have to do; a reflected index or constraint counts too."""
    with database.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_object": _ours}
        return compare_metadata(MigrationContext.configure(connection, opts=options), Row.metadata)


def _ours(thing: object, name: str | None, kind: str, reflected: bool, compare_to: object) -> bool:
    return not (kind == "table" and name == "alembic_version")


def schema_of(database: Database) -> list[tuple[str, ...]]:
    """Everything that the database itself says it holds."""
    if database.is_sqlite:
        query = "SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'alembic%'"
    else:
        query = """
            SELECT 'table', tablename, '' FROM pg_tables WHERE schemaname = 'public'
            UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
                WHERE connamespace = 'public'::regnamespace
            UNION ALL SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL SELECT 'function', proname, '' FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            UNION ALL SELECT 'sequence', sequencename, '' FROM pg_sequences WHERE schemaname = 'public'
        """
    with database.read() as session:
        found = sorted(tuple(row) for row in session.execute(sa.text(query)))
    return [row for row in found if "alembic_version" not in row[1]]


def test_migrations_equal_models(empty_database: Database) -> None:
    empty_database.upgrade()
    assert differences(empty_database) == []


def test_the_comparison_would_notice_a_difference(empty_database: Database) -> None:
    empty_database.upgrade()
    with empty_database.write() as session:
        session.execute(sa.text("DROP INDEX ix_labels_episode_id"))
        session.execute(sa.text("ALTER TABLE tasks ADD COLUMN surplus INTEGER"))
    assert {difference[0] for difference in differences(empty_database)} == {"add_index", "remove_column"}


def test_check_constraints_equal_those_of_the_models(empty_database: Database) -> None:
    """Alembic does not compare these."""
    empty_database.upgrade()
    inspected = sa.inspect(empty_database.engine)
    for table in Row.metadata.tables.values():
        checks = [each for each in table.constraints if isinstance(each, sa.CheckConstraint)]
        wanted = {each.name: str(each.sqltext) for each in checks}
        found = {each["name"]: each["sqltext"] for each in inspected.get_check_constraints(table.name)}
        assert set(found) == set(wanted), table.name
        if empty_database.is_sqlite:  # PostgreSQL rewrites the text
            assert found == wanted, table.name


def test_every_downgrade_undoes_its_upgrade(empty_database: Database) -> None:
    before = []
    for revision in REVISIONS:
        before.append(schema_of(empty_database))
        empty_database.upgrade(revision)
        assert schema_of(empty_database) != before[-1]
    for step in reversed(range(len(REVISIONS))):
        empty_database.downgrade(REVISIONS[step - 1] if step else "base")
        assert schema_of(empty_database) == before[step]


def test_an_upgrade_after_a_downgrade_gives_the_same_tables(empty_database: Database) -> None:
    empty_database.upgrade()
    wanted = schema_of(empty_database)
    empty_database.downgrade("base")
    assert empty_database.revision() is None
    empty_database.upgrade()
    assert schema_of(empty_database) == wanted


def test_a_migration_that_fails_leaves_nothing_behind(empty_database: Database) -> None:
    """Something stands in the way of the last table; the tables before it must not stay."""
    with empty_database.write() as session:
        session.execute(sa.text("CREATE TABLE checkpoint_episodes (in_the_way INTEGER)"))
    before = schema_of(empty_database)
    with pytest.raises(sa.exc.DBAPIError):
        empty_database.upgrade()
    assert schema_of(empty_database) == before
    assert empty_database.revision() is None
    with empty_database.write() as session:
        session.execute(sa.text("DROP TABLE checkpoint_episodes"))
    empty_database.upgrade()
    assert differences(empty_database) == []


def test_there_is_one_line_of_revisions_numbered_in_order() -> None:
    assert len(SCRIPTS.get_heads()) == 1
    assert [f"{number:04d}" for number in range(1, len(REVISIONS) + 1)] == REVISIONS


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_migration_says_why_what_happens_to_old_rows_and_what_it_locks(revision: str) -> None:
    text = SCRIPTS.get_revision(revision).module.__doc__ or ""
    for heading in ("Why:", "Old rows:", "Locks:"):
        assert heading in text


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_migration_moves_rows_in_sql_and_never_through_the_models_of_today(revision: str) -> None:
    (path,) = (FOLDER / "versions").glob(f"{revision}_*.py")
    assert "storage" not in path.read_text()


def test_rows_of_the_release_before_outlive_the_jobs_at_autoeval_in_both_directions(
    empty_database: Database,
) -> None:
    empty_database.upgrade("0001")
    insert = "INSERT INTO tasks (id, instruction, registered_at) VALUES ('t', 'do', '2026-01-01 00:00:00')"
    with empty_database.write() as session:
        session.execute(sa.text(insert))
    for change in (empty_database.upgrade, empty_database.downgrade):
        change("0002" if change == empty_database.upgrade else "0001")
        with empty_database.read() as session:
            assert session.execute(sa.text("SELECT id, instruction FROM tasks")).all() == [("t", "do")]
    assert "autoeval_jobs" not in sa.inspect(empty_database.engine).get_table_names()


def test_a_store_of_the_release_before_goes_on_with_the_policy_that_would_have_acted(
    empty_database: Database,
) -> None:
    empty_database.upgrade("0003")
    insert_policy = (
        "INSERT INTO checkpoints (id, kind, number, sha256, size_bytes, spec_digest, card, created_at) "
        "VALUES (:id, 'policy', :number, 'x', 1, 'x', '{}', :at)"
    )
    insert_iteration = (
        "INSERT INTO iterations (id, number, state, spec, spec_digest, requested_at) "
        "VALUES ('i', 1, 'finished', '{}', 'x', :at)"
    )
    insert_run = (
        "INSERT INTO phase_runs "
        "(id, iteration_id, phase, attempt, state, progress, progress_text, queued_at, outcome) "
        "VALUES ('r', 'i', 'update_policy', 1, 'finished', 1, '', :at, :outcome)"
    )
    at = {"at": "2026-01-01 00:00:00"}
    with empty_database.write() as session:
        for number, name in enumerate(("one", "two", "killed"), 1):
            session.execute(sa.text(insert_policy), {**at, "id": name, "number": number})
        session.execute(sa.text(insert_iteration), at)
        session.execute(sa.text(insert_run), {**at, "outcome": '{"made": {"policy": "two"}}'})
    empty_database.upgrade("0004")
    with empty_database.read() as session:
        rows = session.execute(sa.text("SELECT number, goes_on_id, decision FROM trials")).all()
    assert rows == [(1, "two", "adopted")]
    empty_database.downgrade("0003")
    with empty_database.read() as session:
        kept = session.execute(sa.text("SELECT id FROM checkpoints ORDER BY number")).scalars().all()
    assert kept == ["one", "two", "killed"]


def test_a_fresh_store_has_no_champion_yet(empty_database: Database) -> None:
    empty_database.upgrade()
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT count(*) FROM trials")).scalar() == 0


def test_rows_of_the_release_before_outlive_the_events_in_both_directions(empty_database: Database) -> None:
    empty_database.upgrade("0004")
    insert = "INSERT INTO tasks (id, instruction, registered_at) VALUES ('t', 'do', '2026-01-01 00:00:00')"
    with empty_database.write() as session:
        session.execute(sa.text(insert))
    empty_database.upgrade("0010")
    with empty_database.write() as session:
        for statement in (
            "INSERT INTO events (at, kind, facts) VALUES ('2026-01-01 00:00:00', 'disk_low', '{}')",
            "INSERT INTO webhooks (name, position, tries, delivered, given_up) VALUES ('lab', 1, 0, 1, 0)",
            "INSERT INTO request_keys (scope, key, digest, made, used_at) "
            "VALUES ('labels', 'k', 'x', '1', '2026-01-01 00:00:00')",
        ):
            session.execute(sa.text(statement))
    empty_database.downgrade("0004")
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT id FROM tasks")).scalars().all() == ["t"]
    empty_database.upgrade("0010")
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT count(*) FROM events")).scalar() == 0
