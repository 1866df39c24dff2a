"""Jobs on disk: their states, their odd order, and what a restart makes of them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from robot_bridge.autoeval.emulator.jobs import CANCELLED, COMPLETED, EVALUATING, QUEUED, JobBook

JOB = {
    "description": "dyna:1",
    "robot": "widowx_drawer",
    "task": "open_drawer",
    "policy_server_ip": "127.0.0.1",
    "policy_server_port": 8000,
}


@pytest.fixture
def book(tmp_path: Path) -> Iterator[JobBook]:
    opened = JobBook(tmp_path / "database.db")
    yield opened
    opened.close()


def test_a_job_has_the_defaults_of_the_real_table(book):
    row = book.get(book.add(JOB))
    assert row["status"] == QUEUED
    assert (row["num_episodes"], row["max_steps"], row["type"]) == (50, 70, "policy_server")
    assert row["policy_name"] == ""
    assert [row[name] for name in ("executed_at", "completed_at", "tmux_output", "success_rate")] == [
        None
    ] * 4
    assert UUID(row["id"]).version == 4
    assert row["submitted_at"] > 1.7e9


def test_a_client_may_choose_every_column_and_say_more(book):
    job_id = book.add(JOB | {"id": "0000", "status": "completed", "success_rate": 1.0, "colour": "red"})
    row = book.get(job_id)
    assert (job_id, row["status"], row["success_rate"]) == ("0000", "completed", 1.0)
    assert "colour" not in row


def test_an_id_that_is_taken_breaks_the_call_and_changes_nothing(book):
    book.add(JOB | {"id": "a"})
    with pytest.raises(sqlite3.IntegrityError):
        book.add(JOB | {"id": "a", "description": "another"})
    assert book.get("a")["description"] == "dyna:1"


def test_there_is_no_row_of_an_unknown_job(book):
    assert book.get("nowhere") is None


def test_the_next_job_is_the_lowest_id_and_not_the_oldest(book):
    for job_id in ("c", "a", "b"):
        book.add(JOB | {"id": job_id})
    book.add(JOB | {"id": "0", "robot": "widowx_sink"})
    taken = []
    while (job_id := book.next_job("widowx_drawer")) is not None:
        taken.append(job_id)
        book.unqueue(job_id)
    assert taken == ["a", "b", "c"]
    assert book.queued_robots() == ["widowx_sink"]


def test_any_text_is_a_queue(book):
    book.add(JOB | {"robot": "toaster"})
    assert book.queued_robots() == ["toaster"]
    assert book.next_job("widowx_drawer") is None


def test_pages_have_the_newest_first(book):
    for number in range(5):
        book.add(JOB | {"id": str(number), "submitted_at": float(number), "submitter_id": "ab"[number % 2]})
    rows, total = book.page(page=1, limit=2, submitter_id=None)
    assert ([row["id"] for row in rows], total) == (["4", "3"], 5)
    rows, _ = book.page(page=3, limit=2, submitter_id=None)
    assert [row["id"] for row in rows] == ["0"]
    rows, total = book.page(page=1, limit=50, submitter_id="b")
    assert ([row["id"] for row in rows], total) == (["3", "1"], 2)


def test_of_jobs_of_the_same_instant_the_highest_id_comes_first(book):
    for job_id in ("a", "c", "b"):
        book.add(JOB | {"id": job_id, "submitted_at": 1.0})
    assert [row["id"] for row in book.page(page=1, limit=9, submitter_id=None)[0]] == ["c", "b", "a"]


def test_a_cancelled_job_is_not_changed_any_more(book):
    job_id = book.add(JOB)
    assert book.change(job_id, status=EVALUATING, executed_at=1.0)
    assert book.change(job_id, status=CANCELLED)
    assert not book.change(job_id, status=COMPLETED, tmux_output="done")
    assert book.get(job_id)["status"] == CANCELLED
    assert book.get(job_id)["tmux_output"] is None
    assert not book.change("nowhere", status=COMPLETED)


def test_rows_and_queues_outlive_the_program(book, tmp_path):
    job_id = book.add(JOB)
    book.change(job_id, status=EVALUATING)
    again = JobBook(tmp_path / "database.db")
    assert again.get(job_id)["status"] == EVALUATING
    assert again.next_job("widowx_drawer") == job_id
    again.close()


def test_both_robots_are_online_at_first_and_stay_as_they_were_left(book, tmp_path):
    assert [(row["robot"], row["is_online"], row["offline_message"]) for row in book.robots()] == [
        ("widowx_drawer", True, None),
        ("widowx_sink", True, None),
    ]
    book.set_online("widowx_sink", online=False, message="broken belt")
    again = JobBook(tmp_path / "database.db")
    assert again.robot("widowx_sink") == {
        "robot": "widowx_sink",
        "is_online": False,
        "offline_message": "broken belt",
    }
    assert again.robot("toaster") is None
    again.close()


def test_many_threads_may_submit_at_once(book):
    threads = [threading.Thread(target=book.add, args=(JOB,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert book.page(page=1, limit=1, submitter_id=None)[1] == 16
