"""The call for a human: a file with a reason, which outlives the station and is answered at its folder."""

from __future__ import annotations

import json

import pytest

from robot_bridge.errors import WaitingHuman
from robot_bridge.station.human import HumanCall
from tests.robot_bridge.builders import NOON


def test_nobody_is_waited_for_until_somebody_is(tmp_path):
    call = HumanCall(tmp_path)
    call.require_none()
    assert call.reason() is None
    assert call.done() is False


def test_a_call_outlives_the_station_and_keeps_its_first_reason(tmp_path):
    HumanCall(tmp_path).ask("the drawer is jammed", NOON)
    HumanCall(tmp_path).ask("something else", NOON)
    with pytest.raises(WaitingHuman, match="the drawer is jammed"):
        HumanCall(tmp_path).require_none()
    assert json.loads((tmp_path / "human.json").read_text())["since"] == NOON.isoformat()


def test_who_has_done_it_says_so_in_the_folder_of_the_running_station(tmp_path):
    running = HumanCall(tmp_path)
    running.ask("the drawer is jammed", NOON)
    assert HumanCall(tmp_path).done() is True
    running.require_none()


@pytest.mark.parametrize("content", ["{", "[]", '{"since": "x"}'])
def test_a_call_that_does_not_read_back_is_a_call(tmp_path, content):
    (tmp_path / "human.json").write_text(content)
    with pytest.raises(WaitingHuman, match="does not read back"):
        HumanCall(tmp_path).require_none()
    HumanCall(tmp_path).done()
    HumanCall(tmp_path).require_none()


def test_a_call_that_the_disk_does_not_take_is_kept_in_memory_until_it_is_answered(tmp_path):
    (tmp_path / ".human.json.new").mkdir()  # writing fails
    call = HumanCall(tmp_path)
    call.ask("the drawer is jammed", NOON)
    assert call.reason() == "the drawer is jammed"
    assert call.done() is True
    assert call.reason() is None
