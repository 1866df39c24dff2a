"""A job is submitted once, whatever happens to the answers; nothing the scheduler says is believed unseen."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.serve import running_emulator
from robot_bridge.autoeval.errors import (
    JobInvalid,
    JobRejected,
    RobotOffline,
    SchedulerMisbehaved,
    SchedulerUnreachable,
    UnknownJob,
)
from robot_bridge.autoeval.scheduler import (
    JobRequest,
    Patience,
    SchedulerClient,
    description_of,
)
from tests.robot_bridge.autoeval.fake_scheduler import IGNORE, LOSE_ANSWER, FakeScheduler, Raw, running

JOB_ID = "6b1f9f4e-8d7e-4a75-9a55-0a6d6f3d2c11"
DIGEST = "sha256:" + "0123456789abcdef" * 4
CAPABILITY = "f00dfeedf00dfeedf00dfeedf00dfeed"
ME = "gymnastd_0a1b2c"
TUNNEL_PAGE = Raw(404, b"<html>ERR_NGROK_3200 endpoint is offline</html>", "text/html")


def a_request(**changes: Any) -> JobRequest:
    fields = {
        "description": description_of(JOB_ID, DIGEST),
        "robot": "widowx_drawer",
        "task": "open_drawer",
        "policy_server_ip": f"https://gateway.example/j/{CAPABILITY}",
        "policy_server_port": -1,
        "num_episodes": 10,
        "max_steps": 70,
        "submitter_id": ME,
        "policy_name": "gymnastd",
    }
    return JobRequest(**{**fields, **changes})


@pytest.fixture
def fake() -> Iterator[FakeScheduler]:
    with running(FakeScheduler()) as scheduler:
        yield scheduler


def a_client(fake: FakeScheduler, *, pauses: list[float] | None = None) -> SchedulerClient:
    noted: list[float] = [] if pauses is None else pauses
    return SchedulerClient(fake.url, submitter_id=ME, patience=Patience(call_s=10.0, pause=noted.append))


# -- submitting ---------------------------------------------------------------------------------------------


def test_a_job_goes_out_once_with_its_token_and_comes_back_with_its_id(fake: FakeScheduler) -> None:
    job_id = a_client(fake).submit(a_request())
    (job,) = fake.jobs
    assert job["id"] == job_id
    assert job["description"] == f"dyna:{JOB_ID}:0123456789ab"
    assert (job["num_episodes"], job["max_steps"], job["policy_server_port"]) == (10, 70, -1)


def test_an_answer_that_was_lost_is_looked_for_and_nothing_is_posted_twice(fake: FakeScheduler) -> None:
    fake.faults["POST /jobs/"] = [LOSE_ANSWER]
    pauses: list[float] = []
    assert a_client(fake, pauses=pauses).submit(a_request()) == fake.jobs[0]["id"]
    assert (fake.posts(), len(fake.jobs)) == (1, 1)
    assert pauses == [0.5]


@pytest.mark.parametrize(
    "fault", [IGNORE, Raw(502, b"<html>bad gateway</html>", "text/html"), TUNNEL_PAGE, Raw(429, b"{}")]
)
def test_a_post_that_never_arrived_is_made_again(fake: FakeScheduler, fault: object) -> None:
    fake.faults["POST /jobs/"] = [fault]
    assert a_client(fake).submit(a_request()) == fake.jobs[0]["id"]
    assert (fake.posts(), len(fake.jobs)) == (2, 1)


def test_a_last_try_that_was_lost_is_still_looked_for(fake: FakeScheduler) -> None:
    fake.faults["POST /jobs/"] = [IGNORE, IGNORE, LOSE_ANSWER]
    assert a_client(fake).submit(a_request()) == fake.jobs[0]["id"]
    assert (fake.posts(), len(fake.jobs)) == (3, 1)


def test_a_scheduler_that_answers_no_post_is_unreachable_and_asking_again_later_is_safe(
    fake: FakeScheduler,
) -> None:
    fake.faults["POST /jobs/"] = [IGNORE] * 3
    with pytest.raises(SchedulerUnreachable, match=r"POST /jobs/ within 3 tries") as caught:
        a_client(fake).submit(a_request())
    assert caught.value.retryable
    assert fake.jobs == []


def test_a_daemon_that_died_after_posting_finds_its_job_instead_of_posting_again(fake: FakeScheduler) -> None:
    first = a_client(fake).submit(a_request())
    assert a_client(fake).submit(a_request()) == first
    assert fake.posts() == 1


def test_no_post_is_made_while_the_list_cannot_be_read(fake: FakeScheduler) -> None:
    fake.faults["GET /jobs/"] = [IGNORE] * 3
    with pytest.raises(SchedulerUnreachable, match="GET /jobs/"):
        a_client(fake).submit(a_request())
    assert fake.posts() == 0


@pytest.mark.parametrize(
    "copied",
    [
        {"submitter_id": "user_other"},
        {"submitter_id": ME, "policy_server_ip": "https://evil.example"},
        {"submitter_id": ME, "robot": "widowx_sink"},
    ],
    ids="-".join,
)
def test_somebody_who_copies_our_public_description_does_not_become_our_job(
    fake: FakeScheduler, copied: dict[str, str]
) -> None:
    request = a_request()
    fields = {"description": request.description, "policy_server_ip": request.policy_server_ip, **copied}
    fake.add(policy_server_port=-1, **fields)
    job_id = a_client(fake).submit(request)
    assert job_id == "job-1"
    assert fake.posts() == 1


def test_a_job_of_ours_is_found_behind_pages_of_others(fake: FakeScheduler) -> None:
    wanted = fake.add(description="dyna:ours", submitter_id="user_other", submitted_at=1.0)
    for _ in range(120):
        fake.add()
    client = SchedulerClient(fake.url, patience=Patience(pause=lambda _: None))
    found = client.find("dyna:ours")
    assert found is not None
    assert found.job_id == wanted["id"]
    assert client.find("dyna:another") is None
    assert fake.calls.count("GET /jobs/") == 6


def test_of_two_jobs_with_one_description_the_first_counts_and_it_is_logged(
    fake: FakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    for at in (30.0, 10.0, 20.0):
        fake.add(description="dyna:twice", submitter_id=ME, submitted_at=at)
    with caplog.at_level(logging.WARNING):
        found = a_client(fake).find("dyna:twice")
    assert found is not None
    assert found.job_id == "job-1"
    assert "jobs share a description description=dyna:twice" in caplog.text


def test_a_robot_that_is_offline_is_worth_asking_again(fake: FakeScheduler) -> None:
    fake.robots = [{"robot": "widowx_drawer", "is_online": False, "offline_message": "arm\x1b[31m broken"}]
    with pytest.raises(
        RobotOffline, match=r"robot widowx_drawer takes no jobs .* arm \[31m broken"
    ) as caught:
        a_client(fake).submit(a_request())
    assert caught.value.retryable
    assert fake.posts() == 1


@pytest.mark.parametrize("status", [401, 403, 404, 422])
def test_a_refusal_is_final_and_says_why(fake: FakeScheduler, status: int) -> None:
    fake.faults["POST /jobs/"] = [Raw(status, json.dumps({"detail": [{"loc": ["body", "task"]}]}).encode())]
    with pytest.raises(JobRejected, match=f"HTTP {status}.*task") as caught:
        a_client(fake).submit(a_request())
    assert not caught.value.retryable
    assert fake.posts() == 1


@pytest.mark.parametrize("answer", [b"[]", b'{"job_id": 7}', b'{"job_id": "../admin"}', b"{}", b"null"])
def test_an_acceptance_without_a_usable_id_is_misbehaviour(fake: FakeScheduler, answer: bytes) -> None:
    fake.faults["POST /jobs/"] = [Raw(200, answer)]
    with pytest.raises(SchedulerMisbehaved, match="expected a job id"):
        a_client(fake).submit(a_request())


@pytest.mark.parametrize(
    ("changes", "thing"),
    [
        ({"num_episodes": 0}, "num_episodes"),
        ({"num_episodes": 51}, "num_episodes"),
        ({"max_steps": 0}, "max_steps"),
        ({"description": ""}, "description"),
        ({"description": "x" * 201}, "description"),
        ({"description": "two\nlines"}, "description"),
        ({"description": f"dyna:{CAPABILITY}:x"}, "description"),
    ],
)
def test_a_request_that_would_be_refused_or_give_a_secret_away_is_never_made(
    changes: dict[str, Any], thing: str
) -> None:
    with pytest.raises(JobInvalid, match=thing) as caught:
        a_request(**changes)
    assert CAPABILITY not in str(caught.value)


def test_the_token_names_job_and_policy_and_stays_short() -> None:
    assert description_of(JOB_ID, None) == f"dyna:{JOB_ID}:none"
    assert len(description_of(JOB_ID, DIGEST)) < 80


# -- following ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["queued", "evaluating", "completed", "failed", "cancelled"])
def test_the_states_of_a_job_are_known(fake: FakeScheduler, status: str) -> None:
    fake.add(status=status)
    assert a_client(fake).status("job-0") == status


@pytest.mark.parametrize("status", ["running", "", None, 3, ["queued"], {"a": 1}])
def test_a_state_that_autoeval_does_not_have_is_misbehaviour(fake: FakeScheduler, status: object) -> None:
    fake.add(status=status)
    with pytest.raises(SchedulerMisbehaved, match="a status of queued, evaluating"):
        a_client(fake).status("job-0")


def test_a_job_that_the_scheduler_forgot_is_unknown(fake: FakeScheduler) -> None:
    for ask in (a_client(fake).status, a_client(fake).output, a_client(fake).row):
        with pytest.raises(UnknownJob, match="no job job-9"):
            ask("job-9")


def test_a_tunnel_that_is_down_does_not_make_a_job_unknown(fake: FakeScheduler) -> None:
    """Else a night without the scheduler would look like a lost job."""
    fake.add()
    fake.faults["GET /jobs/job-0"] = [TUNNEL_PAGE] * 3
    with pytest.raises(SchedulerUnreachable, match="HTTP 404 that is no JSON"):
        a_client(fake).status("job-0")
    fake.faults["GET /jobs/job-0"] = [Raw(404, b'{"detail": "Not Found"}')]
    with pytest.raises(SchedulerMisbehaved, match="HTTP 404 Not Found"):
        a_client(fake).status("job-0")


def test_a_lost_answer_to_a_question_is_asked_for_again(fake: FakeScheduler) -> None:
    fake.add(status="evaluating")
    fake.faults["GET /jobs/job-0"] = [LOSE_ANSWER, Raw(503, b"")]
    pauses: list[float] = []
    assert a_client(fake, pauses=pauses).status("job-0") == "evaluating"
    assert pauses == [0.5, 1.0]


def test_a_row_tells_what_became_of_the_job(fake: FakeScheduler) -> None:
    fake.add(
        submitter_id=ME,
        description="dyna:x",
        status="completed",
        success_rate=0.7,
        wandb_url="https://wandb.ai/run",
    )
    row = a_client(fake).row("job-0")
    assert (row.status, row.is_over, row.success_rate) == ("completed", True, 0.7)
    assert (row.num_episodes, row.max_steps, row.submitted_at) == (10, 70, 1_000.0)
    assert row.wandb_url == "https://wandb.ai/run"


@pytest.mark.parametrize("rate", [1.5, -0.1, "0.5", True, [0.5]])
def test_a_success_rate_that_is_no_share_is_misbehaviour(fake: FakeScheduler, rate: object) -> None:
    fake.add(submitter_id=ME, success_rate=rate)
    with pytest.raises(SchedulerMisbehaved, match="a success rate from 0 to 1"):
        a_client(fake).row("job-0")


def test_a_success_rate_that_is_not_a_number_is_misbehaviour(fake: FakeScheduler) -> None:
    job = fake.add(submitter_id=ME)
    page = json.dumps({"jobs": [{**job, "success_rate": float("nan")}]}).encode()
    fake.faults["GET /jobs/"] = [Raw(200, page)]
    with pytest.raises(SchedulerMisbehaved, match="a success rate from 0 to 1"):
        a_client(fake).row("job-0")


def test_texts_are_cut_made_printable_and_links_are_only_shown_when_they_are_links(
    fake: FakeScheduler,
) -> None:
    fake.add(
        submitter_id=ME,
        description="d" * 9_000,
        robot="a\x00\x1b]0;title\x07",
        task=7,
        wandb_url="javascript:alert(1)",
        num_episodes="many",
        max_steps=-1,
        submitted_at=5.0,
    )
    row = a_client(fake).row("job-0")
    assert len(row.description) == 500
    assert (row.robot, row.task, row.wandb_url) == ("a  ]0;title ", "", "")
    assert (row.num_episodes, row.max_steps) == (None, None)


def test_only_the_end_of_a_log_is_kept_and_no_escape_codes(fake: FakeScheduler) -> None:
    fake.add(tmux_output="x" * 100_000 + "\x1b[2J\nlast line")
    text = a_client(fake).output("job-0")
    assert len(text) == 64 * 1024
    assert text.endswith(" [2J\nlast line")


def test_a_log_that_is_no_text_is_misbehaviour(fake: FakeScheduler) -> None:
    fake.add(tmux_output=["a"])
    with pytest.raises(SchedulerMisbehaved, match="text"):
        a_client(fake).output("job-0")


def test_robots_say_whether_they_take_jobs(fake: FakeScheduler) -> None:
    fake.robots.append({"robot": "widowx_sink", "is_online": False, "offline_message": "until Monday"})
    found = a_client(fake).robots()
    assert found["widowx_drawer"].is_online
    assert (found["widowx_sink"].is_online, found["widowx_sink"].message) == (False, "until Monday")


@pytest.mark.parametrize("robots", [{}, None, [1], [{"robot": 3, "is_online": True}], [{"robot": "a"}]])
def test_a_list_of_robots_that_is_none_is_misbehaviour(fake: FakeScheduler, robots: object) -> None:
    fake.robots = robots
    with pytest.raises(SchedulerMisbehaved):
        a_client(fake).robots()


def test_the_live_view_says_when_a_human_is_waited_for(fake: FakeScheduler) -> None:
    found = a_client(fake).live(0)
    assert (found.instruction, found.episode, found.timestep) == ("open the drawer", 2, 31)
    assert not found.waiting_for_human
    fake.live = {"waiting_for_human": True, "episode": "x", "timestep": -3}
    found = a_client(fake).live(0)
    assert (found.instruction, found.episode, found.timestep) == ("", 0, 0)
    assert found.waiting_for_human
    fake.live = []
    with pytest.raises(SchedulerMisbehaved, match="a status"):
        a_client(fake).live(0)


# -- cancelling ---------------------------------------------------------------------------------------------


def test_a_job_of_ours_is_cancelled(fake: FakeScheduler) -> None:
    fake.add(submitter_id=ME, status="evaluating")
    assert a_client(fake).cancel("job-0", ME) == "cancelled"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_job_that_is_over_stays_as_it_is(fake: FakeScheduler, status: str) -> None:
    fake.add(submitter_id=ME, status=status)
    assert a_client(fake).cancel("job-0", ME) == status


def test_a_job_of_somebody_else_is_not_ours_to_cancel(fake: FakeScheduler) -> None:
    fake.add()
    with pytest.raises(JobRejected, match="only cancel jobs that you submitted"):
        a_client(fake).cancel("job-0", ME)
    assert fake.jobs[0]["status"] == "queued"


def test_a_cancel_whose_answer_was_lost_is_checked_and_not_repeated(fake: FakeScheduler) -> None:
    fake.add(submitter_id=ME)
    fake.faults["POST /jobs/job-0/cancel"] = [LOSE_ANSWER]
    assert a_client(fake).cancel("job-0", ME) == "cancelled"
    assert fake.calls.count("POST /jobs/job-0/cancel") == 1


def test_a_cancel_that_never_arrived_is_told(fake: FakeScheduler) -> None:
    fake.add(submitter_id=ME)
    fake.faults["POST /jobs/job-0/cancel"] = [IGNORE]
    with pytest.raises(SchedulerUnreachable, match="the job is still queued"):
        a_client(fake).cancel("job-0", ME)


def test_cancelling_an_unknown_job_says_so(fake: FakeScheduler) -> None:
    with pytest.raises(UnknownJob):
        a_client(fake).cancel("job-7", ME)


# -- what is not believed -----------------------------------------------------------------------------------


def test_a_redirect_is_not_followed(fake: FakeScheduler) -> None:
    with running(FakeScheduler()) as elsewhere:
        fake.faults["GET /robot_status/"] = [Raw(302, b"", location=f"{elsewhere.url}/robot_status/")]
        with pytest.raises(SchedulerMisbehaved, match=r"a redirect \(HTTP 302\)"):
            a_client(fake).robots()
        assert elsewhere.calls == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "0 other bytes"),
        (b"<html></html>", "13 other bytes"),
        (b'"' + b"x" * (8 * 1024 * 1024) + b'"', "more"),
        (b"[" * 100_000, "100000 other bytes"),
        (b"\xff\xfe", "2 other bytes"),
    ],
    ids=["empty", "html", "huge", "deep", "no utf-8"],
)
def test_an_answer_that_is_not_json_of_a_bounded_size_is_misbehaviour(
    fake: FakeScheduler, body: bytes, found: str
) -> None:
    fake.faults["GET /jobs/"] = [Raw(200, body)]
    with pytest.raises(SchedulerMisbehaved, match=found):
        a_client(fake).find("anything")


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"jobs": {}}', b"7"])
def test_a_page_that_is_none_is_misbehaviour(fake: FakeScheduler, body: bytes) -> None:
    fake.faults["GET /jobs/"] = [Raw(200, body)]
    with pytest.raises(SchedulerMisbehaved, match="pages of jobs"):
        a_client(fake).find("anything")


def test_a_list_without_end_is_not_read_for_ever(fake: FakeScheduler) -> None:
    full = Raw(200, json.dumps({"jobs": [{"description": "another"}] * 50}).encode())
    fake.faults["GET /jobs/"] = [full] * 100
    assert a_client(fake).find("mine") is None
    assert len(fake.calls) == 40


def test_rows_of_others_may_be_any_nonsense(fake: FakeScheduler) -> None:
    fake.add(status="?", description=None, submitter_id=ME)
    fake.add(description="dyna:mine", submitter_id=ME)
    assert a_client(fake).find("dyna:mine") is not None


@pytest.mark.parametrize("job_id", ["", "../jobs", "a/b", "x" * 65, "a?b", "a b"])
def test_an_id_that_is_none_never_becomes_part_of_a_path(fake: FakeScheduler, job_id: str) -> None:
    for ask in (a_client(fake).status, a_client(fake).output, lambda name: a_client(fake).cancel(name, ME)):
        with pytest.raises(SchedulerMisbehaved):
            ask(job_id)
    assert fake.calls == []


def test_an_answer_that_trickles_in_is_given_up_after_its_deadline(fake: FakeScheduler) -> None:
    fake.faults["GET /robot_status/"] = [Raw(200, b"[]" + b" " * 200_000)] * 2
    seconds = itertools.count(0.0, 6.0)  # six seconds pass between two looks at the clock
    patience = Patience(call_s=10.0, tries=2, pause=lambda _: None, clock=lambda: next(seconds))
    with pytest.raises(SchedulerUnreachable, match=r"within 2 tries: not whole after 10.0 s"):
        SchedulerClient(fake.url, patience=patience).robots()
    assert len(fake.calls) == 2


def test_nothing_of_this_machine_is_sent_along(
    fake: FakeScheduler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody listens there
    session = requests.Session()
    client = SchedulerClient(fake.url, session=session, patience=Patience(pause=lambda _: None))
    assert client.robots()
    assert session.trust_env is False


def test_a_login_in_the_address_is_not_told_in_errors() -> None:
    client = SchedulerClient("http://me:secret@127.0.0.1:9", patience=Patience(tries=1))
    with pytest.raises(SchedulerUnreachable, match=r"scheduler http://127\.0\.0\.1:9 did") as caught:
        client.robots()
    assert "secret" not in str(caught.value)


# -- the emulator speaks the same ---------------------------------------------------------------------------


def test_a_job_goes_through_the_emulators_queue(tmp_path: Path) -> None:
    with running_emulator(tmp_path, quirks=Quirks(poll_s=60.0), build=_no_cell) as url:
        client = SchedulerClient(url, submitter_id=ME, patience=Patience(pause=lambda _: None))
        assert set(client.robots()) == {"widowx_drawer", "widowx_sink"}
        job_id = client.submit(a_request())
        assert client.submit(a_request()) == job_id
        found = client.find(a_request().description)
        assert found is not None
        assert (found.job_id, client.row(job_id)) == (job_id, found)
        assert client.status(job_id) in {"queued", "evaluating", "failed"}
        assert client.cancel(job_id, ME) in {"cancelled", "failed"}
        assert client.output(job_id)
        assert not client.live(0).waiting_for_human
        with pytest.raises(UnknownJob):
            client.status("00000000-0000-4000-8000-000000000000")


def _no_cell() -> Any:
    raise RuntimeError("this job is cancelled before it needs a cell")
