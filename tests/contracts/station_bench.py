"""A station as a stranger meets it: an address and the protocol's words, nothing of our client.

The suite beside this file uses it against any implementation of robot-station/v1. It also brings a policy of
its own over HTTP, for stations that run episodes themselves.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

from robot_bridge.description import StationAnswer, StatusAnswer
from robot_bridge.protocol import (
    AUTHORIZATION_HEADER,
    FENCE_HEADER,
    IDEMPOTENCY_HEADER,
    PROBLEM_TYPE,
    PROTOCOL_HEADER,
    EpisodeReadyAnswer,
    EpisodeStateAnswer,
    LeaseAnswer,
    Problem,
    StepAnswer,
    StepsAnswer,
)
from tests.waiting import until

DEADLINE_S = 60.0
HOLD_STILL = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


@dataclass(slots=True)
class Bench:
    """Calls to one station, and the lease that they are made under."""

    url: str
    token: str | None = None
    fence: int | None = None
    lease_id: str | None = None
    session: requests.Session = field(default_factory=requests.Session)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        sent = {PROTOCOL_HEADER: "1.0", "Content-Type": "application/json", **(headers or {})}
        if self.token is not None:
            sent.setdefault(AUTHORIZATION_HEADER, f"Bearer {self.token}")
        content = raw if body is None else json.dumps(body).encode()
        return self.session.request(
            method, self.url + path, data=content, headers=sent, timeout=DEADLINE_S, allow_redirects=False
        )

    def moving(self, path: str, body: Any, *, fence: int | None = None) -> requests.Response:
        """A call under the lease's fence, or under another one."""
        chosen = self.fence if fence is None else fence
        return self.call("POST", path, body, headers={} if chosen is None else {FENCE_HEADER: str(chosen)})

    def station(self) -> StationAnswer:
        return StationAnswer.model_validate_json(self.call("GET", "/v1/station").content)

    def status(self) -> StatusAnswer:
        return StatusAnswer.model_validate_json(self.call("GET", "/v1/status").content)

    def acquire(self, *, ttl_s: float = 30.0, holder: str = "conformance") -> LeaseAnswer:
        body = {"holder": holder, "ttl_s": ttl_s}
        answer = self.call("POST", "/v1/leases", body, headers={IDEMPOTENCY_HEADER: str(uuid.uuid4())})
        assert answer.status_code == 201, answer.text
        lease = LeaseAnswer.model_validate_json(answer.content)
        self.fence, self.lease_id = lease.fence, lease.lease_id
        return lease

    def release(self) -> None:
        if self.lease_id is not None:
            self.call("DELETE", f"/v1/leases/{self.lease_id}")
        self.fence = self.lease_id = None

    def request(self, **changes: Any) -> dict[str, Any]:
        """A new stepped episode of the station's first task."""
        return {
            "episode_id": str(uuid.uuid4()),
            "task_id": self.station().tasks[0].task_id,
            "max_steps": 12,
            "policy": {"name": "conformance"},
            "seed": 7,
            **changes,
        }

    def open(self, **changes: Any) -> EpisodeReadyAnswer:
        answer = self.moving("/v1/episodes", self.request(**changes))
        assert answer.status_code in {200, 201}, answer.text
        return EpisodeReadyAnswer.model_validate_json(answer.content)

    def post_steps(
        self, episode_id: str, t: int, actions: list[list[float]], **more: Any
    ) -> requests.Response:
        return self.moving(f"/v1/episodes/{episode_id}/steps", {"t": t, "actions": actions, **more})

    def step(self, episode_id: str, t: int, action: list[float] = HOLD_STILL, **more: Any) -> StepAnswer:
        answer = self.post_steps(episode_id, t, [action], **more)
        assert answer.status_code == 200, answer.text
        return StepsAnswer.model_validate_json(answer.content).steps[0]

    def finish(self, episode_id: str, reason: str = "completed") -> requests.Response:
        return self.moving(f"/v1/episodes/{episode_id}/finish", {"reason": reason})

    def state(self, episode_id: str) -> EpisodeStateAnswer:
        answer = self.call("GET", f"/v1/episodes/{episode_id}/state")
        assert answer.status_code == 200, answer.text
        return EpisodeStateAnswer.model_validate_json(answer.content)

    def ended(self, episode_id: str) -> EpisodeStateAnswer:
        """The state of an episode once it is finished."""

        def look() -> EpisodeStateAnswer | None:
            found = self.state(episode_id)
            return found if found.state == "finished" else None

        found: EpisodeStateAnswer = until(look, f"the end of episode {episode_id}")
        return found

    def events(self, after: int = 0, *, wait_s: float = 0.0) -> dict[str, Any]:
        answer = self.call("GET", f"/v1/events?after={after}&wait={wait_s}")
        assert answer.status_code == 200, answer.text
        tree: dict[str, Any] = answer.json()
        return tree

    def kinds_of(self, episode_id: str) -> list[str]:
        """Kinds of all events of one episode, in order."""
        kinds: list[str] = []
        page = self.events()
        while page["events"]:
            kinds += [event["kind"] for event in page["events"] if event["episode_id"] == episode_id]
            page = self.events(page["next_cursor"])
        return kinds


def refused(answer: requests.Response, code: str, *statuses: int) -> Problem:
    """The answer is that problem, with one of these statuses."""
    assert answer.headers.get("Content-Type", "").split(";")[0] == PROBLEM_TYPE, answer.text
    problem = Problem.model_validate_json(answer.content)
    assert problem.code == code, problem
    assert answer.status_code == problem.status
    assert answer.status_code in statuses
    assert problem.detail
    return problem


@dataclass(slots=True)
class PolicyOnHttp:
    """A policy of the suite's own. `decide` gives the actions for step t; calls are kept as they came."""

    decide: Callable[[int], list[list[float]]]
    chunk: int = 4
    resets: list[dict[str, Any]] = field(default_factory=list)
    acts: list[dict[str, Any]] = field(default_factory=list)
    asleep: threading.Event = field(default_factory=threading.Event)  # cleared: the policy hangs
    fails: int = 0  # how many of the next calls are answered with 503

    def __post_init__(self) -> None:
        self.asleep.set()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path.endswith("/v1/policy/reset"):
            self.resets.append(body)
            return 200, {"session": body["session"], "policy": {"name": "conformance"}, "chunk": self.chunk}
        self.asleep.wait(DEADLINE_S)
        self.acts.append(body)
        if self.fails > 0:
            self.fails -= 1
            problem = {"type": "about:blank", "title": "no", "status": 503, "detail": "not now"}
            return 503, {**problem, "code": "policy_failed"}
        actions = self.decide(body["t"])
        return 200, {"session": body["session"], "t": body["t"], "actions": actions, "infer_ms": 1.0}


@contextmanager
def policy_on_http(decide: Callable[[int], list[list[float]]]) -> Iterator[tuple[str, PolicyOnHttp]]:
    """The policy at an address of its own on loopback."""
    policy = PolicyOnHttp(decide)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the library's spelling
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, tree = policy.answer(self.path, body)
            content = json.dumps(tree).encode()
            self.send_response(status)
            self.send_header("Content-Type", PROBLEM_TYPE if status != 200 else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="policy")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", policy
    finally:
        policy.asleep.set()
        server.shutdown()
        thread.join()
        server.server_close()
