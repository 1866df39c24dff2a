"""The gateway as a server: hung policies, parallel requests, cut bodies, a kill; jobs opened and closed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from robot_bridge.autoeval.gateway import Gateway, running_gateway
from robot_bridge.autoeval.gateway_errors import GatewayBusy, GatewayJobInvalid, GatewayJobOpen
from tests.robot_bridge.autoeval.gateway_builders import (
    CAPABILITY,
    OTHER_CAPABILITY,
    PATIENCE_S,
    Caller,
    FakePolicy,
    a_body,
    a_gateway,
    a_job,
    decided,
    refusal,
)
from tests.robot_bridge.builders import Clock
from tests.waiting import until

ROOT = Path(__file__).parents[3]
SOON_S = 0.15  # the deadline of a gateway whose policy is going to hang
HOLD = [0.0] * 6 + [1.0]


class Cell:
    """AutoEval's robot side: one keep-alive session to one job, without a time-out of its own."""

    def __init__(self, base: str, capability: str = CAPABILITY) -> None:
        self.url = f"{base}/j/{capability}"
        self.session = requests.Session()
        self.session.trust_env = False

    def reset(self) -> requests.Response:
        return self.session.post(f"{self.url}/reset")

    def act(self, body: bytes | None = None) -> requests.Response:
        headers = {"Content-Type": "application/json"}
        return self.session.post(f"{self.url}/act", data=a_body() if body is None else body, headers=headers)


@pytest.fixture
def policy() -> Iterator[FakePolicy]:
    policy = FakePolicy()
    yield policy
    policy.go_on.set()


@pytest.fixture
def gateway(tmp_path: Path, policy: FakePolicy) -> Gateway:
    gateway = Gateway(tmp_path, deadline_s=PATIENCE_S)
    gateway.open(a_job(), policy)
    return gateway


@pytest.fixture
def base(gateway: Gateway) -> Iterator[str]:
    with running_gateway(gateway) as base:
        yield base


@pytest.fixture
def cell(base: str) -> Iterator[Cell]:
    cell = Cell(base)
    yield cell
    cell.session.close()


@pytest.fixture
def hasty(tmp_path: Path, policy: FakePolicy) -> Gateway:
    gateway = Gateway(tmp_path / "hasty", deadline_s=SOON_S)
    gateway.open(a_job(), policy)
    return gateway


@pytest.fixture
def hasty_cell(hasty: Gateway) -> Iterator[Cell]:
    with running_gateway(hasty) as base:
        cell = Cell(base)
        yield cell
        cell.session.close()


def decisions(cell: Cell, count: int) -> list[list[float]]:
    """The next answers that are no hold: on a busy machine even a policy that is well may be late."""
    found: list[list[float]] = []

    def enough() -> bool:
        answer = cell.act().json()
        found.extend([answer] if answer != HOLD else [])
        return len(found) == count

    until(enough)
    return found


def in_background(call: Callable[[], requests.Response]) -> Future[requests.Response]:
    pool = ThreadPoolExecutor(max_workers=1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return future


def test_a_whole_rollout_over_the_wire(gateway, cell):
    assert cell.reset().json() == {"status": "reset"}
    actions = [cell.act(a_body(seed=t)).json() for t in range(4)]
    assert actions == [decided("job-1-0", t) for t in range(4)]
    gateway.close("job-1")
    (attempt,) = gateway.attempts("job-1")
    np.testing.assert_array_equal(attempt.sent_action, np.array(actions, np.float32))
    assert (np.diff(attempt.t_recv) > 0).all()
    assert (attempt.t_sent >= attempt.t_recv).all()
    assert attempt.wall_recv is not None
    assert abs(attempt.wall_recv[-1] - time.time()) < 3600


def test_one_connection_serves_a_whole_job_also_through_refusals(base):
    connection = socket.create_connection(_address(base))
    with connection, connection.makefile("rb") as answers:
        statuses = []
        for path, body in [
            (f"/j/{CAPABILITY}/act", a_body()),
            (f"/j/{CAPABILITY}/reset", b""),
            (f"/j/{CAPABILITY}/act", a_body()),
            (f"/j/{CAPABILITY}/act", b"nonsense"),
            (f"/j/{OTHER_CAPABILITY}/act", a_body()),
            (f"/j/{CAPABILITY}/act", a_body()),
        ]:
            connection.sendall(_request(path, body))
            statuses.append(_read_answer(answers)[0])
    assert statuses == [409, 200, 200, 422, 404, 200]


def _address(base: str) -> tuple[str, int]:
    parts = urlsplit(base)
    return str(parts.hostname), int(parts.port or 0)


def _request(path: str, body: bytes, *, length: int | None = None) -> bytes:
    declared = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {declared}\r\n\r\n".encode() + body


def _read_answer(answers) -> tuple[int, bytes]:  # type: ignore[no-untyped-def]
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return status, answers.read(length)


def test_a_policy_that_hangs_makes_the_arm_hold_and_then_the_job_fail(hasty, hasty_cell, policy):
    gateway, cell = hasty, hasty_cell
    cell.reset()
    policy.go_on.clear()
    assert [cell.act().json() for _ in range(5)] == [HOLD] * 5
    assert refusal(cell.act()) == (503, "policy_unreachable")
    assert len(policy.asked) == 1  # it still decides on the first: nothing else is asked of it
    policy.go_on.set()
    gateway.close("job-1")
    (attempt,) = gateway.attempts("job-1")
    assert attempt.fallback.all()
    assert (attempt.infer_ms >= 1000 * SOON_S * 0.9).all()


def test_a_late_decision_is_what_the_next_question_is_answered_with(hasty, hasty_cell, policy):
    hasty_cell.reset()
    policy.go_on.clear()
    assert hasty_cell.act().json() == HOLD
    policy.go_on.set()
    assert decisions(hasty_cell, 3) == [decided("job-1-0", t) for t in range(3)]
    assert [asked.t for asked in policy.asked] == [0, 1, 2]
    hasty.close("job-1")
    (attempt,) = hasty.attempts("job-1")
    assert attempt.fallback[0]
    assert (~attempt.fallback).sum() == 3


def test_a_late_decision_of_the_attempt_before_is_nobodys(hasty_cell, policy):
    hasty_cell.reset()
    policy.go_on.clear()
    assert hasty_cell.act().json() == HOLD
    policy.go_on.set()
    until(lambda: hasty_cell.reset().status_code == 200)
    (first,) = decisions(hasty_cell, 1)
    assert first[1] > 0  # not of attempt 0


def test_a_policy_that_hangs_in_one_attempt_and_is_let_go_serves_the_next(tmp_path, policy):
    gateway = Gateway(tmp_path, deadline_s=0.8)  # of which a /reset waits for five
    gateway.open(a_job(), policy)
    with running_gateway(gateway) as base:
        cell = Cell(base)
        cell.reset()
        policy.go_on.clear()
        assert cell.act().json() == HOLD
        resetting = in_background(cell.reset)
        until(lambda: [a.ended_by for a in gateway.attempts("job-1")] == ["reset"])
        policy.go_on.set()
        assert resetting.result(PATIENCE_S).status_code == 200
        assert decisions(cell, 1) == [decided("job-1-1", 0)]
        cell.session.close()


def test_a_second_act_while_one_is_answered_is_told_to_wait(gateway, base, cell, policy):
    other = Cell(base)
    cell.reset()
    policy.go_on.clear()
    waiting = in_background(cell.act)
    assert policy.hanging.wait(PATIENCE_S)
    answers = [other.act() for _ in range(3)]
    assert [refusal(answer) for answer in answers] == [(429, "request_in_flight")] * 3
    assert answers[0].headers["Retry-After"] == "1"
    policy.go_on.set()
    assert waiting.result(PATIENCE_S).json() == decided("job-1-0", 0)
    assert other.act().json() == decided("job-1-0", 1)
    other.session.close()
    gateway.close("job-1")
    assert [attempt.steps for attempt in gateway.attempts("job-1")] == [2]


def test_parallel_requests_are_each_answered_and_every_200_is_one_recorded_step(gateway, base, policy):
    cells = [Cell(base) for _ in range(8)]
    cells[0].reset()
    gathered = threading.Barrier(len(cells))

    def hammer(cell: Cell) -> list[int]:
        gathered.wait(PATIENCE_S)
        return [cell.act().status_code for _ in range(3)]

    with ThreadPoolExecutor(max_workers=len(cells)) as pool:
        statuses = [status for found in pool.map(hammer, cells) for status in found]
    for cell in cells:
        cell.session.close()
    gateway.close("job-1")
    attempts = gateway.attempts("job-1")
    assert set(statuses) <= {200, 409, 429}
    assert sum(attempt.steps for attempt in attempts) == statuses.count(200) == len(policy.asked) > 0
    assert policy.at_once_max == 1


def test_a_job_whose_policy_hangs_does_not_keep_another_waiting(gateway, base, policy):
    other = FakePolicy()
    gateway.open(a_job(job_id="job-2", capability=OTHER_CAPABILITY), other)
    hung, free = Cell(base), Cell(base, OTHER_CAPABILITY)
    hung.reset()
    free.reset()
    policy.go_on.clear()
    waiting = in_background(hung.act)
    assert policy.hanging.wait(PATIENCE_S)
    assert [free.act().json() for _ in range(3)] == [decided("job-2-0", t) for t in range(3)]
    policy.go_on.set()
    assert waiting.result(PATIENCE_S).json() == decided("job-1-0", 0)
    hung.session.close()
    free.session.close()


def test_closing_a_job_waits_for_the_answer_that_is_being_given_and_records_it(gateway, base, cell, policy):
    cell.reset()
    policy.go_on.clear()
    waiting = in_background(cell.act)
    assert policy.hanging.wait(PATIENCE_S)
    closing = threading.Thread(target=gateway.close, args=("job-1",))
    closing.start()
    late = Cell(base)
    until(lambda: late.act().status_code == 404)
    policy.go_on.set()
    closing.join(PATIENCE_S)
    assert waiting.result(PATIENCE_S).json() == decided("job-1-0", 0)
    assert [attempt.ended_by for attempt in gateway.attempts("job-1")] == ["job"]
    late.session.close()


def test_a_reset_that_comes_as_its_job_is_closed_leaves_nothing_running(gateway, base, cell, policy):
    other = Cell(base)
    cell.reset()
    policy.go_on.clear()
    waiting = in_background(cell.act)
    assert policy.hanging.wait(PATIENCE_S)
    resetting = in_background(other.reset)
    closing = threading.Thread(target=gateway.close, args=("job-1",))
    closing.start()
    policy.go_on.set()
    closing.join(PATIENCE_S)
    assert waiting.result(PATIENCE_S).status_code == 200
    assert resetting.result(PATIENCE_S).status_code in {200, 404}  # before the job's end, or after it
    assert refusal(cell.reset()) == (404, "unknown_capability")
    assert len(gateway.attempts("job-1")) == 1
    other.session.close()


def test_a_body_that_never_ends_is_dropped_and_others_are_served_meanwhile(tmp_path, policy):
    gateway = Gateway(tmp_path, body_s=SOON_S)
    gateway.open(a_job(), policy)
    with running_gateway(gateway) as base, socket.create_connection(_address(base)) as slow:
        slow.sendall(_request(f"/j/{CAPABILITY}/act", b"{", length=1000))
        cell = Cell(base)
        cell.reset()
        assert cell.act().json() == decided("job-1-0", 0)
        cell.session.close()
        with slow.makefile("rb") as answers:
            status, body = _read_answer(answers)
    assert (status, json.loads(body)["code"]) == (408, "body_too_slow")


@pytest.mark.parametrize("capability", [CAPABILITY, OTHER_CAPABILITY], ids=["open", "unknown"])
def test_a_connection_that_is_cut_within_a_body_disturbs_nobody(base, cell, capability, caplog):
    cell.reset()
    for _ in range(3):
        with socket.create_connection(_address(base)) as cut:
            cut.sendall(_request(f"/j/{capability}/act", a_body()[:5000], length=len(a_body())))
    assert cell.act().json() == decided("job-1-0", 0)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_cell_that_hangs_up_before_the_answer_disturbs_nobody(gateway, base, cell, policy):
    cell.reset()
    policy.go_on.clear()
    with socket.create_connection(_address(base)) as gone:
        gone.sendall(_request(f"/j/{CAPABILITY}/act", a_body()))
        assert policy.hanging.wait(PATIENCE_S)
    policy.go_on.set()
    until(lambda: cell.act().status_code == 200)
    gateway.close("job-1")
    (attempt,) = gateway.attempts("job-1")
    assert attempt.steps >= 2


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"POST /j/x/act HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /j/x/act HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
        b"POST /j/x/act HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"G" * 70_000,
    ],
    ids=lambda raw: ascii(raw[-24:]),
)
def test_what_is_not_http_disturbs_nobody(base, cell, raw):
    cell.reset()
    with socket.create_connection(_address(base)) as noise, contextlib.suppress(OSError):
        noise.sendall(raw)
        noise.shutdown(socket.SHUT_WR)
        while noise.recv(65536):
            pass
    assert cell.act().json() == decided("job-1-0", 0)


def test_a_body_may_come_in_chunks(base, cell):
    cell.reset()
    body = a_body()
    answer = cell.session.post(
        f"{cell.url}/act", data=(body[i : i + 9000] for i in range(0, len(body), 9000))
    )
    assert answer.json() == decided("job-1-0", 0)


def test_chunks_without_end_are_refused_at_the_limit(base):
    with socket.create_connection(_address(base)) as endless, endless.makefile("rb") as answers:
        head = f"POST /j/{CAPABILITY}/act HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        endless.sendall(head.encode())
        with contextlib.suppress(OSError):
            for _ in range(17):
                endless.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        status, body = _read_answer(answers)
    assert (status, json.loads(body)["code"]) == (413, "too_large")


SERVE = """
import sys, threading
from pathlib import Path
from robot_bridge.autoeval.gateway import Gateway, running_gateway
from tests.robot_bridge.autoeval.gateway_builders import FakePolicy, a_job
gateway = Gateway(Path(sys.argv[1]))
gateway.open(a_job(max_steps=100), FakePolicy(chunk=2))
with running_gateway(gateway) as base:
    print(base, flush=True)
    threading.Event().wait()
"""


def test_a_gateway_that_is_killed_loses_nothing_it_answered_and_its_folder_can_be_used_again(tmp_path):
    command = [sys.executable, "-c", SERVE, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        cell = Cell(server.stdout.readline().strip())
        cell.reset()
        first = [cell.act(a_body(seed=t)).json() for t in range(3)]
        cell.reset()
        second = [cell.act(a_body(seed=t)).json() for t in range(5)]
        with pytest.raises(GatewayBusy, match="belongs to a gateway that runs"):
            Gateway(tmp_path)
        os.kill(server.pid, signal.SIGKILL)
        server.wait(PATIENCE_S)
        cell.session.close()
    gateway = Gateway(tmp_path)
    assert gateway.begun("job-1")
    attempts = gateway.attempts("job-1")
    assert [(attempt.index, attempt.ended_by) for attempt in attempts] == [(0, "reset"), (1, "recovered")]
    for attempt, sent in zip(attempts, (first, second), strict=True):
        np.testing.assert_array_equal(attempt.sent_action, np.array(sent, np.float32))
    gateway.open(a_job(), FakePolicy())
    again = Caller(gateway)
    assert refusal(again.act()) == (409, "reset_first")  # nobody knows what the robot did meanwhile
    again.reset()
    assert again.acts(1) == [decided("job-1-2", 0)]


def test_two_gateways_cannot_serve_from_one_folder(gateway, base, tmp_path):
    with pytest.raises(GatewayBusy, match=str(tmp_path)):
        Gateway(tmp_path)


def test_a_gateway_that_stopped_can_be_served_again(gateway, policy):
    for _ in range(2):
        with running_gateway(gateway) as base:
            cell = Cell(base)
            assert cell.reset().status_code == 200
            assert cell.act().status_code == 200
            cell.session.close()
    gateway.close("job-1")
    assert [attempt.steps for attempt in gateway.attempts("job-1")] == [1, 1]


@pytest.mark.parametrize(("host", "prefix"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_it_listens_on_the_host_it_is_given(gateway, host, prefix):
    try:
        with running_gateway(gateway, host=host) as base:
            assert base.startswith(prefix)
            assert requests.get(f"{base}/j/{CAPABILITY}/health", timeout=PATIENCE_S).status_code == 200
    except OSError as error:
        if host == "::1":
            pytest.skip(f"no IPv6 here: {error}")
        raise


def test_a_port_that_is_taken_is_said_at_once(gateway):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), running_gateway(gateway, port=port):
            pass
    with running_gateway(gateway) as base:  # and the folder is free again
        assert base


def test_opening_the_same_job_again_changes_nothing(gateway, policy):
    caller = Caller(gateway)
    caller.reset()
    gateway.open(a_job(), FakePolicy(chunk=5))
    assert caller.acts(1) == [decided("job-1-0", 0)]
    assert len(policy.asked) == 1


def test_an_id_or_a_capability_that_is_in_use_is_refused(gateway):
    with pytest.raises(GatewayJobOpen, match="job-1: its id is in use"):
        gateway.open(a_job(max_steps=11), FakePolicy())
    with pytest.raises(GatewayJobOpen, match="job-2: its capability is in use") as refused:
        gateway.open(a_job(job_id="job-2"), FakePolicy())
    assert CAPABILITY not in str(refused.value)


def test_a_closed_job_can_be_opened_again_under_another_path_and_goes_on_counting(gateway, policy):
    Caller(gateway).reset()
    Caller(gateway).acts(1)
    gateway.close("job-1")
    gateway.open(a_job(capability=OTHER_CAPABILITY), policy)
    assert refusal(Caller(gateway).reset()) == (404, "unknown_capability")
    again = Caller(gateway, OTHER_CAPABILITY)
    again.reset()
    assert again.acts(1) == [decided("job-1-1", 0)]
    gateway.close("job-1")
    assert [(attempt.index, attempt.ended_by) for attempt in gateway.attempts("job-1")] == [
        (0, "job"),
        (1, "job"),
    ]


def test_closing_twice_or_what_was_never_open_is_nothing(gateway):
    gateway.close("job-1")
    gateway.close("job-1")
    gateway.close("never")


def test_a_job_that_nobody_opened_has_no_attempts_and_has_not_begun(gateway):
    assert gateway.attempts("never") == []
    assert not gateway.begun("never")


@pytest.mark.parametrize("job_id", ["", "..", "../job-1", "a/b", "/etc"])
def test_an_id_cannot_lead_out_of_the_folder(gateway, job_id):
    for call in (gateway.attempts, gateway.begun, gateway.forget):
        with pytest.raises(GatewayJobInvalid):
            call(job_id)


def test_attempts_can_be_fetched_as_they_come(gateway):
    caller = Caller(gateway)
    for _ in range(3):
        caller.reset()
        caller.acts(1)
    assert [attempt.index for attempt in gateway.attempts("job-1", after=0)] == [1]
    gateway.close("job-1")
    assert [attempt.index for attempt in gateway.attempts("job-1", after=1)] == [2]


def test_a_job_is_forgotten_only_once_it_is_closed(gateway, tmp_path):
    caller = Caller(gateway)
    caller.reset()
    caller.acts(1)
    with pytest.raises(GatewayJobOpen, match="job-1"):
        gateway.forget("job-1")
    gateway.close("job-1")
    gateway.forget("job-1")
    gateway.forget("job-1")
    assert gateway.attempts("job-1") == []
    assert list((tmp_path / "jobs").iterdir()) == []


def test_many_open_jobs_are_told_apart(tmp_path):
    gateway = a_gateway(tmp_path, Clock())
    policies = [FakePolicy() for _ in range(10)]
    for n, policy in enumerate(policies):
        gateway.open(a_job(job_id=f"job-{n}", capability=f"{n:032x}"), policy)
    for n, policy in enumerate(policies):
        assert Caller(gateway, f"{n:032x}").reset().status_code == 200
        assert [reset.session for reset in policy.resets] == [f"job-{n}-0"]
        gateway.close(f"job-{n}")
