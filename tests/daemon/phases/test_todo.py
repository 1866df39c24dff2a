"""Slots shared by several robots: each is worked on by one at a time, none is forgotten."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest

from daemon.phases.slots import slots_of
from daemon.phases.todo import Todo, Wanted

ITERATION = str(UUID(int=7))


def wanted(count: int = 3) -> list[Wanted]:
    slots = slots_of(
        ITERATION, ("open_drawer", "close_drawer"), episodes_per_task=count, held_out_every=2, seed=1
    )
    return [Wanted(slot=slot, tries=(1, 2, 3)) for slot in slots]


def names(taken: list[Wanted]) -> list[str]:
    return [one.slot.name for one in taken]


def test_slots_come_in_order_and_each_once() -> None:
    todo = Todo(wanted(2), total=4)
    taken = [todo.take({"open_drawer", "close_drawer"}) for _ in range(5)]
    assert names([one for one in taken if one]) == [
        "open_drawer/0",
        "close_drawer/0",
        "open_drawer/1",
        "close_drawer/1",
    ]
    assert taken[-1] is None


def test_a_robot_gets_only_tasks_that_it_offers() -> None:
    todo = Todo(wanted(2), total=4)
    taken = [todo.take({"close_drawer"}) for _ in range(3)]
    assert names([one for one in taken if one]) == ["close_drawer/0", "close_drawer/1"]
    assert [slot.name for slot in todo.left] == ["open_drawer/0", "open_drawer/1"]


def test_a_job_gets_slots_of_one_task_as_many_as_it_may_have() -> None:
    todo = Todo(wanted(3), total=6)
    assert names(todo.take_task({"close_drawer"}, at_most=2)) == ["close_drawer/0", "close_drawer/1"]
    assert names(todo.take_task({"open_drawer", "close_drawer"}, at_most=9)) == [
        "open_drawer/0",
        "open_drawer/1",
        "open_drawer/2",
    ]
    assert names(todo.take_task({"open_drawer", "close_drawer"}, at_most=9)) == ["close_drawer/2"]
    assert todo.take_task({"open_drawer", "close_drawer"}, at_most=9) == []


def test_a_job_gets_slots_of_one_policy() -> None:
    slots = slots_of(
        ITERATION,
        ("open_drawer",),
        episodes_per_task=3,
        held_out_every=2,
        seed=1,
        arms=("champion", "candidate"),
    )
    todo = Todo([Wanted(slot=slot, tries=(1,)) for slot in slots], total=6)
    taken = todo.take_task({"open_drawer"}, at_most=2, arm="candidate")
    assert [one.slot.arm for one in taken] == ["candidate"] * 2
    rest = todo.take_task({"open_drawer"}, at_most=9)
    assert len({one.slot.arm for one in rest}) == 1
    assert len(rest) + len(todo.left) == 4


def test_slots_can_be_given_up_and_count_as_done() -> None:
    todo = Todo(wanted(2), total=4)
    assert todo.give_up(lambda slot: slot.task_id == "close_drawer") == 2
    assert [slot.name for slot in todo.left] == ["open_drawer/0", "open_drawer/1"]
    assert todo.share == 0.5


def test_whoever_wants_to_know_is_told_of_every_slot_that_is_settled() -> None:
    told: list[float] = []
    todo = Todo(wanted(2), total=4, settled=lambda todo: told.append(todo.share))
    todo.settle()
    todo.settle()
    assert told == [0.25, 0.5]


def test_a_slot_that_was_put_back_is_the_next_one() -> None:
    todo = Todo(wanted(2), total=4)
    first = todo.take({"open_drawer"})
    assert first is not None
    todo.put_back(Wanted(slot=first.slot, tries=(3,)))
    again = todo.take({"open_drawer"})
    assert again is not None
    assert (again.slot, again.tries) == (first.slot, (3,))


@pytest.mark.parametrize(
    ("filled_before", "settled", "share", "place"), [(0, 0, 0.0, 1), (2, 1, 0.5, 4), (2, 4, 1.0, 6)]
)
def test_progress_counts_what_was_filled_before(
    filled_before: int, settled: int, share: float, place: int
) -> None:
    todo = Todo(wanted(3)[filled_before:], total=6)
    for _ in range(settled):
        todo.settle()
    assert (todo.share, todo.place) == (share, place)


def test_an_iteration_without_slots_is_done() -> None:
    assert Todo([], total=0).share == 1.0


def test_many_robots_at_once_never_get_the_same_slot() -> None:
    todo = Todo(wanted(200), total=400)
    taken: list[list[str]] = [[] for _ in range(4)]

    def work(mine: list[str]) -> None:
        while (one := todo.take({"open_drawer", "close_drawer"})) is not None:
            mine.append(one.slot.name)
            todo.settle()

    threads = [threading.Thread(target=work, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = sorted(name for mine in taken for name in mine)
    assert everything == sorted(one.slot.name for one in wanted(200))
    assert todo.share == 1.0
