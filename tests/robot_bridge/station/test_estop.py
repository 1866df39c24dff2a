"""The emergency stop: latched on disk, first reason kept, cleared only at the station."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from robot_bridge.errors import EStopped
from robot_bridge.station.estop import EStopLatch
from tests.robot_bridge.builders import NOON


def test_an_arm_may_move_until_somebody_stops_it(tmp_path):
    latch = EStopLatch(tmp_path)
    latch.require_clear()
    latch.latch("hand in the cell", NOON)
    with pytest.raises(EStopped, match="hand in the cell") as stopped:
        latch.require_clear()
    assert stopped.value.parts["since"] == NOON.isoformat()
    assert not stopped.value.retryable


def test_a_stop_outlives_the_station(tmp_path):
    EStopLatch(tmp_path).latch("smoke", NOON)
    with pytest.raises(EStopped, match="smoke"):
        EStopLatch(tmp_path).require_clear()


def test_a_second_stop_keeps_the_first_ones_time_and_reason(tmp_path):
    latch = EStopLatch(tmp_path)
    first = latch.latch("smoke", NOON)
    assert latch.latch("again", NOON + timedelta(minutes=1)) == first


def test_a_stop_needs_no_reason(tmp_path):
    assert EStopLatch(tmp_path).latch("", NOON)["reason"] == "no reason given"


def test_somebody_at_the_station_clears_it_while_it_runs(tmp_path):
    running, operator = EStopLatch(tmp_path), EStopLatch(tmp_path)
    running.latch("smoke", NOON)
    operator.clear()
    running.require_clear()
    operator.clear()


def test_a_stop_holds_even_when_the_disk_takes_no_more(tmp_path: Path):
    (tmp_path / ".estop.json.new").mkdir()  # writing fails
    latch = EStopLatch(tmp_path)
    assert latch.latch("smoke", NOON)["reason"] == "smoke"
    with pytest.raises(EStopped, match="smoke"):
        latch.require_clear()
    (tmp_path / ".estop.json.new").rmdir()  # room again: now it outlives the program
    latch.persist()
    with pytest.raises(EStopped, match="smoke"):
        EStopLatch(tmp_path).require_clear()


def test_a_latch_file_that_does_not_read_back_never_means_go(tmp_path):
    (tmp_path / "estop.json").write_text("{")
    with pytest.raises(EStopped, match="does not read back"):
        EStopLatch(tmp_path).require_clear()
    (tmp_path / "estop.json").write_text("{}")
    with pytest.raises(EStopped, match="unknown"):
        EStopLatch(tmp_path).require_clear()


def test_the_nonce_stands_on_the_stations_disk_and_nowhere_else(tmp_path):
    latch = EStopLatch(tmp_path)
    told = latch.latch("smoke", NOON)
    nonce = json.loads((tmp_path / "estop.json").read_text())["nonce"]
    assert nonce not in told.values()
    assert latch.matches(nonce)
    assert not latch.matches("please")


def test_a_stop_that_never_reached_the_disk_is_cleared_by_the_running_station(tmp_path):
    (tmp_path / ".estop.json.new").mkdir()  # writing fails
    latch = EStopLatch(tmp_path)
    latch.latch("smoke", NOON)
    latch.clear()
    latch.require_clear()


def test_only_whoever_runs_the_station_can_read_the_nonce(tmp_path):
    EStopLatch(tmp_path).latch("smoke", NOON)
    assert (tmp_path / "estop.json").stat().st_mode & 0o077 == 0


def test_a_stop_without_a_nonce_is_cleared_in_the_folder_only(tmp_path):
    (tmp_path / "estop.json").write_text('{"since": "then", "reason": "an older release"}')
    latch = EStopLatch(tmp_path)
    assert not latch.matches("")
    assert not latch.matches("None")
    latch.clear()
    latch.require_clear()
