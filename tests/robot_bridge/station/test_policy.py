"""Whom a station may call: hosts as a whole, ports where they are named, paths from their beginning."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from robot_bridge.errors import EndpointRefused
from robot_bridge.station.policy import StationPolicy


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:8000",
        "http://localhost",
        "http://[::1]:1/a",
        "http://127.0.0.1/",
        "HTTP://LOCALHOST:1",
    ],
)
def test_a_policy_on_this_machine_may_be_called_without_further_ado(endpoint):
    assert StationPolicy().require_endpoint(endpoint) == endpoint.rstrip("/")


@pytest.mark.parametrize(
    "endpoint",
    [
        None,
        "",
        "127.0.0.1:8000",
        "https://127.0.0.1",
        "ftp://127.0.0.1",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org",
        "http://example.org/http://127.0.0.1",
        "http://127.0.0.1@example.org",
        "http://user@127.0.0.1",
        "http://127.0.0.1?x=1",
        "http://127.0.0.1#x",
        "http://127.0.0.1\\@example.org",
        "http://127.0.0.1/ x",
        "http://127.0.0.1/%2e%2e",
        "http://127.0.0.1\r\nHost: example.org",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:x",
        "http://[::1",
        "http://169.254.169.254/latest",
        "http://lоcalhost",  # the first o is Cyrillic
        "file:///etc/passwd",
    ],
)
def test_nothing_else_may_be_called(endpoint):
    with pytest.raises(EndpointRefused):
        StationPolicy().require_endpoint(endpoint)


@pytest.mark.parametrize(
    ("allowed", "endpoint", "may"),
    [
        ("https://gpu.lab:8443", "https://gpu.lab:8443/policy", True),
        ("https://gpu.lab:8443", "https://gpu.lab:8444", False),
        ("https://gpu.lab:8443", "https://gpu.lab", False),
        ("https://gpu.lab", "https://gpu.lab:9000", True),
        ("https://gpu.lab/policies", "https://gpu.lab/policies/a", True),
        ("https://gpu.lab/policies", "https://gpu.lab/policies", True),
        ("https://gpu.lab/policies", "https://gpu.lab/policies2", False),
        ("https://gpu.lab/policies", "https://gpu.lab/policies/../admin", False),
        ("https://gpu.lab/policies", "https://gpu.lab", False),
        ("https://gpu.lab", "http://gpu.lab", False),
    ],
)
def test_an_address_is_allowed_by_scheme_host_port_and_folder(allowed, endpoint, may):
    policy = StationPolicy(policy_endpoints=(allowed,))
    if may:
        assert policy.require_endpoint(endpoint) == endpoint
    else:
        with pytest.raises(EndpointRefused, match=r"gpu\.lab"):
            policy.require_endpoint(endpoint)


def test_a_policy_does_not_change_while_a_station_runs():
    with pytest.raises(FrozenInstanceError):
        StationPolicy().hold_after_ms = 10_000
