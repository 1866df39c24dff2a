"""The job API's calls, with what AutoEval checks and what it does not."""

from __future__ import annotations

import pytest

from tests.robot_bridge.autoeval.emulator.conftest import until
from tests.robot_bridge.autoeval.emulator.toy_policy import SILENCE


def cancel(emulated, job_id, submitter="user_toy"):
    return emulated.post(f"/jobs/{job_id}/cancel", params={"submitter_id": submitter} if submitter else {})


@pytest.fixture
def busy(emulate, policy):
    """An emulator whose drawer robot hangs in a job; gives it and the id of a job that waits behind."""
    policy.act = SILENCE
    emulated = emulate()
    running = emulated.submit(id="0", description="running")
    policy.wait_for(2)
    return emulated, running, emulated.submit(id="1", description="waiting")


def test_a_submission_is_answered_with_its_id(emulate):
    emulated = emulate()
    answer = emulated.post(
        "/jobs/",
        json={
            "description": "dyna:1",
            "robot": "widowx_drawer",
            "task": "open_drawer",
            "policy_server_ip": "127.0.0.1",
            "policy_server_port": 1,
            "something": {"else": 1},
        },
    )
    assert answer.json()["status"] == "Job submitted and queued"
    row = emulated.row(answer.json()["job_id"])
    assert (row["num_episodes"], row["max_steps"], row["submitter_id"]) == (50, 70, None)


@pytest.mark.parametrize(
    "missing", ["description", "robot", "task", "policy_server_ip", "policy_server_port"]
)
def test_a_submission_without_a_needed_field_is_refused(emulate, missing):
    emulated = emulate()
    job = {
        "description": "x",
        "robot": "widowx_drawer",
        "task": "open_drawer",
        "policy_server_ip": "h",
        "policy_server_port": 1,
    }
    del job[missing]
    assert emulated.post("/jobs/", json=job).status_code == 422
    assert emulated.get("/jobs/").json()["jobs"] == []


def test_an_id_that_is_taken_is_an_error_of_the_server(emulate):
    emulated = emulate()
    emulated.submit(id="same")
    answer = emulated.post("/jobs/", json=job_named("same"))
    assert answer.status_code == 500


def job_named(job_id):
    return {
        "id": job_id,
        "description": "x",
        "robot": "widowx_drawer",
        "task": "open_drawer",
        "policy_server_ip": "127.0.0.1",
        "policy_server_port": 1,
    }


def test_a_robot_that_is_offline_takes_no_jobs(emulate):
    emulated = emulate()
    emulated.post("/robot_status/widowx_drawer/offline", params={"message": "belt"}, headers=emulated.key())
    answer = emulated.post("/jobs/", json=job_named("x"))
    assert (answer.status_code, answer.json()) == (400, {"detail": "belt"})
    emulated.post("/robot_status/widowx_drawer/online", headers=emulated.key())
    assert emulated.post("/jobs/", json=job_named("x")).status_code == 200


def test_the_status_of_a_job_is_its_id_and_status_and_nothing_else(busy):
    emulated, running, waiting = busy
    assert emulated.get(f"/jobs/{running}").json() == {"job_id": running, "status": "evaluating"}
    assert emulated.get(f"/jobs/{waiting}").json() == {"job_id": waiting, "status": "queued"}
    assert emulated.get("/jobs/nowhere").status_code == 404


def test_everybody_sees_everybodys_jobs_with_address_and_submitter(busy):
    emulated, running, waiting = busy
    jobs = emulated.get("/jobs/").json()["jobs"]
    assert [job["id"] for job in jobs] == [waiting, running]
    assert {job["submitter_id"] for job in jobs} == {"user_toy"}
    assert {job["policy_server_port"] for job in jobs} == {emulated.policy.port}
    assert set(jobs[0]) >= {"success_rate", "wandb_url", "tmux_output", "policy_server_ip", "description"}


def test_own_jobs_are_those_of_a_submitter(busy):
    emulated, _, _ = busy
    mine = emulated.submit(submitter_id="me", id="2")
    own = emulated.get("/jobs/", submitter_id="me", own_only=True).json()
    assert [job["id"] for job in own["jobs"]] == [mine]
    assert own["pagination"]["total_jobs"] == 1
    everybody = emulated.get("/jobs/", submitter_id="me").json()
    assert everybody["pagination"]["total_jobs"] == 3


def test_a_list_comes_in_pages(busy):
    emulated, running, waiting = busy
    first = emulated.get("/jobs/", page=1, limit=1).json()
    assert [job["id"] for job in first["jobs"]] == [waiting]
    assert first["pagination"] == {
        "current_page": 1,
        "total_pages": 2,
        "total_jobs": 2,
        "limit": 1,
        "has_next": True,
        "has_prev": False,
    }
    second = emulated.get("/jobs/", page=2, limit=1).json()
    assert [job["id"] for job in second["jobs"]] == [running]
    assert (second["pagination"]["has_next"], second["pagination"]["has_prev"]) == (False, True)
    assert emulated.get("/jobs/", page=3, limit=1).json()["jobs"] == []


def test_a_log_is_there_only_once_the_job_has_ended(busy):
    emulated, running, _ = busy
    assert emulated.get(f"/jobs/{running}/output").json() == {"output": "No output available"}
    assert emulated.get("/jobs/nowhere/output").status_code == 404


def test_the_log_of_a_finished_job_can_be_read(emulate):
    emulated = emulate()
    job_id = emulated.submit()
    emulated.ended(job_id)
    assert "Eval data saved to" in emulated.get(f"/jobs/{job_id}/output").json()["output"]


def test_a_cancelled_job_is_cut_off_and_its_log_is_lost(busy):
    emulated, running, waiting = busy
    answer = cancel(emulated, running)
    assert answer.json() == {
        "status": "success",
        "message": "Job cancelled successfully, evaluation tmux session killed",
        "job_status": "cancelled",
    }
    assert emulated.policy.gone.wait(timeout=20)  # the connection to the policy ended in the middle
    until(lambda: emulated.status(waiting) == "evaluating")  # the robot is free again
    row = emulated.row(running)
    assert (row["status"], row["tmux_output"], row["success_rate"]) == ("cancelled", None, None)
    assert emulated.get(f"/jobs/{running}/output").json() == {"output": "No output available"}


def test_a_job_that_waits_is_cancelled_without_ever_running(busy):
    emulated, running, waiting = busy
    assert cancel(emulated, waiting).json()["message"] == "Job cancelled successfully"
    cancel(emulated, running)
    later = emulated.submit(id="9")
    until(lambda: emulated.status(later) == "evaluating")
    assert emulated.row(waiting)["executed_at"] is None


@pytest.mark.parametrize(("submitter", "status"), [(None, 400), ("", 400), ("user_other", 403)])
def test_only_who_submitted_a_job_cancels_it(busy, submitter, status):
    emulated, running, _ = busy
    assert cancel(emulated, running, submitter).status_code == status
    assert emulated.status(running) == "evaluating"


def test_a_job_is_cancelled_once_and_only_before_it_ends(busy):
    emulated, running, _ = busy
    cancel(emulated, running)
    again = cancel(emulated, running)
    assert (again.status_code, again.json()["detail"]) == (400, "Job is already cancelled")
    assert cancel(emulated, "nowhere").status_code == 404


def test_a_finished_job_is_not_cancelled(emulate):
    emulated = emulate()
    job_id = emulated.submit()
    emulated.ended(job_id)
    answer = cancel(emulated, job_id)
    assert (answer.status_code, answer.json()["detail"]) == (400, "Cannot cancel job with status completed")


def test_an_admin_cancels_anybodys_job(busy):
    emulated, running, waiting = busy
    url = f"/admin/jobs/{running}/cancel"
    assert emulated.post(url).status_code == 401
    assert emulated.post(url, headers={"X-API-Key": "guess"}).status_code == 403
    assert emulated.status(running) == "evaluating"
    assert emulated.post(url, headers=emulated.key()).json()["job_status"] == "cancelled"
    until(lambda: emulated.status(waiting) == "evaluating")


def test_a_policy_server_can_be_tested_before_a_submission(emulate, policy):
    emulated = emulate()
    good = emulated.post(
        "/test_policy_server/", json={"policy_server_ip": "127.0.0.1", "policy_server_port": policy.port}
    )
    assert (good.status_code, good.json()["shape"]) == (200, "(7,)")
    assert policy.endpoints() == ["/act"]
    bad = emulated.post(
        "/test_policy_server/", json={"policy_server_ip": "127.0.0.1", "policy_server_port": 1}
    )
    assert (bad.status_code, bad.json()["error_type"]) == (400, "port_closed")
