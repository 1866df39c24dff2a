"""AutoEval's database: jobs, queues, which robots are online. One SQLite file that outlives the program.

A job's row keeps its status through a crash, and its queue entry too: that is why an `evaluating` job runs
again after a restart. Nothing is validated here, as nothing is there.

Source: job_scheduler.py of AutoEval at 3ea3ff4.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from robot_bridge.autoeval.emulator.robots import ROBOTS

QUEUED, EVALUATING = "queued", "evaluating"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"

Row = dict[str, Any]

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS job (
    id TEXT PRIMARY KEY, description TEXT NOT NULL, policy_name TEXT, robot TEXT NOT NULL, task TEXT NOT NULL,
    policy_server_ip TEXT NOT NULL, policy_server_port INTEGER NOT NULL, num_episodes INTEGER,
    max_steps INTEGER, type TEXT NOT NULL, status TEXT NOT NULL, submitted_at REAL NOT NULL, executed_at REAL,
    completed_at REAL, tmux_output TEXT, wandb_url TEXT, success_rate REAL, submitter_id TEXT
);
CREATE TABLE IF NOT EXISTS jobqueue (job_id TEXT PRIMARY KEY, robot TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS robotstatus (
    robot TEXT PRIMARY KEY, is_online INTEGER NOT NULL, offline_message TEXT
);
"""
COLUMNS: Final = (
    "id",
    "description",
    "policy_name",
    "robot",
    "task",
    "policy_server_ip",
    "policy_server_port",
    "num_episodes",
    "max_steps",
    "type",
    "status",
    "submitted_at",
    "executed_at",
    "completed_at",
    "tmux_output",
    "wandb_url",
    "success_rate",
    "submitter_id",
)


class JobBook:
    """The rows behind the job API. Any thread may call."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(file, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA synchronous = OFF")  # a kill loses nothing, a power cut may
        with self._transaction() as sql:
            sql.executescript(_TABLES)
            for robot in ROBOTS:
                sql.execute("INSERT OR IGNORE INTO robotstatus VALUES (?, 1, NULL)", (robot,))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def add(self, submitted: Mapping[str, Any]) -> str:
        """Store and queue a job. Every column may be given, the id and the status too; others are ignored.

        Raises:
            sqlite3.IntegrityError: the id is taken.
        """
        job: Row = {
            "id": str(uuid4()),
            "policy_name": "",
            "num_episodes": 50,
            "max_steps": 70,
            "type": "policy_server",
            "status": QUEUED,
            "submitted_at": time.time(),
            **{name: value for name, value in submitted.items() if name in COLUMNS},
        }
        values = [job.get(name) for name in COLUMNS]
        marks = ", ".join("?" * len(COLUMNS))
        with self._transaction() as sql:
            sql.execute(f"INSERT INTO job ({', '.join(COLUMNS)}) VALUES ({marks})", values)  # noqa: S608
            sql.execute("INSERT INTO jobqueue VALUES (?, ?)", (job["id"], job["robot"]))
        return str(job["id"])

    def get(self, job_id: str) -> Row | None:
        rows = self._all("SELECT * FROM job WHERE id = ?", job_id)
        return rows[0] if rows else None

    def page(self, *, page: int, limit: int, submitter_id: str | None) -> tuple[list[Row], int]:
        """One page of jobs, newest first, and how many there are; `submitter_id` None means everybody's."""
        chosen, arguments = ("WHERE submitter_id = ?", [submitter_id]) if submitter_id else ("", [])
        total = self._all(f"SELECT count(*) AS total FROM job {chosen}", *arguments)[0]["total"]  # noqa: S608
        rows = self._all(
            f"SELECT * FROM job {chosen} ORDER BY submitted_at DESC, id DESC LIMIT ? OFFSET ?",  # noqa: S608
            *arguments,
            limit,
            (page - 1) * limit,
        )
        return rows, int(total)

    def change(self, job_id: str, **values: Any) -> bool:
        """Set columns of a job; False, and nothing set, when there is none or it is cancelled."""
        assignments = ", ".join(f"{name} = ?" for name in values)
        statement = f"UPDATE job SET {assignments} WHERE id = ? AND status != ?"  # noqa: S608
        with self._transaction() as sql:
            return sql.execute(statement, [*values.values(), job_id, CANCELLED]).rowcount == 1

    def unqueue(self, job_id: str) -> None:
        with self._transaction() as sql:
            sql.execute("DELETE FROM jobqueue WHERE job_id = ?", (job_id,))

    def queued_robots(self) -> list[str]:
        """Queue keys that have a job, any text a client ever sent among them."""
        return [row["robot"] for row in self._all("SELECT DISTINCT robot FROM jobqueue")]

    def next_job(self, robot: str) -> str | None:
        """The job that a robot runs next: the lowest id as text, which is not the oldest."""
        rows = self._all("SELECT job_id FROM jobqueue WHERE robot = ? ORDER BY job_id LIMIT 1", robot)
        return rows[0]["job_id"] if rows else None

    def robots(self) -> list[Row]:
        rows = self._all("SELECT * FROM robotstatus")
        return [{**row, "is_online": bool(row["is_online"])} for row in rows]

    def robot(self, key: str) -> Row | None:
        return next((row for row in self.robots() if row["robot"] == key), None)

    def set_online(self, key: str, *, online: bool, message: str | None) -> None:
        with self._transaction() as sql:
            sql.execute(
                "UPDATE robotstatus SET is_online = ?, offline_message = ? WHERE robot = ?",
                (online, message, key),
            )

    def _all(self, statement: str, *arguments: Any) -> list[Row]:
        with self._lock:
            return [dict(row) for row in self._connection.execute(statement, arguments)]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection:
            yield self._connection
