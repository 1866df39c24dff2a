"""Successes are counted once, and not again by every request.

Why: the rates of a page of iterations were counted from all their episodes and verdicts, several queries for
    each iteration; with a hundred thousand episodes that takes seconds. Episodes that say nothing about the
    policy, or have no verdict, were dropped without a word; now they are counted beside.
Old rows: every collected episode is counted here, with the verdict that counts today.
Locks: the tables of episodes and verdicts are read once, about a second per hundred thousand episodes. The
    previous release neither reads nor writes the new table; what it adds meanwhile is counted as soon as the
    next episode or verdict of the same iteration and task comes in.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

ID = sa.String(length=36)
NAME = sa.String(length=200)
TABLE = "success_counts"
KEYS = {
    "iteration_id": "iterations",
    "task_id": "tasks",
    "station_id": "stations",
    "checkpoint_id": "checkpoints",
}

_column = partial(sa.Column, nullable=False)

SECONDS = {
    "sqlite": "(julianday(ended_at) - julianday(started_at)) * 86400.0",
    "postgresql": "EXTRACT(EPOCH FROM (ended_at - started_at))::double precision",
}
COUNT = """
    INSERT INTO success_counts (iteration_id, task_id, station_id, checkpoint_id,
        successes, judged, unlabelled, invalid, robot_seconds)
    SELECT iteration_id, task_id, station_id, checkpoint_id,
        sum(CASE WHEN valid AND success THEN 1 ELSE 0 END),
        sum(CASE WHEN valid AND success IS NOT NULL THEN 1 ELSE 0 END),
        sum(CASE WHEN valid AND success IS NULL THEN 1 ELSE 0 END),
        sum(CASE WHEN valid THEN 0 ELSE 1 END),
        sum(seconds)
    FROM (
        SELECT iteration_id, task_id, station_id, checkpoint_id, valid_for_policy_eval AS valid,
            {seconds} AS seconds,
            (SELECT labels.success FROM labels
                WHERE labels.episode_id = episodes.id AND labels.success IS NOT NULL
                ORDER BY CASE labels.source WHEN 'human' THEN 0 WHEN 'sim_predicate' THEN 1
                    WHEN 'classifier' THEN 2 WHEN 'vlm' THEN 3 END,
                    labels.labelled_at DESC, labels.id DESC
                LIMIT 1) AS success
        FROM episodes WHERE origin = 'collect'
    ) AS seen
    GROUP BY iteration_id, task_id, station_id, checkpoint_id
"""


def upgrade() -> None:
    op.create_table(
        TABLE,
        _column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
        sa.Column("iteration_id", ID),
        _column("task_id", NAME),
        _column("station_id", NAME),
        sa.Column("checkpoint_id", ID),
        *(_column(name, sa.Integer()) for name in ("successes", "judged", "unlabelled", "invalid")),
        _column("robot_seconds", sa.Double()),
        sa.CheckConstraint(
            "successes >= 0 AND successes <= judged", name=op.f(f"ck_{TABLE}_successes_are_judged")
        ),
        sa.CheckConstraint("unlabelled >= 0 AND invalid >= 0", name=op.f(f"ck_{TABLE}_counts_are_counts")),
        *(
            sa.ForeignKeyConstraint([name], [f"{target}.id"], name=op.f(f"fk_{TABLE}_{name}_{target}"))
            for name, target in KEYS.items()
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{TABLE}")),
        sa.UniqueConstraint(*KEYS, name=op.f(f"uq_{TABLE}_{'_'.join(KEYS)}")),
    )
    op.create_index(op.f(f"ix_{TABLE}_checkpoint_id"), TABLE, ["checkpoint_id"])
    op.create_index(op.f("ix_episodes_started_at"), "episodes", ["started_at"])
    op.execute(sa.text(COUNT.format(seconds=SECONDS[op.get_bind().dialect.name]).replace("::", r"\:\:")))


def downgrade() -> None:
    op.drop_index(op.f("ix_episodes_started_at"), "episodes")
    op.drop_table(TABLE)
