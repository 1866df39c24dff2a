"""Episode queries: each condition narrows, together they all hold, the order never wavers."""

from collections.abc import Callable

import pytest

from storage import replay
from storage.db import Database
from storage.replay import EpisodeQuery


@pytest.fixture
def iteration_ids(committed: Callable, an_episode: Callable, an_iteration: Callable) -> tuple[str, str]:
    """Six episodes: 1 and 2 base, 3 imported, 4 and 5 of the first iteration, 6 of the second."""
    first, second = an_iteration().id, an_iteration().id
    committed(an_episode(1), origin="base", after_s=1)
    committed(an_episode(2, task_id="close_drawer"), origin="base", held_out=True, after_s=2)
    committed(an_episode(3, task_id="bridge_unlabelled", labels=()), origin="imported", after_s=3)
    committed(an_episode(4), iteration_id=first, after_s=4)
    committed(an_episode(5, world_model=False), iteration_id=first, held_out=True, after_s=5)
    committed(an_episode(6, task_id="close_drawer"), iteration_id=second, after_s=6)
    return first, second


def numbers(database: Database, **conditions: object) -> list[int]:
    with database.read() as session:
        rows = replay.select(session, EpisodeQuery(newest_first=False, **conditions))
    return [int(row.id[-2:], 16) for row in rows]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [1, 2, 3, 4, 6]),
        ({"valid_for_world_model": None}, [1, 2, 3, 4, 5, 6]),
        ({"valid_for_world_model": False}, [5]),
        ({"origin": "base"}, [1, 2]),
        ({"origin": "imported"}, [3]),
        ({"origin": "collect"}, [4, 6]),
        ({"origin": "nowhere"}, []),
        ({"tasks": ("close_drawer",)}, [2, 6]),
        ({"tasks": ("close_drawer", "bridge_unlabelled")}, [2, 3, 6]),
        ({"tasks": ()}, []),
        ({"held_out": True}, [2]),
        ({"held_out": False}, [1, 3, 4, 6]),
        ({"held_out": True, "valid_for_world_model": None}, [2, 5]),
        ({"limit": 2}, [1, 2]),
        ({"limit": 0}, []),
        ({"origin": "collect", "tasks": ("close_drawer",), "held_out": False}, [6]),
    ],
)
def test_a_query_takes_what_it_says(
    database: Database, iteration_ids: tuple[str, str], conditions: dict[str, object], expected: list[int]
) -> None:
    assert numbers(database, **conditions) == expected


def test_iterations_are_chosen_by_id(database: Database, iteration_ids: tuple[str, str]) -> None:
    first, second = iteration_ids
    assert numbers(database, iteration_ids=(first,)) == [4]
    assert numbers(database, iteration_ids=iteration_ids) == [4, 6]
    assert numbers(database, iteration_ids=(second,), origin="base") == []
    assert numbers(database, iteration_ids=()) == []


def test_the_newest_come_first_when_asked_so_that_a_limit_keeps_them(
    database: Database, iteration_ids: tuple[str, str]
) -> None:
    with database.read() as session:
        rows = replay.select(session, EpisodeQuery(limit=2))
    assert [int(row.id[-2:], 16) for row in rows] == [6, 4]


def test_episodes_of_one_instant_keep_one_order(
    database: Database, committed: Callable, an_episode: Callable
) -> None:
    for number in (3, 1, 2):
        committed(an_episode(number))
    assert numbers(database) == [1, 2, 3]


def test_a_query_of_an_empty_database_is_empty(database: Database) -> None:
    assert numbers(database) == []
