"""A robot that waits for somebody: long enough for people, and not for ever."""

from __future__ import annotations

import pytest

from daemon.phases.human_wait import HumanWait
from daemon.retrying import may_retry
from daemon.scheduling.errors import HumanAwaited
from daemon.settings import Settings


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_somebody_who_comes_in_time_ends_the_wait_and_the_next_one_is_as_long(clock: Clock) -> None:
    wait = HumanWait("cell", limit_s=10.0, clock=clock)
    for _ in range(3):
        wait.goes_on("the pot fell over")
        clock.seconds += 9.0
        wait.goes_on("the pot fell over")
        wait.is_over()


def test_nobody_who_came_is_an_error_that_says_where_to_go_and_is_not_tried_again(clock: Clock) -> None:
    wait = HumanWait("cell", limit_s=10.0, clock=clock)
    wait.goes_on("the pot fell over")
    clock.seconds += 10.0
    wait.goes_on("the pot fell over")
    clock.seconds += 0.1
    with pytest.raises(HumanAwaited, match=r"cell has waited 10 s .*the pot fell over.*retry") as awaited:
        wait.goes_on("the pot fell over")
    assert awaited.value.code == "human_awaited"
    assert not may_retry(awaited.value)


def test_a_robot_waits_over_a_weekend_unless_it_is_told_otherwise() -> None:
    assert Settings().human_wait_s == 3 * 86_400.0
    assert Settings(human_wait_s=60).human_wait_s == 60.0
