"""Operator calls: with a token that has the scope, from this machine, and from nowhere else."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from starlette.requests import Request

from robot_bridge.errors import Forbidden, MotorFault, NeedsHuman
from robot_bridge.station.operator_routes import require_local
from robot_bridge.station.tokens import TokenFile
from tests.robot_bridge.station.wire import Wire, a_wire, problem

EVERYTHING = ("observe", "drive", "label", "estop", "operate")
CALLS = [
    ("/v1/estop/clear", {"nonce": "x"}),
    ("/v1/human/done", {}),
    ("/v1/maintenance/reboot_motors", {}),
    ("/v1/maintenance/sleep", {}),
    ("/v1/maintenance/wake", {}),
]


def with_token(wire: Wire, secret: str) -> Wire:
    wire.http.headers["Authorization"] = f"Bearer {secret}"
    return wire


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json")


@pytest.fixture
def operator(tmp_path: Path, tokens: TokenFile):
    with a_wire(tmp_path / "spool", tokens=tokens) as wire:
        yield with_token(wire, tokens.create("operator", EVERYTHING))


def answers(wire: Wire) -> set[int]:
    return {wire.post(path, body).status_code for path, body in CALLS}


def test_a_daemon_never_operates(tmp_path, tokens):
    with a_wire(tmp_path / "spool", tokens=tokens) as wire:
        with_token(wire, tokens.create("daemon", ("observe", "drive", "label", "estop")))
        assert answers(wire) == {403}
    with a_wire(tmp_path / "spool") as wire:  # nor does anybody where there are no tokens
        assert answers(wire) == {403}


def test_an_operator_operates_from_this_machine_only(tmp_path, tokens):
    secret = tokens.create("operator", EVERYTHING)
    with a_wire(tmp_path / "spool", tokens=tokens, peer="192.0.2.7") as wire:
        assert answers(with_token(wire, secret)) == {403}
        assert set(wire.driver.calls) <= {"motors"}
    for peer in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        with a_wire(tmp_path / "spool", tokens=tokens, peer=peer) as wire:
            assert answers(with_token(wire, secret)) == {204}


@pytest.mark.parametrize(
    ("peer", "may"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("192.0.2.7", False), ("localhost", False)],
)
def test_the_calls_look_at_the_peer_themselves_whatever_the_door_does(peer, may):
    call = {"type": "http", "method": "POST", "path": "/v1/estop/clear", "headers": [], "query_string": b""}
    request = Request({**call, "client": (peer, 1), "server": ("127.0.0.1", 80), "scheme": "http"})
    if may:
        asyncio.run(require_local(request))
        return
    with pytest.raises(Forbidden, match=re.escape(peer)):
        asyncio.run(require_local(request))


def test_a_stop_is_cleared_with_the_nonce_and_the_next_motion_is_a_reset(operator, tmp_path):
    operator.lease()
    operator.create()
    operator.http.post("/v1/estop", json={"reason": "smoke"})
    refused = problem(operator.post("/v1/estop/clear", {"nonce": "please"}))
    assert (refused.status, refused.code) == (422, "bad_request")
    path = tmp_path / "spool" / "estop.json"
    assert path.stat().st_mode & 0o077 == 0  # the nonce is for whoever runs the station
    nonce = json.loads(path.read_text())["nonce"]
    assert nonce not in operator.http.get("/v1/status").text + operator.http.get("/v1/events").text
    assert operator.post("/v1/estop/clear", {"nonce": nonce}).status_code == 204
    status = operator.http.get("/v1/status").json()
    assert (status["state"], status["lease"]) == ("HOMING", None)
    operator.lease()
    assert operator.create(episode_id="e2").status_code == 200
    assert operator.http.get("/v1/status").json()["state"] == "READY"


def test_a_human_says_that_it_is_done_with_and_without_a_note(operator):
    operator.lease()
    for body in ({"note": "put it back"}, None):
        operator.driver.fails["reset"] = [NeedsHuman(reason="eggplant on the floor")]
        assert problem(operator.create()).code == "needs_human"
        answer = operator.http.post("/v1/human/done", **({} if body is None else {"json": body}))
        assert answer.status_code == 204
        assert operator.http.get("/v1/status").json()["waiting_for"] is None


def test_motors_are_rebooted_and_what_does_not_help_is_said(operator):
    operator.lease()
    operator.driver.fails["reset"] = [MotorFault(motor="elbow", fault="overload")]
    assert problem(operator.create()).code == "motor_fault"
    operator.driver.fails["reboot_motors"] = [MotorFault(motor="elbow", fault="overload")]
    assert problem(operator.post("/v1/maintenance/reboot_motors", {})).code == "motor_fault"
    assert operator.http.get("/v1/status").json()["state"] == "FAULT"
    assert operator.post("/v1/maintenance/reboot_motors", {}).status_code == 204
    assert operator.create().status_code == 200
