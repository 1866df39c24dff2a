"""A scheduler with AutoEval's answers in memory, which loses, delays or garbles those that a test names."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Raw:
    """Any answer at all, byte for byte."""

    status: int
    body: bytes
    content_type: str = "application/json"
    location: str = ""


LOSE_ANSWER = "the call is handled, its answer never arrives"
IGNORE = "the connection is closed, nothing is handled"


class FakeScheduler:
    """Jobs and robots in memory; `faults` per "METHOD /path" are used up one by one, in order."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.robots: Any = [{"robot": "widowx_drawer", "is_online": True, "offline_message": None}]
        self.live: Any = {"language_instruction": "open the drawer", "episode": 2, "timestep": 31}
        self.faults: dict[str, list[object]] = defaultdict(list)
        self.calls: list[str] = []
        self.on_headers: Callable[[Message], None] = lambda _: None
        self.url = ""

    def add(self, **row: Any) -> dict[str, Any]:
        number = len(self.jobs)
        defaults = {
            "id": f"job-{number}",
            "description": "somebody's job",
            "robot": "widowx_drawer",
            "task": "open_drawer",
            "status": "queued",
            "submitted_at": 1_000.0 + number,
            "submitter_id": "user_other",
            "success_rate": None,
            "wandb_url": None,
            "tmux_output": None,
            "num_episodes": 10,
            "max_steps": 70,
        }
        self.jobs.append({**defaults, **row})
        return self.jobs[-1]

    def posts(self) -> int:
        return self.calls.count("POST /jobs/")

    def answer(self, method: str, url: str, body: bytes) -> tuple[int, Any]:
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        match parts.path.strip("/").split("/"):
            case ["jobs"] if method == "POST":
                return self._submit(json.loads(body))
            case ["jobs"]:
                return 200, self._page(query)
            case ["robot_status"]:
                return 200, self.robots
            case ["get_status_data", _]:
                return 200, self.live
            case ["jobs", job_id, *rest]:
                return self._one(job_id, rest, query)
        return 404, {"detail": "Not Found"}

    def _submit(self, row: dict[str, Any]) -> tuple[int, Any]:
        for robot in self.robots:
            if robot["robot"] == row["robot"] and not robot["is_online"]:
                return 400, {"detail": robot["offline_message"]}
        return 200, {"job_id": self.add(**row)["id"], "status": "Job submitted and queued"}

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        page, limit = int(query["page"]), int(query["limit"])
        own = [
            job
            for job in self.jobs
            if "own_only" not in query or job["submitter_id"] == query["submitter_id"]
        ]
        newest = sorted(own, key=lambda job: -float(job["submitted_at"]))
        return {"jobs": newest[(page - 1) * limit : page * limit], "pagination": {}}

    def _one(self, job_id: str, rest: list[str], query: dict[str, str]) -> tuple[int, Any]:
        job = next((job for job in self.jobs if job["id"] == job_id), None)
        if job is None:
            return 404, {"detail": "Job not found"}
        if rest == ["output"]:
            return 200, {"output": job["tmux_output"] or "No output available"}
        if rest != ["cancel"]:
            return 200, {"job_id": job_id, "status": job["status"]}
        if job["submitter_id"] != query.get("submitter_id"):
            return 403, {"detail": "You can only cancel jobs that you submitted"}
        if job["status"] not in {"queued", "evaluating"}:
            return 400, {"detail": f"Cannot cancel job with status {job['status']}"}
        job["status"] = "cancelled"
        return 200, {"status": "success", "job_status": "cancelled"}


class _Handler(BaseHTTPRequestHandler):
    fake: FakeScheduler

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        call = f"{self.command} {urlsplit(self.path).path}"
        self.fake.calls.append(call)
        self.fake.on_headers(self.headers)
        waiting = self.fake.faults[call]
        fault = waiting.pop(0) if waiting else None
        self.close_connection = True
        if fault == IGNORE:
            return
        if isinstance(fault, Raw):
            self._send(fault)
            return
        status, answer = self.fake.answer(self.command, self.path, body)
        if fault != LOSE_ANSWER:
            self._send(Raw(status, json.dumps(answer).encode()))

    def _send(self, raw: Raw) -> None:
        self.send_response(raw.status)
        self.send_header("Content-Type", raw.content_type)
        self.send_header("Content-Length", str(len(raw.body)))
        if raw.location:
            self.send_header("Location", raw.location)
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # the client had read enough
            self.wfile.write(raw.body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def running(fake: FakeScheduler) -> Iterator[FakeScheduler]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
