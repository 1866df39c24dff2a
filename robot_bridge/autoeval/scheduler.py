"""AutoEval's job scheduler: submit a job once, find it again, follow it, cancel it.

The scheduler has no idempotency: whoever posts twice has two jobs. A job therefore carries a token in its
description, and a post whose answer was lost is looked for before it is made again. Everything that comes
back is somebody else's text: checked, cut to a length, shown, never followed.

Source: job_scheduler.py of zhouzypaul/auto_eval at 3ea3ff4.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

import requests

from robot_bridge.autoeval.errors import JobRejected, RobotOffline, UnknownJob
from robot_bridge.autoeval.scheduler_http import AnswerLost, Patience, Reply, SchedulerHttp, printable
from robot_bridge.autoeval.scheduler_rows import (
    STATUSES,
    TERMINAL,
    JobRequest,
    JobRow,
    LiveStatus,
    RobotStatus,
    description_of,
    job_of,
    kind_of,
    live_of,
    robot_of,
    status_of,
)

__all__ = [
    "STATUSES",
    "TERMINAL",
    "JobRequest",
    "JobRow",
    "LiveStatus",
    "Patience",
    "RobotStatus",
    "SchedulerClient",
    "description_of",
]

log = logging.getLogger(__name__)

PAGE: Final = 50  # jobs
PAGES_MAX: Final = 40
OUTPUT_MAX: Final = 64 * 1024  # characters of a log, from its end
REMOTE_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
IDENTITY: Final = ("robot", "task", "policy_server_ip", "policy_server_port", "submitter_id")


class SchedulerClient:
    """Talks to one scheduler. `submitter_id` narrows lists to our own jobs. Not thread safe."""

    def __init__(
        self,
        base_url: str,
        *,
        submitter_id: str | None = None,
        session: requests.Session | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._http = SchedulerHttp(
            base_url, session=session or requests.Session(), patience=patience or Patience()
        )
        self._submitter_id = submitter_id

    def submit(self, request: JobRequest) -> str:
        """Put a job into the queue, once; its id. A job that is there already under this description is it.

        Raises:
            RobotOffline: the robot takes no jobs now.
            JobRejected: the scheduler does not want this job.
            SchedulerUnreachable: nobody answered; submitting the same request again is safe.
            SchedulerMisbehaved: answers that are not AutoEval's.
        """
        reason = ""
        for _ in self._http.patience.attempts():
            found = self._like(request)
            if found is not None:
                return found.job_id
            try:
                reply = self._http.once("POST", "/jobs/", body=asdict(request))
            except AnswerLost as lost:
                reason = lost.reason
                log.warning("job answer was lost description=%s reason=%s", request.description, reason)
                continue
            return self._accepted(reply, request)
        found = self._like(request)
        if found is not None:
            return found.job_id
        raise self._http.unreachable("POST /jobs/", reason)

    def find(self, description: str) -> JobRow | None:
        """The job with this description, or None; the first submitted, where there are several.

        Raises:
            SchedulerUnreachable, SchedulerMisbehaved: as usual.
        """
        return self._find(description, submitter_id=self._submitter_id, like={})

    def status(self, job_id: str) -> str:
        """One of STATUSES.

        Raises:
            UnknownJob: the scheduler has no such job.
            SchedulerUnreachable, SchedulerMisbehaved: as usual.
        """
        path = f"/jobs/{self._checked_id(job_id)}"
        answer = self._known(self._http.get(path), job_id=job_id, call=f"GET {path}")
        return status_of(answer, url=self._http.url)

    def row(self, job_id: str) -> JobRow:
        """All that is listed about a job.

        Raises:
            UnknownJob: it is not listed.
            SchedulerUnreachable, SchedulerMisbehaved: as usual.
        """
        for raw in self._listed(self._submitter_id):
            if raw.get("id") == job_id:
                return job_of(raw, url=self._http.url)
        raise UnknownJob(url=self._http.url, job_id=job_id)

    def jobs(self) -> list[JobRow]:
        """Everything that is listed, newest first; only our own jobs where there is a `submitter_id`.

        Raises:
            SchedulerUnreachable, SchedulerMisbehaved: as usual.
        """
        return [job_of(raw, url=self._http.url) for raw in self._listed(self._submitter_id)]

    def output(self, job_id: str) -> str:
        """The end of the job's log, printable; there is none before the job is over.

        Raises:
            UnknownJob: the scheduler has no such job.
            SchedulerUnreachable, SchedulerMisbehaved: as usual.
        """
        path = f"/jobs/{self._checked_id(job_id)}/output"
        text = self._known(self._http.get(path), job_id=job_id, call=f"GET {path}").get("output")
        if not isinstance(text, str):
            raise self._http.misbehaved(f"GET {path}", expected="text", found=kind_of(text))
        return printable(text[-OUTPUT_MAX:], OUTPUT_MAX)

    def cancel(self, job_id: str, submitter_id: str) -> str:
        """Stop a job that is queued or evaluating; the status it has then. One that is over stays as it is.

        Raises:
            JobRejected: it is not ours to cancel.
            UnknownJob: the scheduler has no such job.
            SchedulerUnreachable, SchedulerMisbehaved: as usual.
        """
        path = f"/jobs/{self._checked_id(job_id)}/cancel"
        try:
            reply: Reply | None = self._http.once("POST", path, params={"submitter_id": submitter_id})
        except AnswerLost as lost:
            reply = None
            log.warning("cancel answer was lost job=%s reason=%s", job_id, lost.reason)
        status = self.status(job_id)
        if status in TERMINAL:
            return status
        if reply is None or reply.status < HTTPStatus.BAD_REQUEST:
            raise self._http.unreachable(f"POST {path}", f"the job is still {status}")
        raise self._rejected(reply, f"POST {path}")

    def robots(self) -> dict[str, RobotStatus]:
        """Every robot the scheduler knows, by its key.

        Raises:
            SchedulerUnreachable, SchedulerMisbehaved: as usual.
        """
        found = self._http.get("/robot_status/").json
        if not isinstance(found, list):
            raise self._http.misbehaved("GET /robot_status/", expected="a list", found=kind_of(found))
        statuses = [robot_of(each, url=self._http.url) for each in found]
        return {status.robot: status for status in statuses}

    def live(self, robot_index: int) -> LiveStatus:
        """What cell `robot_index` shows now.

        Raises:
            SchedulerUnreachable, SchedulerMisbehaved: as usual.
        """
        path = f"/get_status_data/{int(robot_index)}"
        found = self._http.get(path).json
        if not isinstance(found, dict):
            raise self._http.misbehaved(f"GET {path}", expected="a status", found=kind_of(found))
        return live_of(found)

    def _like(self, request: JobRequest) -> JobRow | None:
        """The job that this request has become, if it has."""
        like = {name: getattr(request, name) for name in IDENTITY}
        return self._find(request.description, submitter_id=request.submitter_id, like=like)

    def _find(
        self, description: str, *, submitter_id: str | None, like: Mapping[str, object]
    ) -> JobRow | None:
        """Anybody may copy a description: `like` says what else a job of ours has."""
        wanted = {"description": description, **like}
        rows = [
            job_of(raw, url=self._http.url)
            for raw in self._listed(submitter_id)
            if all(raw.get(name) == value for name, value in wanted.items())
        ]
        if len(rows) > 1:
            ids = ", ".join(row.job_id for row in rows)
            log.warning("jobs share a description description=%s jobs=%s", description, printable(ids, 300))
        return min(rows, key=lambda row: (row.submitted_at or 0.0, row.job_id), default=None)

    def _listed(self, submitter_id: str | None) -> Iterator[dict[str, Any]]:
        """Every listed job as it came, newest first, page by page."""
        only = {"submitter_id": submitter_id, "own_only": "true"} if submitter_id else {}
        for page in range(1, PAGES_MAX + 1):
            found = self._http.get("/jobs/", {"page": page, "limit": PAGE, **only}).json
            jobs = found.get("jobs") if isinstance(found, dict) else None
            if not isinstance(jobs, list):
                raise self._http.misbehaved("GET /jobs/", expected="pages of jobs", found=kind_of(found))
            yield from (job for job in jobs if isinstance(job, dict))
            if len(jobs) < PAGE:
                return

    def _accepted(self, reply: Reply, request: JobRequest) -> str:
        """The id in the answer to a post, or why there is none."""
        if reply.status == HTTPStatus.BAD_REQUEST:
            raise RobotOffline(url=self._http.url, robot=request.robot, reason=reply.detail)
        if reply.status > HTTPStatus.BAD_REQUEST:
            raise self._rejected(reply, "POST /jobs/")
        job_id = reply.json.get("job_id") if isinstance(reply.json, dict) else None
        return self._checked_id(job_id)

    def _rejected(self, reply: Reply, call: str) -> JobRejected:
        return JobRejected(url=self._http.url, call=call, status=reply.status, reason=reply.detail)

    def _checked_id(self, job_id: object) -> str:
        """An id that may become part of a path."""
        if not isinstance(job_id, str) or REMOTE_ID.fullmatch(job_id) is None:
            found = repr(job_id)[:80] if isinstance(job_id, str) else kind_of(job_id)
            raise self._http.misbehaved("POST /jobs/", expected="a job id", found=found)
        return job_id

    def _known(self, reply: Reply, *, job_id: str, call: str) -> dict[str, Any]:
        """The answer about one job. A server that is not a scheduler also says 404, but not of a job."""
        if reply.status == HTTPStatus.NOT_FOUND and "job" in reply.detail.lower():
            raise UnknownJob(url=self._http.url, job_id=job_id)
        if reply.status >= HTTPStatus.BAD_REQUEST or not isinstance(reply.json, dict):
            found = f"HTTP {reply.status} {reply.detail}" if isinstance(reply.json, dict) else "other JSON"
            raise self._http.misbehaved(call, expected="the job", found=found)
        return reply.json
