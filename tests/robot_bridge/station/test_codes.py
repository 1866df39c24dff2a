"""Every error code of the robot side has a status that somebody meant, or a reason to answer 500."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import robot_bridge
from robot_bridge.errors import RobotBridgeError, StationRefused
from robot_bridge.station.problems import OF_A_KIND, STATUS, status_of

ELSEWHERE = ("robot_bridge.autoeval", "robot_bridge.check")  # they have doors, or commands, of their own
ROOT = "the root of a branch: only its subclasses are raised"
BUG = "our own arrays contradict each other: a fault of the station, for its log"
AT_START = "said by the command that starts a station, before it answers anybody"
AT_HOME = "said by a command of the station's owner"
CALLER = "raised on the caller's side of the wire"
INTERNAL = {
    "robot_bridge_error": ROOT,
    "episode_error": ROOT,
    "policy_error": ROOT,
    "bad_array": BUG,
    "convention_singular": BUG,
    "episode_invalid": BUG,
    "frames_corrupt": BUG,
    "steps_corrupt": BUG,
    "digest_mismatch": CALLER,
    "spool_busy": AT_START,
    "bind_refused": AT_START,
    "tls_unusable": AT_START,
    "address_unavailable": AT_START,
    "fault_plan_invalid": AT_START,
    "policy_tokens_invalid": AT_START,
    "token_file_invalid": AT_HOME,
    "token_invalid": AT_HOME,
    "token_exists": AT_HOME,
    "token_unknown": AT_HOME,
    "station_unreachable": CALLER,
    "station_misbehaved": CALLER,
    "token_unprotected": CALLER,
    "still_running": CALLER,
    "snapshot_unsupported": CALLER,
}


def everything() -> None:
    for module in pkgutil.walk_packages(robot_bridge.__path__, "robot_bridge."):
        if not module.name.startswith(ELSEWHERE):
            importlib.import_module(module.name)


def tree(root: type[RobotBridgeError]) -> Iterator[type[RobotBridgeError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def ours() -> list[type[RobotBridgeError]]:
    everything()
    found = [
        error
        for error in tree(RobotBridgeError)
        if error.__module__.startswith("robot_bridge.") and not error.__module__.startswith(ELSEWHERE)
    ]
    return sorted(found, key=lambda error: error.code)


def a(error: type[RobotBridgeError]) -> RobotBridgeError:
    """One of that class without its parts: only the class decides about the status."""
    return error.__new__(error)


@pytest.mark.parametrize("error", ours(), ids=lambda error: error.code)
def test_a_code_answers_500_only_where_that_is_meant(error):
    assert (status_of(a(error)) == 500) is (error.code in INTERNAL)


@pytest.mark.parametrize("error", ours(), ids=lambda error: error.code)
def test_a_refusal_of_the_protocol_does_not_live_by_its_kind_alone(error):
    if issubclass(error, StationRefused) and error is not StationRefused:
        assert any(getattr(kind, "code", "") in STATUS for kind in error.__mro__)
    assert set(OF_A_KIND.values()) == {409, 503}


def test_every_code_that_is_excused_or_listed_exists():
    codes = {error.code for error in ours()}
    assert set(INTERNAL) <= codes
    assert set(STATUS) - codes <= {"instruction_changed"}  # the policy server's own
    assert not set(INTERNAL) & set(STATUS)
