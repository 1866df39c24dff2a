"""A call ends at its one deadline, however the bytes arrive; before it, nothing is different."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import trustme

from robot_bridge.deadline import BoundedAdapter, Until, left_until
from tests.robot_bridge.canned_policy import CannedPolicy, canned_policy, rendered, says

LONG = 30.0


@pytest.fixture
def until() -> Until:
    return Until()


@pytest.fixture
def session(until: Until) -> Iterator[requests.Session]:
    with requests.Session() as found:
        found.trust_env = False
        found.mount("http://", BoundedAdapter(until))
        found.mount("https://", BoundedAdapter(until))
        until.deadline = time.monotonic() + LONG
        yield found


def test_what_is_left_of_a_call_is_positive_or_an_error() -> None:
    assert 0 < left_until(time.monotonic() + LONG) <= LONG
    with pytest.raises(TimeoutError):
        left_until(time.monotonic() - 0.001)


def test_a_connection_is_kept_over_calls(session: requests.Session) -> None:
    with canned_policy(says(200, b"hello")) as server:
        for _ in range(3):
            assert session.get(server.url, timeout=LONG).content == b"hello"
        assert server.connections == 1
        session.close()


def test_an_answer_that_ends_its_connection_is_read_to_its_end(session: requests.Session) -> None:
    content = bytes(range(256)) * 1000  # more than one read
    with canned_policy(says(200, content, Connection="close")) as server:
        assert session.get(server.url, timeout=LONG).content == content


def test_a_moment_that_has_passed_ends_a_call_before_anything_is_read(
    session: requests.Session, until: Until
) -> None:
    with canned_policy(says(200, b"hello")) as server:
        until.deadline = time.monotonic() - 1.0
        with pytest.raises((requests.Timeout, requests.ConnectionError)):
            session.get(server.url, timeout=LONG)
        session.close()


def test_bytes_that_trickle_do_not_prolong_a_call(session: requests.Session, until: Until) -> None:
    sent = []

    def trickle(connection: socket.socket) -> None:
        for byte in rendered(200, b"x" * 1000):
            connection.sendall(bytes([byte]))
            sent.append(byte)
            if server.closing.wait(0.02):
                return

    with canned_policy(trickle) as server:
        until.deadline = time.monotonic() + 0.2
        with pytest.raises((requests.Timeout, requests.ConnectionError)):
            session.get(server.url, timeout=LONG)
        assert len(sent) < 1000
        session.close()


class SecurePolicy(CannedPolicy):
    """The same behind TLS."""

    def __init__(self, context: ssl.SSLContext, content: bytes) -> None:
        self._context = context
        super().__init__(says(200, content))
        self.url = self.url.replace("http://", "https://")

    def _converse(self, connection: socket.socket) -> None:
        secured = self._context.wrap_socket(connection, server_side=True)
        self._ends.append(secured)
        super()._converse(secured)


def test_an_encrypted_connection_is_bounded_and_kept_alike(session: requests.Session, tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = SecurePolicy(context, b"y" * 100_000)
    try:
        for _ in range(2):
            answer = session.get(server.url, timeout=LONG, verify=str(tmp_path / "ca.pem"))
            assert answer.content == b"y" * 100_000
        assert server.connections == 1
        session.close()
    finally:
        server.close()


def test_a_request_arrives_in_one_piece_whatever_its_body_looks_like(session: requests.Session) -> None:
    bodies = [b"x" * 40_000, b"a head?\r\nContent-Length: 5\r\n\r\n", b"", b"y"]
    with canned_policy(says(200, b"hello")) as server:
        for body in bodies:
            assert session.post(server.url, data=body, timeout=LONG).content == b"hello"
        session.close()
    assert [request.split(b"\r\n\r\n", 1)[1] for request in server.requests] == bodies
