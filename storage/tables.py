"""The tables, as mapped classes: what a row is, never what is done with it.

The queries live in one module per noun beside this one; the history of the tables lives in migrations/. Types
and the base class are in `columns.py`.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from storage.columns import (
    EPISODE_ID_LENGTH,
    ID_LENGTH,
    MAIN,
    NAME_LENGTH,
    SHA256_LENGTH,
    JsonColumn,
    Row,
    Serial,
    id_column,
    new_id,
)


class StationRow(Row):
    """A robot station that episodes came from."""

    __tablename__ = "stations"

    id: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), primary_key=True)
    description: Mapped[dict[str, Any]]
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]


class TaskRow(Row):
    """What the robot is asked to do."""

    __tablename__ = "tasks"

    id: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), primary_key=True)
    instruction: Mapped[str] = mapped_column(sa.Text)
    registered_at: Mapped[datetime]


class IterationRow(Row):
    """One cycle of collect, finetune, update, as it was asked for.

    `started_at` is null until its turn comes, and again after a retry until its turn comes again. `wish` is
    what somebody asked for while a phase runs that has not stopped yet.
    """

    __tablename__ = "iterations"
    __table_args__ = (
        sa.CheckConstraint(
            "state IN ('requested', 'running', 'paused', 'finished', 'failed', 'cancelled')",
            name="state_is_known",
        ),
        sa.CheckConstraint("wish IS NULL OR (wish = 'pause' AND state = 'running')", name="wish_is_known"),
        sa.CheckConstraint("number > 0", name="number_is_positive"),
        sa.Index(None, "lineage", "number"),
    )

    id: Mapped[str] = mapped_column(sa.String(ID_LENGTH), primary_key=True, default=new_id)
    number: Mapped[int] = mapped_column(unique=True)
    lineage: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), server_default=MAIN)
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    wish: Mapped[str | None] = mapped_column(sa.String(16))
    spec: Mapped[dict[str, Any]]
    spec_digest: Mapped[str] = mapped_column(sa.String(SHA256_LENGTH))
    idempotency_key: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH), unique=True)
    requested_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    error_message: Mapped[str | None] = mapped_column(sa.Text)


class PhaseRunRow(Row):
    """One attempt at one phase of one iteration; one that a retry has `forgiven` counts no more."""

    __tablename__ = "phase_runs"
    __table_args__ = (
        sa.UniqueConstraint("iteration_id", "phase", "attempt"),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'finished', 'failed', 'abandoned', 'skipped')",
            name="state_is_known",
        ),
        sa.CheckConstraint("attempt > 0", name="attempt_is_positive"),
        sa.CheckConstraint("progress >= 0 AND progress <= 1", name="progress_is_a_share"),
        sa.Index(None, "state", "queued_at"),
    )

    id: Mapped[str] = mapped_column(sa.String(ID_LENGTH), primary_key=True, default=new_id)
    iteration_id: Mapped[str] = id_column("iterations.id", index=False)
    phase: Mapped[str] = mapped_column(sa.String(32))
    attempt: Mapped[int]
    state: Mapped[str] = mapped_column(sa.String(16))
    forgiven: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    worker: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    device: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    fence: Mapped[int | None] = mapped_column(sa.BigInteger)
    progress: Mapped[float] = mapped_column(sa.Double)
    progress_text: Mapped[str] = mapped_column(sa.Text)
    queued_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    error_code: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    error_message: Mapped[str | None] = mapped_column(sa.Text)


class CheckpointRow(Row):
    """One saved state of a world model, a policy or a judge; its file is a blob. No `lineage`: anybody's."""

    __tablename__ = "checkpoints"
    __table_args__ = (
        sa.UniqueConstraint("kind", "number"),
        sa.CheckConstraint("kind IN ('world_model', 'policy', 'judge')", name="kind_is_known"),
        sa.CheckConstraint("number > 0", name="number_is_positive"),
    )

    id: Mapped[str] = mapped_column(sa.String(ID_LENGTH), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(sa.String(16))
    number: Mapped[int]
    parent_id: Mapped[str | None] = id_column("checkpoints.id", nullable=True)
    iteration_id: Mapped[str | None] = id_column("iterations.id", nullable=True)
    lineage: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    sha256: Mapped[str] = mapped_column(sa.String(SHA256_LENGTH), index=True)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    spec_digest: Mapped[str] = mapped_column(sa.String(SHA256_LENGTH))
    card: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class TrustReportRow(Row):
    """How far a world model was to be trusted on held-out real episodes, and what the gate said of it."""

    __tablename__ = "trust_reports"
    __table_args__ = (
        sa.CheckConstraint("verdict IN ('accepted', 'rejected', 'measured')", name="verdict_is_known"),
    )
    id: Mapped[str] = mapped_column(sa.String(ID_LENGTH), primary_key=True, default=new_id)
    checkpoint_id: Mapped[str] = id_column("checkpoints.id")
    iteration_id: Mapped[str | None] = id_column("iterations.id", nullable=True)
    verdict: Mapped[str] = mapped_column(sa.String(16))
    episodes: Mapped[int]
    horizon: Mapped[int]
    agreement: Mapped[float | None] = mapped_column(sa.Double)
    optimism: Mapped[float | None] = mapped_column(sa.Double)
    sensitivity: Mapped[float | None] = mapped_column(sa.Double)
    report: Mapped[dict[str, Any]]
    measured_at: Mapped[datetime]


class TrialRow(Row):
    """What became of the question which policy is the champion; one row per answer, never changed.

    `goes_on_id` is the champion from then on. `evidence` holds the counts that the answer rests on.
    """

    __tablename__ = "trials"
    __table_args__ = (
        sa.CheckConstraint(
            "decision IN ('promoted', 'rejected', 'undecided', 'rolled_back', 'adopted')",
            name="decision_is_known",
        ),
        sa.CheckConstraint("goes_on_id IN (champion_id, candidate_id)", name="one_of_both_goes_on"),
        sa.UniqueConstraint("number"),
    )

    id: Mapped[str] = mapped_column(sa.String(ID_LENGTH), primary_key=True, default=new_id)
    number: Mapped[int]
    iteration_id: Mapped[str | None] = id_column("iterations.id", nullable=True)
    champion_id: Mapped[str] = id_column("checkpoints.id")
    candidate_id: Mapped[str] = id_column("checkpoints.id")
    goes_on_id: Mapped[str] = id_column("checkpoints.id")
    decision: Mapped[str] = mapped_column(sa.String(16))
    evidence: Mapped[dict[str, Any]]
    decided_at: Mapped[datetime]


class AutoEvalJobRow(Row):
    """One job at AutoEval's public cells, there before it is submitted and found there by its `description`.

    `capability` is the secret path of the gateway and is gone once the gateway need not answer.
    """

    __tablename__ = "autoeval_jobs"
    __table_args__ = (
        sa.CheckConstraint(
            "state IN ('planned', 'submitting', 'queued', 'running', 'draining', 'joined', 'partial', "
            "'failed', 'cancelled', 'lost')",
            name="state_is_known",
        ),
        sa.CheckConstraint(
            "capability IS NULL OR state IN ('planned', 'submitting', 'queued', 'running')",
            name="capability_ends",
        ),
        sa.CheckConstraint("num_episodes > 0 AND max_steps > 0", name="size_is_positive"),
        sa.CheckConstraint("success_rate >= 0 AND success_rate <= 1", name="success_rate_is_a_share"),
    )

    id: Mapped[str] = mapped_column(sa.String(ID_LENGTH), primary_key=True)
    iteration_id: Mapped[str] = id_column("iterations.id")
    phase_run_id: Mapped[str] = id_column("phase_runs.id", index=False)
    station_id: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), sa.ForeignKey("stations.id"))
    task_id: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), sa.ForeignKey("tasks.id"))
    checkpoint_id: Mapped[str | None] = id_column("checkpoints.id", nullable=True, index=False)
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    description: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), unique=True)
    robot: Mapped[str] = mapped_column(sa.String(NAME_LENGTH))
    num_episodes: Mapped[int]
    max_steps: Mapped[int]
    capability: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    gateway_folder: Mapped[str] = mapped_column(sa.String(NAME_LENGTH))
    remote_job_id: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    success_rate: Mapped[float | None] = mapped_column(sa.Double)
    checks: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    created_at: Mapped[datetime]
    submitted_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    error_message: Mapped[str | None] = mapped_column(sa.Text)


class EpisodeRow(Row):
    """One recorded real run; the row is the commit mark of its blobs."""

    __tablename__ = "episodes"
    __table_args__ = (
        sa.CheckConstraint("origin IN ('collect', 'imported', 'base')", name="origin_is_known"),
        sa.CheckConstraint("steps > 0", name="steps_is_positive"),
        sa.Index(None, "committed_at", "id"),
        sa.Index(None, "origin", "held_out"),
        sa.Index(None, "station_id", "origin", "committed_at"),
        sa.Index(None, "task_id", "valid_for_policy_eval", "valid_for_world_model"),
    )

    id: Mapped[str] = mapped_column(sa.String(EPISODE_ID_LENGTH), primary_key=True)
    station_id: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), sa.ForeignKey("stations.id"), index=True)
    task_id: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), sa.ForeignKey("tasks.id"), index=True)
    iteration_id: Mapped[str | None] = id_column("iterations.id", nullable=True)
    checkpoint_id: Mapped[str | None] = id_column("checkpoints.id", nullable=True)
    origin: Mapped[str] = mapped_column(sa.String(16))
    held_out: Mapped[bool]
    instruction: Mapped[str] = mapped_column(sa.Text)
    steps: Mapped[int]
    outcome: Mapped[str] = mapped_column(sa.String(32))
    valid_for_policy_eval: Mapped[bool]
    valid_for_world_model: Mapped[bool]
    manifest: Mapped[str] = mapped_column(sa.Text)
    manifest_sha256: Mapped[str] = mapped_column(sa.String(SHA256_LENGTH), unique=True)
    started_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime]
    committed_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class EpisodeBlobRow(Row):
    """Which blob holds which part of an episode."""

    __tablename__ = "episode_blobs"

    episode_id: Mapped[str] = mapped_column(
        sa.String(EPISODE_ID_LENGTH), sa.ForeignKey("episodes.id"), primary_key=True
    )
    name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(sa.String(SHA256_LENGTH), index=True)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)


class LabelRow(Row):
    """One verdict on one episode, with its source. The database refuses to change or delete it."""

    __tablename__ = "labels"
    __table_args__ = (
        sa.CheckConstraint(
            "source IN ('human', 'sim_predicate', 'classifier', 'vlm')", name="source_is_known"
        ),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    episode_id: Mapped[str] = mapped_column(
        sa.String(EPISODE_ID_LENGTH), sa.ForeignKey("episodes.id"), index=True
    )
    success: Mapped[bool | None]
    source: Mapped[str] = mapped_column(sa.String(16))
    judge: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    answer: Mapped[str | None] = mapped_column(sa.Text)
    confidence: Mapped[float | None] = mapped_column(sa.Double)
    labelled_at: Mapped[datetime]
    recorded_at: Mapped[datetime]


class CheckpointEpisodeRow(Row):
    """Which episodes a checkpoint learned from."""

    __tablename__ = "checkpoint_episodes"

    checkpoint_id: Mapped[str] = mapped_column(
        sa.String(ID_LENGTH), sa.ForeignKey("checkpoints.id"), primary_key=True
    )
    episode_id: Mapped[str] = mapped_column(
        sa.String(EPISODE_ID_LENGTH), sa.ForeignKey("episodes.id"), primary_key=True, index=True
    )


class LeaseRow(Row):
    """Who may write, until when, under which fence. It outlives its holders: no fence repeats."""

    __tablename__ = "leases"
    __table_args__ = (sa.CheckConstraint("fence >= 0", name="fence_counts_up"),)

    name: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), primary_key=True)
    holder: Mapped[str | None] = mapped_column(sa.String(NAME_LENGTH))
    fence: Mapped[int] = mapped_column(sa.BigInteger)
    acquired_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class MetricSummaryRow(Row):
    """The last value of one metric of one phase run; the series lives in its metrics.jsonl."""

    __tablename__ = "metric_summaries"

    phase_run_id: Mapped[str] = mapped_column(
        sa.String(ID_LENGTH), sa.ForeignKey("phase_runs.id"), primary_key=True
    )
    name: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), primary_key=True)
    value: Mapped[float] = mapped_column(sa.Double)
    recorded_at: Mapped[datetime]


class AuditEventRow(Row):
    """Who did what to which thing, when. The database refuses to change or delete it."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(sa.String(NAME_LENGTH))
    action: Mapped[str] = mapped_column(sa.String(NAME_LENGTH))
    subject: Mapped[str] = mapped_column(sa.String(NAME_LENGTH), index=True)
    facts: Mapped[dict[str, Any]]
