"""The policy gateway: the one address that AutoEval may call, open for a job as long as the job runs.

AutoEval asks, we answer: its robot side POSTs every observation here and executes what it is told. So this is
the only place where a job can be watched step by step, and all of it is recorded. A gateway has neither
database nor GPU; it asks a policy through a `callback.PolicyLink`, and keeps what it saw in a folder:

    <root>/lock              held while it serves
    <root>/jobs/<job id>/    see `gateway_records`

It does not know AutoEval's scheduler: somebody opens and closes jobs here.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from robot_bridge.autoeval.attempt import Attempt
from robot_bridge.autoeval.gateway_app import create_gateway_app
from robot_bridge.autoeval.gateway_attempt import Pace
from robot_bridge.autoeval.gateway_errors import GatewayBusy, GatewayJobInvalid, GatewayJobOpen
from robot_bridge.autoeval.gateway_job import JOB_ID, GatewayJob
from robot_bridge.autoeval.gateway_records import JobRecords
from robot_bridge.autoeval.gateway_session import JobSession
from robot_bridge.callback import PolicyLink
from robot_bridge.http_heads import BoundedHeads
from robot_bridge.listening import Address, serving

__all__ = ["Gateway", "GatewayJob", "running_gateway"]

log = logging.getLogger(__name__)

DEADLINE_S: Final = 2.0  # to decide in; AutoEval itself would wait for ever
IDLE_S: Final = 180.0  # of silence end an attempt
BODY_S: Final = 10.0  # for 256 KiB over a tunnel; a body that trickles in is dropped
KEEP_ALIVE_S: Final = 120  # as AutoEval's own server templates: its client keeps one connection
CONNECTIONS_MAX: Final = 64
GRACE_S: Final = 10  # for requests that are being answered when the gateway is told to stop


def utc_now() -> datetime:
    """The wall clock that attempts are stamped with."""
    return datetime.now(UTC)


class Gateway:
    """All jobs that AutoEval may call, and what was recorded of them. Safe to call from any thread.

    Attempts that a gateway which died left running are ended as "recovered" when this one is made.

    Raises:
        GatewayBusy: another gateway serves from this folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
        deadline_s: float = DEADLINE_S,
        idle_s: float = IDLE_S,
        body_s: float = BODY_S,
    ) -> None:
        self.root = root
        self._pace = Pace(clock=clock, now=now, deadline_s=deadline_s, idle_s=idle_s, body_s=body_s)
        self._open: dict[str, JobSession] = {}  # replaced, never changed: a request must not wait for a lock
        self._lock = threading.Lock()
        self._app = create_gateway_app(self.find, self._pace)
        self._jobs = root / "jobs"
        self._jobs.mkdir(parents=True, exist_ok=True)
        with _sole_owner(root):
            for folder in self._jobs.iterdir():
                JobRecords(folder, folder.name).recover()

    @property
    def app(self) -> FastAPI:
        """The gateway as an ASGI app."""
        return self._app

    def open(self, job: GatewayJob, link: PolicyLink) -> None:
        """Answer AutoEval under this job's path from now on; the same job may be opened again later.

        Opening a job that is open changes nothing, and keeps its first link.

        Raises:
            GatewayJobOpen: another job has this id or this capability.
        """
        with self._lock:
            known = self._open.get(job.job_id)
            if known is not None and known.job != job:
                raise GatewayJobOpen(job_id=job.job_id, thing="id")
            if any(other.job.capability == job.capability for other in self._open.values() if other != known):
                raise GatewayJobOpen(job_id=job.job_id, thing="capability")
            if known is None:
                records = self._records(job.job_id)
                records.recover()  # an attempt that could not be put away when it ended
                session = JobSession(job, link=link, records=records, pace=self._pace)
                self._open = {**self._open, job.job_id: session}
                log.info("gateway job opened job=%s task=%s", job.job_id, job.task_id)

    def close(self, job_id: str) -> None:
        """The job is over: its path is gone, its last attempt ended. Nothing happens when it is not open.

        Raises:
            RecordingFailed: its last attempt could not be put away; it is recovered at the next start.
        """
        with self._lock:
            session = self._open.get(job_id)
            self._open = {name: other for name, other in self._open.items() if name != job_id}
        if session is not None:
            session.close()
            log.info("gateway job closed job=%s", job_id)

    def attempts(self, job_id: str, *, after: int = -1) -> list[Attempt]:
        """The job's ended attempts with an index above `after`, in order; also of a job before a crash.

        An attempt in which nothing was asked is none, so indices may have gaps.

        Raises:
            RecordingFailed: an attempt has been silent for too long, and could not be put away.
        """
        session = self._open.get(job_id)
        if session is not None:
            session.settle()
        return self._records(job_id).attempts(after)

    def begun(self, job_id: str) -> bool:
        """Whether AutoEval ever called this job's /reset: from then on it runs."""
        return self._records(job_id).begun.attempts > 0

    def forget(self, job_id: str) -> None:
        """Remove what was recorded of a job, once it is safe elsewhere.

        Raises:
            GatewayJobOpen: it is open.
        """
        with self._lock:
            if job_id in self._open:
                raise GatewayJobOpen(job_id=job_id, thing="folder")
            shutil.rmtree(self._records(job_id).folder, ignore_errors=True)

    def find(self, capability: str) -> JobSession | None:
        """The open job of this capability. How long it takes says nothing of how much of it is right."""
        asked = _digest(capability)
        sessions = self._open.values()
        found = [
            session for session in sessions if hmac.compare_digest(_digest(session.job.capability), asked)
        ]
        return found[0] if found else None

    def _records(self, job_id: str) -> JobRecords:
        if JOB_ID.fullmatch(job_id) is None:
            raise GatewayJobInvalid(job_id=job_id, thing="job_id", expected=JOB_ID.pattern)
        return JobRecords(self._jobs / job_id, job_id)


@contextmanager
def running_gateway(gateway: Gateway, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve a gateway in a thread of this program, and give its base URL; port 0 takes a free one.

    A job's URL is the base with "/j/" and its capability. AutoEval must reach it from outside: the normal
    deployment is loopback here, behind a tunnel or a reverse proxy in a DMZ that adds TLS. Any other `host`
    must be named, and is then served without TLS.

    Raises:
        GatewayBusy: another gateway serves from this folder.
        OSError: the address cannot be listened on.
    """
    address = Address(host=host, port=port)
    with _sole_owner(gateway.root), address.listen(CONNECTIONS_MAX) as listener:
        config = uvicorn.Config(
            gateway.app,
            log_config=None,
            log_level="warning",
            access_log=False,  # its lines would hold capabilities
            lifespan="off",
            ws="none",
            http=BoundedHeads,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=GRACE_S,
        )
        with serving(uvicorn.Server(config), listener, name="gateway"):
            yield address.url(listener)


@contextmanager
def _sole_owner(root: Path) -> Iterator[None]:
    """The folder's lock; the system lets go of it when the program dies."""
    handle = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(handle, root)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, root: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        raise GatewayBusy(path=root) from cause


def _digest(capability: str) -> bytes:
    return hashlib.sha256(capability.encode("utf-8", "surrogatepass")).digest()
