"""The first tables: what is asked for, what was tried, what was recorded, what was learned.

Why: the daemon keeps its whole state in the database; files hold only what a row names.
Old rows: none, this is the beginning.
Locks: none, nobody reads tables that do not exist yet.

Labels and audit events are only ever added: triggers refuse to change or delete them on both databases.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

ID = sa.String(length=36)
EPISODE_ID = sa.String(length=100)
NAME = sa.String(length=200)
SHA256 = sa.String(length=64)
INSTANT = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

APPEND_ONLY = ("labels", "audit_events")


def upgrade() -> None:
    _what_is_asked_for()
    _attempts()
    _checkpoints()
    _episodes()
    _parts_of_episodes()
    for table in APPEND_ONLY:
        _forbid_changes(table)


def _what_is_asked_for() -> None:
    op.create_table(
        "stations",
        sa.Column("id", NAME, nullable=False),
        sa.Column("description", JSON, nullable=False),
        sa.Column("first_seen_at", INSTANT, nullable=False),
        sa.Column("last_seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stations")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", NAME, nullable=False),
        sa.Column("instruction", sa.Text(), nullable=False),
        sa.Column("registered_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    op.create_table(
        "iterations",
        sa.Column("id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("spec_digest", SHA256, nullable=False),
        sa.Column("idempotency_key", NAME, nullable=True),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT, nullable=True),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("error_code", NAME, nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('requested', 'running', 'finished', 'failed', 'cancelled')",
            name=op.f("ck_iterations_state_is_known"),
        ),
        sa.CheckConstraint("number > 0", name=op.f("ck_iterations_number_is_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_iterations")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_iterations_idempotency_key")),
        sa.UniqueConstraint("number", name=op.f("uq_iterations_number")),
    )
    op.create_index(op.f("ix_iterations_state"), "iterations", ["state"], unique=False)
    op.create_table(
        "leases",
        sa.Column("name", NAME, nullable=False),
        sa.Column("holder", NAME, nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("acquired_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.CheckConstraint("fence >= 0", name=op.f("ck_leases_fence_counts_up")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def _attempts() -> None:
    op.create_table(
        "phase_runs",
        sa.Column("id", ID, nullable=False),
        sa.Column("iteration_id", ID, nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("worker", NAME, nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("progress_text", sa.Text(), nullable=False),
        sa.Column("queued_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT, nullable=True),
        sa.Column("heartbeat_at", INSTANT, nullable=True),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("outcome", JSON, nullable=True),
        sa.Column("error_code", NAME, nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'finished', 'failed', 'abandoned')",
            name=op.f("ck_phase_runs_state_is_known"),
        ),
        sa.CheckConstraint("attempt > 0", name=op.f("ck_phase_runs_attempt_is_positive")),
        sa.CheckConstraint("progress >= 0 AND progress <= 1", name=op.f("ck_phase_runs_progress_is_a_share")),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iterations.id"], name=op.f("fk_phase_runs_iteration_id_iterations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_phase_runs")),
        sa.UniqueConstraint(
            "iteration_id", "phase", "attempt", name=op.f("uq_phase_runs_iteration_id_phase_attempt")
        ),
    )
    op.create_index(op.f("ix_phase_runs_state_queued_at"), "phase_runs", ["state", "queued_at"], unique=False)
    op.create_table(
        "metric_summaries",
        sa.Column("phase_run_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["phase_run_id"], ["phase_runs.id"], name=op.f("fk_metric_summaries_phase_run_id_phase_runs")
        ),
        sa.PrimaryKeyConstraint("phase_run_id", "name", name=op.f("pk_metric_summaries")),
    )
    op.create_table(
        "audit_events",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("action", NAME, nullable=False),
        sa.Column("subject", NAME, nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_index(op.f("ix_audit_events_at"), "audit_events", ["at"], unique=False)
    op.create_index(op.f("ix_audit_events_subject"), "audit_events", ["subject"], unique=False)


def _checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("parent_id", ID, nullable=True),
        sa.Column("iteration_id", ID, nullable=True),
        sa.Column("sha256", SHA256, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("spec_digest", SHA256, nullable=False),
        sa.Column("card", JSON, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "kind IN ('world_model', 'policy', 'judge')", name=op.f("ck_checkpoints_kind_is_known")
        ),
        sa.CheckConstraint("number > 0", name=op.f("ck_checkpoints_number_is_positive")),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iterations.id"], name=op.f("fk_checkpoints_iteration_id_iterations")
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["checkpoints.id"], name=op.f("fk_checkpoints_parent_id_checkpoints")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoints")),
        sa.UniqueConstraint("kind", "number", name=op.f("uq_checkpoints_kind_number")),
    )
    op.create_index(op.f("ix_checkpoints_iteration_id"), "checkpoints", ["iteration_id"], unique=False)
    op.create_index(op.f("ix_checkpoints_parent_id"), "checkpoints", ["parent_id"], unique=False)
    op.create_index(op.f("ix_checkpoints_sha256"), "checkpoints", ["sha256"], unique=False)


def _episodes() -> None:
    op.create_table(
        "episodes",
        sa.Column("id", EPISODE_ID, nullable=False),
        sa.Column("station_id", NAME, nullable=False),
        sa.Column("task_id", NAME, nullable=False),
        sa.Column("iteration_id", ID, nullable=True),
        sa.Column("checkpoint_id", ID, nullable=True),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("held_out", sa.Boolean(), nullable=False),
        sa.Column("instruction", sa.Text(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("valid_for_policy_eval", sa.Boolean(), nullable=False),
        sa.Column("valid_for_world_model", sa.Boolean(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("manifest_sha256", SHA256, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=False),
        sa.Column("committed_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "origin IN ('collect', 'imported', 'base')", name=op.f("ck_episodes_origin_is_known")
        ),
        sa.CheckConstraint("steps > 0", name=op.f("ck_episodes_steps_is_positive")),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_episodes_checkpoint_id_checkpoints")
        ),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iterations.id"], name=op.f("fk_episodes_iteration_id_iterations")
        ),
        sa.ForeignKeyConstraint(
            ["station_id"], ["stations.id"], name=op.f("fk_episodes_station_id_stations")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_episodes_task_id_tasks")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_episodes")),
        sa.UniqueConstraint("manifest_sha256", name=op.f("uq_episodes_manifest_sha256")),
    )
    op.create_index(op.f("ix_episodes_checkpoint_id"), "episodes", ["checkpoint_id"], unique=False)
    op.create_index(op.f("ix_episodes_committed_at_id"), "episodes", ["committed_at", "id"], unique=False)
    op.create_index(op.f("ix_episodes_iteration_id"), "episodes", ["iteration_id"], unique=False)
    op.create_index(op.f("ix_episodes_origin_held_out"), "episodes", ["origin", "held_out"], unique=False)
    op.create_index(op.f("ix_episodes_station_id"), "episodes", ["station_id"], unique=False)
    op.create_index(op.f("ix_episodes_task_id"), "episodes", ["task_id"], unique=False)


def _parts_of_episodes() -> None:
    op.create_table(
        "episode_blobs",
        sa.Column("episode_id", EPISODE_ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("sha256", SHA256, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["episode_id"], ["episodes.id"], name=op.f("fk_episode_blobs_episode_id_episodes")
        ),
        sa.PrimaryKeyConstraint("episode_id", "name", name=op.f("pk_episode_blobs")),
    )
    op.create_index(op.f("ix_episode_blobs_sha256"), "episode_blobs", ["sha256"], unique=False)
    op.create_table(
        "labels",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("episode_id", EPISODE_ID, nullable=False),
        sa.Column("success", sa.Boolean(), nullable=True),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("judge", NAME, nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("labelled_at", INSTANT, nullable=False),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "source IN ('human', 'sim_predicate', 'classifier', 'vlm')",
            name=op.f("ck_labels_source_is_known"),
        ),
        sa.ForeignKeyConstraint(["episode_id"], ["episodes.id"], name=op.f("fk_labels_episode_id_episodes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labels")),
    )
    op.create_index(op.f("ix_labels_episode_id"), "labels", ["episode_id"], unique=False)
    op.create_table(
        "checkpoint_episodes",
        sa.Column("checkpoint_id", ID, nullable=False),
        sa.Column("episode_id", EPISODE_ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"],
            ["checkpoints.id"],
            name=op.f("fk_checkpoint_episodes_checkpoint_id_checkpoints"),
        ),
        sa.ForeignKeyConstraint(
            ["episode_id"], ["episodes.id"], name=op.f("fk_checkpoint_episodes_episode_id_episodes")
        ),
        sa.PrimaryKeyConstraint("checkpoint_id", "episode_id", name=op.f("pk_checkpoint_episodes")),
    )
    op.create_index(
        op.f("ix_checkpoint_episodes_episode_id"), "checkpoint_episodes", ["episode_id"], unique=False
    )


def _forbid_changes(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_refuse_{verb} BEFORE {verb.upper()} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuse_changes() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_refuse_changes BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_refuse_changes()"
    )


def downgrade() -> None:
    tables = "labels checkpoint_episodes episode_blobs episodes checkpoints audit_events metric_summaries"
    for table in (
        f"{tables} phase_runs leases iterations tasks stations".split()
    ):  # children before parents; indexes and triggers go along
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for table in APPEND_ONLY:
            op.execute(f"DROP FUNCTION {table}_refuse_changes()")
