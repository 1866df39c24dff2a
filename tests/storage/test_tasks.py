"""Tasks: registered once, with their first instruction."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from storage import tasks
from storage.db import Database


def register(database: Database, now: datetime, task_id: str, instruction: str = "") -> None:
    with database.write() as session:
        tasks.ensure(session, task_id, instruction=instruction, now=now)


def test_a_registered_task_is_found(database: Database, now: datetime) -> None:
    register(database, now, "open_drawer", "open the drawer")
    with database.read() as session:
        task = tasks.find(session, "open_drawer")
        assert tasks.find(session, "close_drawer") is None
    assert task is not None
    assert (task.instruction, task.registered_at) == ("open the drawer", now)


def test_a_known_task_keeps_its_first_instruction(database: Database, now: datetime) -> None:
    register(database, now, "open_drawer", "open the drawer")
    register(database, now, "open_drawer", "pull!")
    with database.read() as session:
        assert [task.instruction for task in tasks.list_tasks(session)] == ["open the drawer"]


def test_tasks_are_listed_by_name(database: Database, now: datetime) -> None:
    for task_id in ("put_eggplant_blue_sink", "close_drawer", "open_drawer"):
        register(database, now, task_id)
    with database.read() as session:
        assert [task.id for task in tasks.list_tasks(session)] == [
            "close_drawer",
            "open_drawer",
            "put_eggplant_blue_sink",
        ]


def test_registering_a_task_from_many_threads_registers_it_once(database: Database, now: datetime) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: register(database, now, "open_drawer"), range(4)))
    with database.read() as session:
        assert len(tasks.list_tasks(session)) == 1
