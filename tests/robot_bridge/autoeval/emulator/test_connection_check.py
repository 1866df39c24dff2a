"""The connection test that AutoEval makes before a job is submitted."""

from __future__ import annotations

import numpy as np
import pytest

from robot_bridge.autoeval.emulator.connection_check import check_connection
from robot_bridge.autoeval.emulator.policy_line import json_numpy, read_answer
from robot_bridge.autoeval.wire import is_test_call, read_act
from tests.robot_bridge.autoeval.emulator.toy_policy import always


def test_seven_numbers_are_a_success(policy):
    answer = check_connection("127.0.0.1", policy.port)
    assert answer.status == 200
    assert (answer.body["status"], answer.body["shape"]) == ("success", "(7,)")


def test_an_array_of_seven_numbers_is_one_too(policy):
    policy.act = always(json_numpy(np.zeros(7, dtype=np.float32)))
    assert check_connection("127.0.0.1", policy.port).body["status"] == "success"


def test_the_call_is_a_blank_picture_and_no_reset_comes_before_it(policy):
    check_connection("127.0.0.1", policy.port)
    assert policy.endpoints() == ["/act"]
    tree = policy.calls[0].tree
    assert tree["instruction"] == "test connection"
    assert not read_answer(tree["image"]).any() and read_answer(tree["image"]).shape == (256, 256, 3)
    assert not read_answer(tree["proprio"]).any() and tree["proprio"]["dtype"] == "<f4"


def test_the_gateway_knows_the_call_for_what_it_is(policy):
    check_connection("127.0.0.1", policy.port)
    assert is_test_call(read_act(policy.calls[0].body))


@pytest.mark.parametrize(
    ("answer", "shape"),
    [
        ([0.0] * 6, "(6,)"),
        ([[0.0] * 7], "(1, 7)"),
        ("error", "type: str with value: error"),
        ({"detail": "no"}, "type: dict with value: {'detail': 'no'}"),
        ([[0.0], [0.0, 1.0]], "type: list with value: [[0.0], [0.0, 1.0]]"),
    ],
    ids=["six", "chunk", "error", "dict", "ragged"],
)
def test_another_shape_is_an_error_with_status_200(policy, answer, shape):
    policy.act = always(answer)
    told = check_connection("127.0.0.1", policy.port)
    assert told.status == 200
    assert (told.body["status"], told.body["shape"]) == ("error", shape)


def test_an_answer_that_is_no_json_is_an_error_with_status_400(policy):
    policy.act = lambda _: (200, b"hello")
    told = check_connection("127.0.0.1", policy.port)
    assert told.status == 400
    assert "did not return valid JSON" in told.body["message"]


def test_a_closed_port_is_told_as_such():
    told = check_connection("127.0.0.1", 1)
    assert (told.status, told.body["error_type"]) == (400, "port_closed")
    assert "http://127.0.0.1:1." in told.body["message"]


def test_a_host_with_a_scheme_or_a_path_cannot_be_looked_up():
    """A job may name such a host; only this check does not understand it."""
    for host in ("https://lab.invalid", "lab.invalid/j/0a1b"):
        told = check_connection(host, -1)
        assert (told.status, told.body["error_type"]) == (400, "port_closed")
        assert "Could not resolve hostname" in told.body["message"]


@pytest.mark.parametrize("port", [70_000, 2**70])
def test_a_port_that_cannot_be_is_an_error(port):
    assert check_connection("127.0.0.1", port).status == 400


def test_below_port_0_only_the_name_is_looked_up_and_then_the_default_port_called():
    told = check_connection("127.0.0.1", -1)
    assert told.status in {200, 400}
    assert told.body.get("error_type") != "port_closed"
