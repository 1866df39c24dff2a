"""The first tables: what is asked for, what was tried, what was recorded, what was learned.

Why: the daemon keeps its whole state in the database; files hold only what a row names.
Old rows: none, this is the beginning.
Locks: none, nobody reads tables that do not exist yet.

Labels and audit events are only ever added: triggers refuse to change or delete them on both databases.
"""

from functools import partial

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

_optional = sa.Column
_column = partial(sa.Column, nullable=False)

APPEND_ONLY = ("labels", "audit_events")


def upgrade() -> None:
    tables = (_stations, _tasks, _iterations, _leases, _phase_runs, _metric_summaries, _audit_events)
    for create in (*tables, _checkpoints, _episodes, _episode_blobs, _labels, _checkpoint_episodes):
        create()
    for table in APPEND_ONLY:
        _forbid_changes(table)


def _stations() -> None:
    op.create_table(
        "stations",
        _column("id", NAME),
        _column("description", JSON),
        _column("first_seen_at", INSTANT),
        _column("last_seen_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_stations"),
    )


def _tasks() -> None:
    op.create_table(
        "tasks",
        _column("id", NAME),
        _column("instruction", sa.Text()),
        _column("registered_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
    )


def _iterations() -> None:
    op.create_table(
        "iterations",
        _column("id", ID),
        _column("number", sa.Integer()),
        _column("state", sa.String(length=16)),
        _column("spec", JSON),
        _column("spec_digest", SHA256),
        _optional("idempotency_key", NAME),
        _column("requested_at", INSTANT),
        _optional("started_at", INSTANT),
        _optional("finished_at", INSTANT),
        _optional("error_code", NAME),
        _optional("error_message", sa.Text()),
        _one_of("iterations", "state", "requested", "running", "finished", "failed", "cancelled"),
        sa.CheckConstraint("number > 0", name=op.f("ck_iterations_number_is_positive")),
        sa.PrimaryKeyConstraint("id", name="pk_iterations"),
        sa.UniqueConstraint("idempotency_key", name="uq_iterations_idempotency_key"),
        sa.UniqueConstraint("number", name="uq_iterations_number"),
    )
    op.create_index("ix_iterations_state", "iterations", ["state"])


def _leases() -> None:
    op.create_table(
        "leases",
        _column("name", NAME),
        _optional("holder", NAME),
        _column("fence", sa.BigInteger()),
        _column("acquired_at", INSTANT),
        _column("expires_at", INSTANT),
        sa.CheckConstraint("fence >= 0", name=op.f("ck_leases_fence_counts_up")),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def _phase_runs() -> None:
    op.create_table(
        "phase_runs",
        _column("id", ID),
        _column("iteration_id", ID),
        _column("phase", sa.String(length=32)),
        _column("attempt", sa.Integer()),
        _column("state", sa.String(length=16)),
        _optional("worker", NAME),
        _optional("fence", sa.BigInteger()),
        _column("progress", sa.Double()),
        _column("progress_text", sa.Text()),
        _column("queued_at", INSTANT),
        _optional("started_at", INSTANT),
        _optional("heartbeat_at", INSTANT),
        _optional("finished_at", INSTANT),
        _optional("outcome", JSON),
        _optional("error_code", NAME),
        _optional("error_message", sa.Text()),
        _one_of("phase_runs", "state", "queued", "running", "finished", "failed", "abandoned"),
        sa.CheckConstraint("attempt > 0", name=op.f("ck_phase_runs_attempt_is_positive")),
        sa.CheckConstraint("progress >= 0 AND progress <= 1", name=op.f("ck_phase_runs_progress_is_a_share")),
        _foreign_key("phase_runs", "iteration_id", "iterations"),
        sa.PrimaryKeyConstraint("id", name="pk_phase_runs"),
        sa.UniqueConstraint(
            "iteration_id", "phase", "attempt", name="uq_phase_runs_iteration_id_phase_attempt"
        ),
    )
    op.create_index("ix_phase_runs_state_queued_at", "phase_runs", ["state", "queued_at"])


def _metric_summaries() -> None:
    op.create_table(
        "metric_summaries",
        _column("phase_run_id", ID),
        _column("name", NAME),
        _column("value", sa.Double()),
        _column("recorded_at", INSTANT),
        _foreign_key("metric_summaries", "phase_run_id", "phase_runs"),
        sa.PrimaryKeyConstraint("phase_run_id", "name", name="pk_metric_summaries"),
    )


def _audit_events() -> None:
    op.create_table(
        "audit_events",
        _column("id", SERIAL),
        _column("at", INSTANT),
        _column("actor", NAME),
        _column("action", NAME),
        _column("subject", NAME),
        _column("facts", JSON),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_at", "audit_events", ["at"])
    op.create_index("ix_audit_events_subject", "audit_events", ["subject"])


def _checkpoints() -> None:
    op.create_table(
        "checkpoints",
        _column("id", ID),
        _column("kind", sa.String(length=16)),
        _column("number", sa.Integer()),
        _optional("parent_id", ID),
        _optional("iteration_id", ID),
        _column("sha256", SHA256),
        _column("size_bytes", sa.BigInteger()),
        _column("spec_digest", SHA256),
        _column("card", JSON),
        _column("created_at", INSTANT),
        _one_of("checkpoints", "kind", "world_model", "policy", "judge"),
        sa.CheckConstraint("number > 0", name=op.f("ck_checkpoints_number_is_positive")),
        _foreign_key("checkpoints", "iteration_id", "iterations"),
        _foreign_key("checkpoints", "parent_id", "checkpoints"),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoints"),
        sa.UniqueConstraint("kind", "number", name="uq_checkpoints_kind_number"),
    )
    op.create_index("ix_checkpoints_iteration_id", "checkpoints", ["iteration_id"])
    op.create_index("ix_checkpoints_parent_id", "checkpoints", ["parent_id"])
    op.create_index("ix_checkpoints_sha256", "checkpoints", ["sha256"])


def _episodes() -> None:
    op.create_table(
        "episodes",
        _column("id", EPISODE_ID),
        _column("station_id", NAME),
        _column("task_id", NAME),
        _optional("iteration_id", ID),
        _optional("checkpoint_id", ID),
        _column("origin", sa.String(length=16)),
        _column("held_out", sa.Boolean()),
        _column("instruction", sa.Text()),
        _column("steps", sa.Integer()),
        _column("outcome", sa.String(length=32)),
        _column("valid_for_policy_eval", sa.Boolean()),
        _column("valid_for_world_model", sa.Boolean()),
        _column("manifest", sa.Text()),
        _column("manifest_sha256", SHA256),
        _column("started_at", INSTANT),
        _column("ended_at", INSTANT),
        _column("committed_at", INSTANT),
        _one_of("episodes", "origin", "collect", "imported", "base"),
        sa.CheckConstraint("steps > 0", name=op.f("ck_episodes_steps_is_positive")),
        _foreign_key("episodes", "checkpoint_id", "checkpoints"),
        _foreign_key("episodes", "iteration_id", "iterations"),
        _foreign_key("episodes", "station_id", "stations"),
        _foreign_key("episodes", "task_id", "tasks"),
        sa.PrimaryKeyConstraint("id", name="pk_episodes"),
        sa.UniqueConstraint("manifest_sha256", name="uq_episodes_manifest_sha256"),
    )
    op.create_index("ix_episodes_checkpoint_id", "episodes", ["checkpoint_id"])
    op.create_index("ix_episodes_committed_at_id", "episodes", ["committed_at", "id"])
    op.create_index("ix_episodes_iteration_id", "episodes", ["iteration_id"])
    op.create_index("ix_episodes_origin_held_out", "episodes", ["origin", "held_out"])
    op.create_index("ix_episodes_station_id", "episodes", ["station_id"])
    op.create_index("ix_episodes_task_id", "episodes", ["task_id"])


def _episode_blobs() -> None:
    op.create_table(
        "episode_blobs",
        _column("episode_id", EPISODE_ID),
        _column("name", sa.String(length=64)),
        _column("sha256", SHA256),
        _column("size_bytes", sa.BigInteger()),
        _foreign_key("episode_blobs", "episode_id", "episodes"),
        sa.PrimaryKeyConstraint("episode_id", "name", name="pk_episode_blobs"),
    )
    op.create_index("ix_episode_blobs_sha256", "episode_blobs", ["sha256"])


def _labels() -> None:
    op.create_table(
        "labels",
        _column("id", SERIAL),
        _column("episode_id", EPISODE_ID),
        _optional("success", sa.Boolean()),
        _column("source", sa.String(length=16)),
        _optional("judge", NAME),
        _optional("answer", sa.Text()),
        _optional("confidence", sa.Double()),
        _column("labelled_at", INSTANT),
        _column("recorded_at", INSTANT),
        _one_of("labels", "source", "human", "sim_predicate", "classifier", "vlm"),
        _foreign_key("labels", "episode_id", "episodes"),
        sa.PrimaryKeyConstraint("id", name="pk_labels"),
    )
    op.create_index("ix_labels_episode_id", "labels", ["episode_id"])


def _checkpoint_episodes() -> None:
    op.create_table(
        "checkpoint_episodes",
        _column("checkpoint_id", ID),
        _column("episode_id", EPISODE_ID),
        _foreign_key("checkpoint_episodes", "checkpoint_id", "checkpoints"),
        _foreign_key("checkpoint_episodes", "episode_id", "episodes"),
        sa.PrimaryKeyConstraint("checkpoint_id", "episode_id", name="pk_checkpoint_episodes"),
    )
    op.create_index("ix_checkpoint_episodes_episode_id", "checkpoint_episodes", ["episode_id"])


def _foreign_key(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}_{target}")


def _one_of(table: str, column: str, *values: str) -> sa.CheckConstraint:
    known = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({known})", name=op.f(f"ck_{table}_{column}_is_known"))


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
    children = "labels checkpoint_episodes episode_blobs episodes checkpoints audit_events metric_summaries"
    parents = "phase_runs leases iterations tasks stations"
    for table in f"{children} {parents}".split():  # indexes and triggers go with their table
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for table in APPEND_ONLY:
            op.execute(f"DROP FUNCTION {table}_refuse_changes()")
