"""A server listens where it was told, says where that is, and lets go of it."""

from __future__ import annotations

import socket

import pytest
import requests
import uvicorn
from fastapi import FastAPI

from robot_bridge.listening import Address, TlsUnusable, serving


def test_port_0_is_a_free_one_and_the_url_names_it() -> None:
    address = Address()
    with address.listen() as listener:
        assert address.url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_ipv6_address_is_bracketed_in_its_url() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        listener = Address(host="::1").listen()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with listener:
        assert Address(host="::1").url(listener).startswith("http://[::1]:")


def test_an_address_that_is_taken_is_refused_and_nothing_stays_open() -> None:
    with Address().listen() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            Address(port=port).listen()
    Address(port=port).listen().close()


def test_a_certificate_without_its_key_is_told_and_neither_is_fine(tmp_path) -> None:
    Address().check_tls()
    with pytest.raises(TlsUnusable, match="one is missing"):
        Address(tls_certificate=tmp_path / "cert.pem").check_tls()
    with pytest.raises(TlsUnusable, match="No such file"):
        Address(tls_certificate=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem").check_tls()
    assert Address(tls_certificate=tmp_path / "cert.pem").scheme == "https"


def test_what_is_served_in_a_thread_answers_inside_the_block_and_is_gone_after_it() -> None:
    app = FastAPI()

    @app.get("/")
    def hello() -> str:
        return "hello"

    address = Address()
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    with address.listen() as listener:
        url = address.url(listener)
        with serving(server, listener, name="hello"):
            assert requests.get(url, timeout=30).json() == "hello"
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=30)
