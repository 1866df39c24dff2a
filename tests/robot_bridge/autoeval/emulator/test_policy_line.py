"""How the emulator calls a policy: wire, addresses, and what makes a job fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import requests
from requests.adapters import HTTPAdapter

from robot_bridge.autoeval.emulator.errors import InvalidPolicyAction, PolicyResetFailed
from robot_bridge.autoeval.emulator.policy_line import (
    PolicyLine,
    checked_action,
    json_numpy,
    policy_url,
    read_answer,
)
from robot_bridge.autoeval.wire import read_act, write_action
from tests.robot_bridge.autoeval.emulator.conftest import until
from tests.robot_bridge.autoeval.emulator.toy_policy import SILENCE, ToyPolicy, always

IMAGE = np.random.default_rng(3).integers(0, 256, (256, 256, 3), dtype=np.uint8)
PROPRIO = np.array([0.25, -0.01, 0.18, -3.09, 1.54, -3.09, 0.0, 0.386], dtype=np.float32)


@pytest.fixture
def line(policy: ToyPolicy) -> Iterator[PolicyLine]:
    opened = PolicyLine("127.0.0.1", policy.port)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("10.0.0.7", 8000, "http://10.0.0.7:8000/act"),
        ("lab.example", -1, "http://lab.example/act"),
        ("lab.example", 0, "http://lab.example:0/act"),
        ("https://lab.example", -1, "https://lab.example/act"),
        ("https://lab.example/j/0a1b", -1, "https://lab.example/j/0a1b/act"),
        ("http://127.0.0.1:9000/j/0a1b", -1, "http://127.0.0.1:9000/j/0a1b/act"),
        ("http://lab.example", 8000, "http://lab.example:8000/act"),
        ("user:token@lab.example", 80, "http://user:token@lab.example:80/act"),
    ],
)
def test_an_address_is_put_together_as_autoeval_does(host, port, url):
    assert policy_url(host, port, endpoint="act") == url


def test_a_call_has_the_picture_the_sentence_and_the_proprio(line, policy):
    line.act(IMAGE, PROPRIO, instruction="open the drawer")
    call = policy.calls[0]
    assert call.endpoint == "/act"
    assert call.headers["Content-Type"] == "application/json"
    assert set(call.tree) == {"image", "instruction", "proprio"}
    assert call.tree["instruction"] == "open the drawer"
    assert call.tree["image"]["dtype"] == "|u1"
    assert call.tree["image"]["shape"] == [256, 256, 3]
    assert call.tree["proprio"]["dtype"] == "<f4"
    np.testing.assert_array_equal(read_answer(call.tree["image"]), IMAGE)


def test_the_gateways_own_reader_takes_the_call(line, policy):
    line.act(IMAGE, PROPRIO, instruction="open the drawer")
    request = read_act(policy.calls[0].body)
    np.testing.assert_array_equal(request.image, IMAGE)
    np.testing.assert_array_equal(request.proprio, PROPRIO)
    assert (request.instruction, request.encoded) == ("open the drawer", False)


def test_the_gateways_own_answer_is_taken(line, policy):
    action = np.array([0.01, -0.02, 0.003, 0.1, -0.2, 0.3, 1.0], dtype=np.float32)
    policy.act = lambda _: (200, write_action(action, encoded=False))
    np.testing.assert_array_equal(line.act(IMAGE, PROPRIO, instruction="x").astype(np.float32), action)


@pytest.mark.parametrize(
    "answer",
    [[0, 0, 0, 0, 0, 0, 1], [0.5] * 7, json_numpy(np.arange(7.0)), json_numpy(np.arange(7, dtype="<f4"))],
    ids=["ints", "floats", "f8 array", "f4 array"],
)
def test_lists_and_arrays_of_seven_numbers_are_actions(answer):
    action = checked_action(answer)
    assert action.shape == (7,)
    assert action.dtype == np.float64


@pytest.mark.parametrize(
    "answer",
    [
        "error",
        "[0, 0, 0, 0, 0, 0, 1]",
        None,
        1.0,
        {"action": [0] * 7},
        [],
        [0.0] * 6,
        [[0.0] * 7],
        [[0.0], [0.0, 1.0]],
        ["0.1"] * 7,
        [None] * 7,
        {"__numpy__": "no base64!", "dtype": "<f4", "shape": [7]},
        {"__numpy__": "", "dtype": "<f4", "shape": [7]},
        {"__numpy__": "AAAA", "dtype": "O", "shape": [7]},
        {"__numpy__": "AAAA"},
    ],
    ids=str,
)
def test_anything_else_ends_the_job(answer):
    with pytest.raises(InvalidPolicyAction, match="7 numbers"):
        checked_action(answer)


def test_the_http_status_of_an_action_is_not_looked_at(line, policy):
    policy.act = always([0.0] * 7, status=500)
    assert line.act(IMAGE, PROPRIO, instruction="x").tolist() == [0.0] * 7


def test_an_honest_503_is_no_action(line, policy):
    policy.act = always({"code": "policy_error"}, status=503)
    with pytest.raises(InvalidPolicyAction, match="policy_error"):
        line.act(IMAGE, PROPRIO, instruction="x")


def test_an_answer_that_is_no_json_is_no_action(line, policy):
    policy.act = lambda _: (502, b"<html>Bad gateway</html>")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        line.act(IMAGE, PROPRIO, instruction="x")


def test_a_reset_has_no_body_and_says_that_it_was_heard(line, policy):
    assert line.reset() is True
    assert policy.calls[0].endpoint == "/reset"
    assert policy.calls[0].body == b""


def test_a_policy_without_reset_is_tolerated(line, policy):
    policy.reset = always({}, status=404)
    assert line.reset() is False


@pytest.mark.parametrize("status", [201, 204, 400, 409, 500, 503])
def test_any_other_answer_to_a_reset_is_not(line, policy, status):
    policy.reset = always({"detail": "not now"}, status=status)
    with pytest.raises(PolicyResetFailed, match=f"answered {status}"):
        line.reset()


def test_all_calls_go_over_one_connection(line, policy):
    for _ in range(3):
        line.reset()
        line.act(IMAGE, PROPRIO, instruction="x")
    assert len({call.connection for call in policy.calls}) == 1


def test_a_line_waits_until_it_is_cut(line, policy):
    policy.act = SILENCE
    ended: list[Exception] = []

    def ask() -> None:
        try:
            line.act(IMAGE, PROPRIO, instruction="x")
        except requests.RequestException as error:
            ended.append(error)

    waiting = threading.Thread(target=ask)
    waiting.start()
    policy.wait_for(1)
    assert waiting.is_alive() and not ended
    line.cut()
    waiting.join(timeout=20)
    assert len(ended) == 1
    assert policy.gone.wait(timeout=20)  # the policy server sees the connection end


def test_nothing_goes_through_a_line_that_was_cut(line, policy):
    line.reset()
    line.cut()
    with pytest.raises(requests.RequestException):
        line.reset()
    assert until(policy.endpoints) == ["/reset"]


def test_a_limit_that_the_real_one_lacks_can_be_set(policy):
    policy.act = SILENCE
    line = PolicyLine("127.0.0.1", policy.port, timeout_s=0.05)
    with pytest.raises(requests.Timeout):
        line.act(IMAGE, PROPRIO, instruction="x")
    line.close()


def test_a_closed_port_is_a_connection_error(policy):
    line = PolicyLine("127.0.0.1", 1)
    with pytest.raises(requests.ConnectionError):
        line.reset()
    line.close()


@pytest.mark.parametrize("limit", [None, 7.5])
def test_the_limit_of_a_call_is_none_unless_it_was_set(policy, limit):
    """A wait without an end cannot be waited for: what the socket is told is looked at instead."""
    told = []

    class Listening(HTTPAdapter):
        def send(self, request, *args, timeout=None, **options):
            told.append(timeout)
            return super().send(request, *args, timeout=timeout, **options)

    line = PolicyLine("127.0.0.1", policy.port, timeout_s=limit)
    line._session.mount("http://", Listening())
    line.reset()
    line.act(IMAGE, PROPRIO, instruction="x")
    line.close()
    assert told == [limit, limit]
