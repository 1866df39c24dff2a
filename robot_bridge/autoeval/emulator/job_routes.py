"""AutoEval's job API: submit, poll, list, read the log, cancel, test a policy server.

Nothing checks who asks. A submitted row is stored as it comes: more fields than needed, an id and a status of
the client's own are taken, and a robot that does not exist gets a queue.

Source: job_scheduler.py of AutoEval at 3ea3ff4.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from robot_bridge.autoeval.emulator.connection_check import check_connection
from robot_bridge.autoeval.emulator.jobs import CANCELLED, EVALUATING, QUEUED, JobBook
from robot_bridge.autoeval.emulator.scheduler import Scheduler

OFFLINE: Final = "This robot is currently offline and not accepting jobs."
KeyCheck = Callable[[Request], None]


class SubmittedJob(BaseModel):
    """What a submission must have; everything else in it is kept or ignored by the table."""

    model_config = ConfigDict(extra="allow")

    description: str
    robot: str
    task: str
    policy_server_ip: str
    policy_server_port: int


class PolicyServerAddress(BaseModel):
    policy_server_ip: str
    policy_server_port: int


def job_routes(book: JobBook, scheduler: Scheduler, *, admin: KeyCheck) -> APIRouter:
    """The routes under /jobs/, /admin/ and /test_policy_server/; `admin` refuses those without the key."""
    router = APIRouter()
    _add_submission(router, book)
    _add_reading(router, book)

    @router.post("/jobs/{job_id}/cancel")
    def cancel_job(job_id: str, submitter_id: str | None = None) -> dict[str, Any]:
        if not submitter_id:
            raise HTTPException(400, "Submitter ID is required")
        if _existing(book, job_id)["submitter_id"] != submitter_id:
            raise HTTPException(403, "You can only cancel jobs that you submitted")
        return _cancel(book, scheduler, job_id)

    @router.post("/admin/jobs/{job_id}/cancel", dependencies=[Depends(admin)])
    def admin_cancel_job(job_id: str) -> dict[str, Any]:
        return _cancel(book, scheduler, job_id)

    return router


def _add_submission(router: APIRouter, book: JobBook) -> None:
    @router.post("/test_policy_server/")
    def test_policy_server(address: PolicyServerAddress) -> JSONResponse:
        answer = check_connection(address.policy_server_ip, address.policy_server_port)
        return JSONResponse(answer.body, status_code=answer.status)

    @router.post("/jobs/")
    def submit_job(job: SubmittedJob) -> dict[str, Any]:
        robot = book.robot(job.robot)
        if robot is not None and not robot["is_online"]:
            raise HTTPException(400, robot["offline_message"] or OFFLINE)
        return {"job_id": book.add(job.model_dump()), "status": "Job submitted and queued"}


def _add_reading(router: APIRouter, book: JobBook) -> None:
    @router.get("/jobs/{job_id}/output")
    def get_job_output(job_id: str) -> dict[str, Any]:
        return {"output": _existing(book, job_id)["tmux_output"] or "No output available"}

    @router.get("/jobs/{job_id}")
    def get_job_status(job_id: str) -> dict[str, Any]:
        return {"job_id": job_id, "status": _existing(book, job_id)["status"]}

    @router.get("/jobs/")
    def get_jobs(
        page: int = 1, limit: int = 50, submitter_id: str | None = None, own_only: bool = False
    ) -> dict[str, Any]:
        owner = submitter_id if own_only else None
        jobs, total = book.page(page=page, limit=limit, submitter_id=owner)
        pages = (total + limit - 1) // limit if limit > 0 else 0
        return {
            "jobs": jobs,
            "pagination": {
                "current_page": page,
                "total_pages": pages,
                "total_jobs": total,
                "limit": limit,
                "has_next": page < pages,
                "has_prev": page > 1,
            },
        }


def _cancel(book: JobBook, scheduler: Scheduler, job_id: str) -> dict[str, Any]:
    """The row is changed first, so that the killed job writes neither result nor log into it."""
    status = _existing(book, job_id)["status"]
    if status == CANCELLED:
        raise HTTPException(400, "Job is already cancelled")
    if status not in {QUEUED, EVALUATING}:
        raise HTTPException(400, f"Cannot cancel job with status {status}")
    book.change(job_id, status=CANCELLED, completed_at=time.time())
    book.unqueue(job_id)
    killed = scheduler.kill(job_id)
    message = "Job cancelled successfully" + (", evaluation tmux session killed" if killed else "")
    return {"status": "success", "message": message, "job_status": CANCELLED}


def _existing(book: JobBook, job_id: str) -> dict[str, Any]:
    job = book.get(job_id)
    if job is None:
        raise HTTPException(404, "Job not found")
    return job
