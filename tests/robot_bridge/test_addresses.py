"""Only this machine's own addresses are loopback, however they are written."""

from __future__ import annotations

import pytest

from robot_bridge.addresses import is_loopback, is_loopback_peer


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "::ffff:127.0.0.1"])
def test_this_machine_is_itself(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "192.168.1.4", "::ffff:192.168.1.4", "robot.example", "localhost.example", ""],  # noqa: S104
)
def test_everybody_else_is_not(host: str) -> None:
    assert not is_loopback(host)


def test_a_peer_is_an_address_and_a_name_proves_nothing() -> None:
    assert is_loopback_peer("127.0.0.1")
    assert not is_loopback_peer("localhost")
