"""Calls into foreign packages: deadlines, foreign errors, and never two at once."""

from __future__ import annotations

import threading

import pytest

from robot_bridge.drivers.lab_package import LabLine, LabPackageMissing, lab_module, software_digest
from robot_bridge.errors import DriverDisconnected, MotorFault


@pytest.fixture
def line() -> LabLine:
    return LabLine("arm")


def raises(error: Exception):
    def call() -> None:
        raise error

    return call


def test_an_answer_comes_back(line):
    assert line.ask("add", lambda: 1 + 1) == 2
    assert line.ask("nothing", lambda: None) is None


@pytest.mark.parametrize(
    "error", [Exception("zmq"), AssertionError("shape"), OSError("gone"), KeyError("state")]
)
def test_whatever_a_package_raises_becomes_our_error_and_is_logged(line, caplog, error):
    with pytest.raises(DriverDisconnected, match=f"arm went silent during move: {type(error).__name__}"):
        line.ask("move", raises(error))
    assert "lab package raised interface=arm call=move" in caplog.text


def test_our_own_errors_pass(line):
    with pytest.raises(MotorFault, match="elbow"):
        line.ask("move", raises(MotorFault(motor="elbow", fault="heat")))


def test_a_call_that_does_not_come_back_is_given_up_and_blocks_the_next_until_it_does(line):
    gate = threading.Event()
    with pytest.raises(DriverDisconnected, match=r"no answer within 0\.05 s"):
        line.ask("observation", gate.wait, timeout_s=0.05)
    with pytest.raises(DriverDisconnected, match="earlier call has not come back"):
        line.ask("move", lambda: pytest.fail("two calls at once"))
    stuck = line._stuck
    assert stuck is not None
    gate.set()
    stuck.join(timeout=10.0)
    assert line.ask("move", lambda: True) is True


def test_a_module_that_is_there_is_given():
    assert lab_module("json", install="nothing").loads("1") == 1


def test_a_module_that_is_not_there_says_what_to_install():
    with pytest.raises(LabPackageMissing, match="Install the thing of the shop"):
        lab_module("no_such_lab.no_such_arm", install="the thing of the shop")


def test_the_digest_tells_interfaces_apart():
    assert software_digest("a") == software_digest("a") != software_digest("b")
    assert len(software_digest("a")) == 64
