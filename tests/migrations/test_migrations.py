"""Migrations: they make the tables that the models describe, undo themselves, and leave nothing half done."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import migrations
from storage.db import Database
from storage.every_table import METADATA

FOLDER = Path(migrations.__file__).parent
SCRIPTS = ScriptDirectory(str(FOLDER))
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]


def differences(database: Database) -> list[object]:
    """What a new migration would have to do; a reflected index or constraint counts too."""
    with database.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_object": _ours}
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)


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
            UNION ALL SELECT 'column', table_name || '.' || column_name, data_type || is_nullable
                FROM information_schema.columns WHERE table_schema = 'public'
            UNION ALL SELECT 'sequence', sequencename, '' FROM pg_sequences WHERE schemaname = 'public'
        """
    with database.read() as session:
        found = sorted(tuple(row) for row in session.execute(sa.text(query)))
    return [(*row[:2], _unordered(row[2])) for row in found if "alembic_version" not in row[1]]


def _unordered(sql: str) -> str:
    """SQLite's text of a table says in which order it was altered; that means nothing."""
    return " ".join(sorted(line.strip(" ,\t").replace('"', "") for line in sql.splitlines()))


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
    for table in METADATA.tables.values():
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


INSERT_ITERATION = (
    "INSERT INTO iterations (id, number, state, spec, spec_digest, requested_at, started_at) "
    "VALUES (:id, :number, :state, '{}', 'x', '2026-01-01 00:00:00', :started)"
)
INSERT_RUN = (
    "INSERT INTO phase_runs (id, iteration_id, phase, attempt, state, progress, progress_text, queued_at) "
    "VALUES (:id, :iteration, :phase, 1, :state, 0, '', '2026-01-01 00:00:00')"
)


def an_iteration_of_every_state(database: Database, states: tuple[str, ...]) -> None:
    with database.write() as session:
        for number, state in enumerate(states, 1):
            started = None if state == "requested" else "2026-01-01 00:00:00"
            row = {"id": f"{state}-{number}", "number": number, "state": state, "started": started}
            session.execute(sa.text(INSERT_ITERATION), row)


def stored_states(database: Database, table: str) -> dict[str, str]:
    with database.read() as session:
        return {row.id: row.state for row in session.execute(sa.text(f"SELECT id, state FROM {table}"))}  # noqa: S608


def test_iterations_of_the_release_before_can_be_steered_and_nothing_is_wished_of_them(
    empty_database: Database,
) -> None:
    empty_database.upgrade("0004")
    an_iteration_of_every_state(empty_database, ("requested", "running", "finished", "failed", "cancelled"))
    with empty_database.write() as session:
        run = {"id": "r", "iteration": "running-2", "phase": "collect", "state": "failed"}
        session.execute(sa.text(INSERT_RUN), run)
    before = stored_states(empty_database, "iterations")
    empty_database.upgrade("0006")
    assert stored_states(empty_database, "iterations") == before
    with empty_database.read() as session:
        assert (
            session.execute(sa.text("SELECT count(*) FROM iterations WHERE wish IS NOT NULL")).scalar() == 0
        )
        assert session.execute(sa.text("SELECT count(*) FROM phase_runs WHERE NOT forgiven")).scalar() == 1
    with empty_database.write() as session:  # the release before writes neither column
        run = {"id": "r2", "iteration": "running-2", "phase": "update_policy", "state": "queued"}
        session.execute(sa.text(INSERT_RUN), run)
    empty_database.downgrade("0004")
    assert stored_states(empty_database, "iterations") == before
    assert stored_states(empty_database, "phase_runs") == {"r": "failed", "r2": "queued"}


def test_a_wish_is_only_had_of_an_iteration_that_runs(empty_database: Database) -> None:
    empty_database.upgrade("0006")
    an_iteration_of_every_state(empty_database, ("running", "paused"))
    for id_, wish in (("paused-2", "pause"), ("running-1", "fly")):
        update = sa.text("UPDATE iterations SET wish = :wish WHERE id = :id")
        with pytest.raises(sa.exc.IntegrityError), empty_database.write() as session:
            session.execute(update, {"id": id_, "wish": wish})


def test_the_release_before_goes_on_with_what_was_paused_skipped_or_forgiven(
    empty_database: Database,
) -> None:
    empty_database.upgrade("0006")
    an_iteration_of_every_state(empty_database, ("paused", "running", "requested"))
    with empty_database.write() as session:
        session.execute(
            sa.text(INSERT_ITERATION), {"id": "p", "number": 9, "state": "paused", "started": None}
        )
        session.execute(sa.text("UPDATE iterations SET wish = 'pause' WHERE id = 'running-2'"))
        for id_, phase, state in (
            ("skipped", "collect", "skipped"),
            ("forgiven", "finetune_world_model", "failed"),
            ("waits", "update_policy", "queued"),
        ):
            run = {"id": id_, "iteration": "paused-1", "phase": phase, "state": state}
            session.execute(sa.text(INSERT_RUN), run)
        session.execute(sa.text("UPDATE phase_runs SET forgiven = true WHERE id = 'forgiven'"))
    empty_database.downgrade("0004")
    assert stored_states(empty_database, "iterations") == {
        "paused-1": "running",
        "running-2": "running",
        "requested-3": "requested",
        "p": "requested",
    }
    runs = {"skipped": "finished", "forgiven": "abandoned", "waits": "queued"}
    assert stored_states(empty_database, "phase_runs") == runs
    empty_database.upgrade("0006")
    assert stored_states(empty_database, "phase_runs") == runs


def test_a_fresh_store_has_no_champion_yet(empty_database: Database) -> None:
    empty_database.upgrade()
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT count(*) FROM trials")).scalar() == 0


def test_rows_of_the_release_before_outlive_the_access_tokens_in_both_directions(
    empty_database: Database,
) -> None:
    empty_database.upgrade("0004")
    insert_task = (
        "INSERT INTO tasks (id, instruction, registered_at) VALUES ('t', 'do', '2026-01-01 00:00:00')"
    )
    insert_access = (
        "INSERT INTO access_tokens (id, name, scopes, secret_hash, created_at) "
        "VALUES ('0123456789abcdef', 'ann', '[\"read\"]', 'x', '2026-01-01 00:00:00')"
    )
    with empty_database.write() as session:
        session.execute(sa.text(insert_task))
    empty_database.upgrade("0005")
    with empty_database.write() as session:
        session.execute(sa.text(insert_access))
    empty_database.downgrade("0004")
    assert "access_tokens" not in sa.inspect(empty_database.engine).get_table_names()
    empty_database.upgrade("0005")
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT id FROM tasks")).scalars().all() == ["t"]
        assert session.execute(sa.text("SELECT count(*) FROM access_tokens")).scalar() == 0


def test_rows_of_the_release_before_outlive_schedules_and_hours_in_both_directions(
    empty_database: Database,
) -> None:
    before = SCRIPTS.get_revision("0008").down_revision
    empty_database.upgrade(str(before))
    at = {"at": "2026-01-01 00:00:00"}
    iteration = (
        "INSERT INTO iterations (id, number, state, spec, spec_digest, requested_at) "
        "VALUES ('i', 1, 'finished', '{}', 'x', :at)"
    )
    schedule = (
        "INSERT INTO schedules (id, name, enabled, trigger, spec, version, runs, created_at, updated_at, "
        "last_iteration_id) VALUES ('s', 'nightly', true, '{}', '{}', 1, 1, :at, :at, 'i')"
    )
    hours = "INSERT INTO station_hours (station_id, hours, version, updated_at) VALUES ('c', '{}', 1, :at)"
    with empty_database.write() as session:
        session.execute(sa.text(iteration), at)
    for _ in range(2):
        empty_database.upgrade("0008")
        with empty_database.write() as session:
            session.execute(sa.text(schedule), at)
            session.execute(sa.text(hours), at)
        empty_database.downgrade(str(before))
        with empty_database.read() as session:
            assert session.execute(sa.text("SELECT id FROM iterations")).scalars().all() == ["i"]
        assert "schedules" not in sa.inspect(empty_database.engine).get_table_names()


def test_phase_runs_and_checkpoints_outlive_their_manifests_in_both_directions(
    empty_database: Database,
) -> None:
    empty_database.upgrade("0006")
    at = {"at": "2026-01-01 00:00:00"}
    statements = (
        "INSERT INTO iterations (id, number, state, spec, spec_digest, requested_at) "
        "VALUES ('i', 1, 'finished', '{}', 'x', :at)",
        "INSERT INTO phase_runs "
        "(id, iteration_id, phase, attempt, state, progress, progress_text, queued_at) "
        "VALUES ('r', 'i', 'collect', 1, 'finished', 1, '', :at)",
        "INSERT INTO checkpoints (id, kind, number, sha256, size_bytes, spec_digest, card, created_at) "
        "VALUES ('c', 'policy', 1, 'x', 1, 'x', '{}', :at)",
    )
    with empty_database.write() as session:
        for statement in statements:
            session.execute(sa.text(statement), at)
    empty_database.upgrade("0007")
    with empty_database.write() as session:
        session.execute(sa.text("INSERT INTO phase_manifests VALUES ('r', '{}', 'x', :at)"), at)
        session.execute(sa.text("INSERT INTO tensor_digests VALUES ('c', 'x')"))
    empty_database.downgrade("0006")
    assert not {"phase_manifests", "tensor_digests"} & set(
        sa.inspect(empty_database.engine).get_table_names()
    )
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT id FROM phase_runs")).scalars().all() == ["r"]
        assert session.execute(sa.text("SELECT id FROM checkpoints")).scalars().all() == ["c"]


def test_rows_of_the_release_before_keep_their_files_and_outlive_going_back(empty_database: Database) -> None:
    empty_database.upgrade(before := SCRIPTS.get_revision("0009").down_revision)
    statements = (
        "INSERT INTO stations (id, description, first_seen_at, last_seen_at) VALUES ('s', '{}', :at, :at)",
        "INSERT INTO tasks (id, instruction, registered_at) VALUES ('t', 'do', :at)",
        "INSERT INTO checkpoints (id, kind, number, sha256, size_bytes, spec_digest, card, created_at) "
        "VALUES ('c', 'policy', 1, 'x', 1, 'x', '{}', :at)",
        "INSERT INTO episodes (id, station_id, task_id, origin, held_out, instruction, steps, outcome, "
        "valid_for_policy_eval, valid_for_world_model, manifest, manifest_sha256, started_at, ended_at, "
        "committed_at) VALUES ('e', 's', 't', 'collect', true, 'do', 1, 'completed', true, true, '{}', 'x', "
        ":at, :at, :at)",
    )
    with empty_database.write() as session:
        for statement in statements:
            session.execute(sa.text(statement), {"at": "2026-01-01 00:00:00"})
    empty_database.upgrade("0009")
    with empty_database.write() as session:
        for table in ("checkpoints", "episodes"):
            assert session.execute(sa.text(f"SELECT retired_at FROM {table}")).scalars().all() == [None]  # noqa: S608
            session.execute(sa.text(f"UPDATE {table} SET retired_at = '2026-02-01 00:00:00'"))  # noqa: S608
    empty_database.downgrade(before)
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT id FROM checkpoints")).scalars().all() == ["c"]
        assert session.execute(sa.text("SELECT id FROM episodes")).scalars().all() == ["e"]


def test_episodes_of_the_release_before_are_counted_with_the_verdict_that_counts(
    empty_database: Database,
) -> None:
    empty_database.upgrade(revision_before("0011"))
    at = {"at": "2026-01-01 00:00:00", "end": "2026-01-01 00:00:08"}
    with empty_database.write() as session:
        for statement in (
            "INSERT INTO tasks (id, instruction, registered_at) VALUES ('t', 'do', :at)",
            "INSERT INTO stations (id, description, first_seen_at, last_seen_at) "
            "VALUES ('s', '{}', :at, :at)",
            "INSERT INTO iterations (id, number, state, spec, spec_digest, requested_at) "
            "VALUES ('i', 1, 'finished', '{}', 'x', :at)",
        ):
            session.execute(sa.text(statement), at)
        for name, valid in (("won", True), ("lost", True), ("open", True), ("broken", False)):
            insert = (
                "INSERT INTO episodes (id, station_id, task_id, iteration_id, origin, held_out, instruction, "
                "steps, outcome, valid_for_policy_eval, valid_for_world_model, manifest, manifest_sha256, "
                "started_at, ended_at, committed_at) VALUES (:id, 's', 't', 'i', 'collect', false, 'do', 1, "
                "'completed', :valid, true, '{}', :id, :at, :end, :at)"
            )
            session.execute(sa.text(insert), {**at, "id": name, "valid": valid})
        for name, success, source in (
            ("won", False, "vlm"),
            ("won", True, "human"),
            ("won", False, "classifier"),
            ("lost", False, "vlm"),
            ("open", None, "human"),
            ("broken", True, "human"),
        ):
            insert = (
                "INSERT INTO labels (episode_id, success, source, labelled_at, recorded_at) "
                "VALUES (:id, :success, :source, :at, :at)"
            )
            session.execute(sa.text(insert), {**at, "id": name, "success": success, "source": source})
    empty_database.upgrade("0011")
    with empty_database.read() as session:
        counted = "SELECT successes, judged, unlabelled, invalid, robot_seconds FROM success_counts"
        (row,) = session.execute(sa.text(counted)).all()
    assert row[:4] == (1, 2, 1, 1)
    assert row[4] == pytest.approx(32, abs=1e-3)
    empty_database.downgrade(revision_before("0011"))
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT count(*) FROM labels")).scalar() == 6
    assert "success_counts" not in sa.inspect(empty_database.engine).get_table_names()


def revision_before(revision: str) -> str:
    return REVISIONS[REVISIONS.index(revision) - 1]


def test_rows_of_the_release_before_outlive_the_events_in_both_directions(empty_database: Database) -> None:
    empty_database.upgrade("0009")
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
    empty_database.downgrade("0009")
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT id FROM tasks")).scalars().all() == ["t"]
    empty_database.upgrade("0010")
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT count(*) FROM events")).scalar() == 0


def test_rows_of_the_release_before_outlive_what_ifs_in_both_directions(empty_database: Database) -> None:
    empty_database.upgrade(revision_before("0012"))
    insert = "INSERT INTO tasks (id, instruction, registered_at) VALUES ('t', 'do', '2026-01-01 00:00:00')"
    with empty_database.write() as session:
        session.execute(sa.text(insert))
    empty_database.upgrade("0012")
    with empty_database.write() as session:
        for statement in (
            "INSERT INTO what_ifs (id, state, attempts, request, requested_by, progress, progress_text, "
            "requested_at) VALUES ('w', 'queued', 0, '{}', 'ann', 0, '', '2026-01-01 00:00:00')",
            "INSERT INTO start_images (id, task_id, instruction, image, added_by, added_at) "
            "VALUES ('s', 't', 'do', '{}', 'ann', '2026-01-01 00:00:00')",
        ):
            session.execute(sa.text(statement))
    empty_database.downgrade(revision_before("0012"))
    left = set(sa.inspect(empty_database.engine).get_table_names())
    assert not {"what_ifs", "start_images"} & left
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT id FROM tasks")).scalars().all() == ["t"]
    empty_database.upgrade("0012")
    with empty_database.read() as session:
        assert session.execute(sa.text("SELECT count(*) FROM what_ifs")).scalar() == 0


ITERATION = (
    "INSERT INTO iterations (id, number, state, spec, spec_digest, requested_at) "
    "VALUES ('{id}', {number}, 'finished', '{spec}', 'x', '2026-01-01 00:00:00')"
)
CHECKPOINT = (
    "INSERT INTO checkpoints (id, kind, number, iteration_id, sha256, size_bytes, spec_digest, card, "
    "created_at) VALUES ('{id}', 'policy', {number}, {iteration}, 'x', 1, 'x', '{{\"made\": 1}}', "
    "'2026-01-01 00:00:00')"
)


def add(database: Database, *statements: str) -> None:
    with database.write() as session:
        for statement in statements:
            session.execute(sa.text(statement.replace(":", r"\:")))


def read_all(database: Database, statement: str) -> list[tuple[object, ...]]:
    with database.read() as session:
        return [tuple(row) for row in session.execute(sa.text(statement))]


def test_old_iterations_and_what_they_made_are_mains_and_what_was_brought_in_is_anybodys(
    empty_database: Database,
) -> None:
    empty_database.upgrade(revision_before("0013"))
    add(
        empty_database,
        ITERATION.format(id="i", number=1, spec='{"seed": 1}'),
        ITERATION.format(id="again", number=2, spec='{"lineage": "b"}'),  # written before a downgrade
        CHECKPOINT.format(id="base", number=1, iteration="NULL"),
        CHECKPOINT.format(id="made", number=2, iteration="'i'"),
        CHECKPOINT.format(id="there", number=3, iteration="'again'"),
    )
    empty_database.upgrade("0013")
    assert read_all(empty_database, "SELECT id, lineage FROM iterations ORDER BY number") == [
        ("i", "main"),
        ("again", "b"),
    ]
    assert read_all(empty_database, "SELECT id, lineage FROM checkpoints ORDER BY number") == [
        ("base", None),
        ("made", "main"),
        ("there", "b"),
    ]


def test_after_a_downgrade_nobody_goes_on_from_what_other_lineages_made(empty_database: Database) -> None:
    empty_database.upgrade("0013")
    run = (
        "INSERT INTO phase_runs (id, iteration_id, phase, attempt, state, progress, progress_text, "
        "queued_at, outcome) VALUES ('{id}', '{id}', 'update_policy', 1, 'finished', 1, '', "
        "'2026-01-01 00:00:00', "
        '\'{{"made": {{"policy": "{made}"}}, "updates": 3}}\')'
    )
    trial = (
        "INSERT INTO trials (id, number, iteration_id, champion_id, candidate_id, goes_on_id, decision, "
        "evidence, decided_at) VALUES ('{id}', {number}, '{id}', 'base', '{made}', '{made}', 'promoted', "
        "'{{}}', '2026-01-01 00:00:00')"
    )
    statements = [CHECKPOINT.format(id="base", number=1, iteration="NULL")]
    for number, name in enumerate(("main", "b"), 1):
        made = f"of {name}"
        statements += [
            ITERATION.format(id=name, number=number, spec="{}"),
            "UPDATE iterations SET lineage = id",
            CHECKPOINT.format(id=made, number=1 + number, iteration=f"'{name}'"),
            run.format(id=name, made=made),
            trial.format(id=name, number=number, made=made),
        ]
    brought = CHECKPOINT.format(id="brought", number=9, iteration="NULL")
    add(empty_database, *statements, brought, "UPDATE checkpoints SET lineage = 'b' WHERE id = 'brought'")
    empty_database.downgrade(revision_before("0013"))
    with empty_database.read() as session:
        runs = sa.table("phase_runs", sa.column("id"), sa.column("outcome", sa.JSON))
        outcomes = {row.id: row.outcome for row in session.execute(sa.select(runs))}
        kept = sa.table("checkpoints", sa.column("id"), sa.column("card", sa.JSON))
        cards = {row.id: row.card for row in session.execute(sa.select(kept))}
    assert outcomes == {
        "main": {"made": {"policy": "of main"}, "updates": 3},
        "b": {"made": {}, "updates": 3},
    }
    assert cards.pop("brought") == {"made": 1, "candidate": True}
    assert set(map(str, cards.values())) == {"{'made': 1}"}
    assert read_all(empty_database, "SELECT goes_on_id FROM trials") == [("of main",)]


COLLECTED = (
    "INSERT INTO phase_runs (id, iteration_id, phase, attempt, state, progress, progress_text, queued_at) "
    "VALUES ('{id}', 'i', 'collect', {attempt}, 'finished', 1, '', '2026-01-01 00:00:00')"
)
MANIFEST = (
    "INSERT INTO phase_manifests (phase_run_id, content, sha256, written_at) VALUES "
    "('{id}', '{{\"environment\": {environment}}}', 'x', '2026-01-01 00:00:00')"
)


def test_old_runs_have_the_device_that_their_manifest_names(empty_database: Database) -> None:
    empty_database.upgrade(revision_before("0014"))
    environments = {
        "gpu": '{"accelerator": "NVIDIA H200", "processor": "AMD EPYC"}',
        "cpu": '{"accelerator": null, "processor": "AMD EPYC"}',
        "none": "{}",
        "silent": None,
    }
    statements = [ITERATION.format(id="i", number=1, spec="{}")]
    for attempt, (name, environment) in enumerate(environments.items(), 1):
        statements.append(COLLECTED.format(id=name, attempt=attempt))
        if environment is not None:
            statements.append(MANIFEST.format(id=name, environment=environment))
    add(empty_database, *statements)
    empty_database.upgrade("0014")
    found = read_all(empty_database, "SELECT id, device FROM phase_runs ORDER BY attempt")
    assert found == [("gpu", "NVIDIA H200"), ("cpu", "AMD EPYC"), ("none", None), ("silent", None)]
    empty_database.downgrade(revision_before("0014"))
    assert len(read_all(empty_database, "SELECT id FROM phase_runs")) == len(environments)


OLD_EPISODE = (
    "INSERT INTO episodes (id, station_id, task_id, origin, held_out, instruction, steps, outcome, "
    "valid_for_policy_eval, valid_for_world_model, manifest, manifest_sha256, started_at, ended_at, "
    "committed_at) VALUES ('e', 'c', 't', 'collect', false, 'do', 3, 'completed', true, true, '{}', 'x', "
    "'2026-01-01 00:00:00', '2026-01-01 00:00:01', '2026-01-01 00:00:02')"
)


def test_episodes_of_before_are_kept_and_are_not_measured(empty_database: Database) -> None:
    empty_database.upgrade(revision_before("0015"))
    add(
        empty_database,
        "INSERT INTO stations (id, description, first_seen_at, last_seen_at) "
        "VALUES ('c', '{}', '2026-01-01 00:00:00', '2026-01-01 00:00:00')",
        "INSERT INTO tasks (id, instruction, registered_at) VALUES ('t', 'do', '2026-01-01 00:00:00')",
        OLD_EPISODE,
    )
    measured = "INSERT INTO episode_health (episode_id, cut_steps, inference_ms, step_ms) VALUES "
    for _ in range(2):
        empty_database.upgrade("0015")
        assert read_all(empty_database, "SELECT episode_id FROM episode_health") == []
        add(empty_database, f"{measured} ('e', 1, '{{}}', '{{}}')")
        empty_database.downgrade(revision_before("0015"))
        assert read_all(empty_database, "SELECT id, steps FROM episodes") == [("e", 3)]
    empty_database.upgrade("0015")
    with pytest.raises(sa.exc.IntegrityError):
        add(empty_database, f"{measured} ('e', -1, '{{}}', '{{}}')")
    with pytest.raises(sa.exc.IntegrityError):
        add(empty_database, f"{measured} ('nobody', 1, '{{}}', '{{}}')")


def test_episodes_and_labels_outlive_notes_in_both_directions_and_no_note_is_ever_changed(
    empty_database: Database,
) -> None:
    empty_database.upgrade(revision_before("0016"))
    add(
        empty_database,
        "INSERT INTO stations (id, description, first_seen_at, last_seen_at) "
        "VALUES ('c', '{}', '2026-01-01 00:00:00', '2026-01-01 00:00:00')",
        "INSERT INTO tasks (id, instruction, registered_at) VALUES ('t', 'do', '2026-01-01 00:00:00')",
        OLD_EPISODE,
        "INSERT INTO labels (episode_id, source, answer, labelled_at, recorded_at) "
        "VALUES ('e', 'human', 'it snagged', '2026-01-01 00:00:03', '2026-01-01 00:00:03')",
    )
    noted = "INSERT INTO episode_notes (episode_id, text, author, noted_at) VALUES "
    for turn in range(2):
        empty_database.upgrade("0016")
        assert read_all(empty_database, "SELECT id FROM episode_notes") == []
        add(empty_database, f"{noted} ('e', 'the cable snagged', 'ann', '2026-01-01 00:00:04')")
        for change in ("UPDATE episode_notes SET text = 'x'", "DELETE FROM episode_notes"):
            with pytest.raises(sa.exc.DBAPIError, match="episode_notes is append-only"):
                add(empty_database, change)
        assert read_all(empty_database, "SELECT text FROM episode_notes") == [("the cable snagged",)]
        keys = "INSERT INTO request_keys (scope, key, digest, made, used_at) VALUES "
        add(
            empty_database,
            f"{keys} ('notes', 'k', '{64 * '0'}', '1', '2026-01-01 00:00:04')",
            f"{keys} ('labels', 'k{turn}', '{64 * '0'}', '1', '2026-01-01 00:00:04')",
        )
        empty_database.downgrade(revision_before("0016"))
        left = {scope for (scope,) in read_all(empty_database, "SELECT scope FROM request_keys")}
        assert left == {"labels"}, "a key of a note that is gone would find somebody else's"
        assert read_all(empty_database, "SELECT id, steps FROM episodes") == [("e", 3)]
        assert read_all(empty_database, "SELECT success, answer FROM labels") == [(None, "it snagged")]
    empty_database.upgrade("0016")
    for refused in ("('e', '', 'ann', {})", "('nobody', 'it snagged', 'ann', {})"):
        with pytest.raises(sa.exc.IntegrityError):
            add(empty_database, noted + refused.format("'2026-01-01 00:00:04'"))


def test_counts_are_told_whether_they_have_a_mark_or_not(empty_database: Database) -> None:
    empty_database.upgrade(revision_before("0017"))
    add(
        empty_database,
        "INSERT INTO stations (id, description, first_seen_at, last_seen_at) "
        "VALUES ('c', '{}', '2026-01-01 00:00:00', '2026-01-01 00:00:00')",
        "INSERT INTO tasks (id, instruction, registered_at) VALUES ('t', 'do', '2026-01-01 00:00:00')",
        "INSERT INTO success_counts (task_id, station_id, successes, judged, unlabelled, invalid, "
        "robot_seconds) VALUES ('t', 'c', 1, 2, 0, 0, 60.0)",
    )
    for _ in range(2):
        empty_database.upgrade("0017")
        assert read_all(empty_database, "SELECT changes FROM success_count_marks") == []
        add(empty_database, "INSERT INTO success_count_marks (id, changes) VALUES (1, 7)")
        empty_database.downgrade(revision_before("0017"))
        assert read_all(empty_database, "SELECT successes, judged FROM success_counts") == [(1, 2)]
    empty_database.upgrade("0017")
    with pytest.raises(sa.exc.IntegrityError):
        add(empty_database, "INSERT INTO success_count_marks (id, changes) VALUES (2, 1)")
