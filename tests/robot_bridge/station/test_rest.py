"""Work and rest of the motors: counted over restarts, due after so much work, over after so much rest."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from robot_bridge.errors import Resting, SpoolCorrupt
from robot_bridge.station.rest import RestBook
from tests.robot_bridge.builders import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def book(root: Path, clock: Clock) -> RestBook:
    def now() -> datetime:
        return clock.now()

    return RestBook(root, work_s=3600.0, rest_s=600.0, now=now)


def test_motors_may_work_until_they_worked_long_enough(tmp_path, clock):
    rest = book(tmp_path, clock)
    rest.worked(3599.0)
    rest.require_awake()
    assert not rest.due
    rest.worked(1.0)
    assert rest.due
    with pytest.raises(Resting, match="600 s more, after 3600 s of work") as refused:
        rest.require_awake()
    assert refused.value.retryable


def test_a_restart_is_no_rest(tmp_path, clock):
    book(tmp_path, clock).worked(3600.0)
    assert book(tmp_path, clock).due


def test_a_crash_forgets_half_a_minute_of_work_at_most(tmp_path, clock):
    rest = book(tmp_path, clock)
    for _ in range(100):
        rest.worked(1.0)
    assert book(tmp_path, clock).worked_s >= 70.0


def test_a_rest_goes_on_over_a_restart_and_its_end_sets_the_work_to_nothing(tmp_path, clock):
    rest = book(tmp_path, clock)
    rest.worked(4000.0)
    rest.sleep(by_policy=True)
    clock.advance(200.0)
    rest = book(tmp_path, clock)
    assert (rest.asleep, rest.over, rest.left_s) == (True, False, 400.0)
    with pytest.raises(Resting) as refused:
        rest.require_awake()
    assert refused.value.parts == {"retry_after_s": 400, "worked_s": 4000}
    clock.advance(400.0)
    assert rest.over
    rest.wake()
    assert (rest.asleep, rest.worked_s, rest.due) == (False, 0.0, False)
    assert book(tmp_path, clock).worked_s == 0.0


def test_motors_woken_too_early_are_still_tired(tmp_path, clock):
    rest = book(tmp_path, clock)
    rest.worked(4000.0)
    rest.sleep(by_policy=True)
    clock.advance(10.0)
    rest.wake()
    assert rest.due


def test_motors_that_an_operator_let_sleep_sleep_until_they_are_woken(tmp_path, clock):
    rest = book(tmp_path, clock)
    rest.sleep(by_policy=False)
    clock.advance(1e6)
    rest = book(tmp_path, clock)
    assert (rest.asleep, rest.over, rest.left_s) == (True, False, 0.0)
    with pytest.raises(Resting):
        rest.require_awake()
    rest.wake()
    rest.require_awake()


def test_a_wall_clock_put_back_does_not_prolong_the_rest_by_a_day(tmp_path, clock):
    rest = book(tmp_path, clock)
    rest.sleep(by_policy=True)
    clock.advance(-86_400.0)
    assert (rest.left_s, rest.over) == (600.0, False)
    clock.advance(600.0)
    assert rest.over


def test_a_book_that_does_not_read_back_is_said_so_at_start(tmp_path, clock):
    (tmp_path / "rest.json").write_text("{")
    with pytest.raises(SpoolCorrupt, match=r"rest\.json"):
        book(tmp_path, clock)
