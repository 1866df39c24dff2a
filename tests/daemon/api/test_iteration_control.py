import pytest

from daemon.iteration import find_iteration
from storage import audit, iterations, phase_runs

URL = "/v1/iterations"
ACTS = ("pause", "resume", "cancel", "retry", "skip")


def ask(client, **spec):
    return client.post(URL, json=spec).json()["number"]


def steer(client, act, number=1, *, key=None, body=None):
    if act == "skip" and body is None:
        body = {"phase": "collect"}
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(f"{URL}/{number}/{act}", json=body, headers=headers)


def acts_on(database, number=1):
    with database.read() as session:
        events = audit.read(session, subject=f"iteration {number}")
    return [
        (event.action, event.facts) for event in reversed(events) if event.action != "iteration_requested"
    ]


def fail_the_iteration(database, now, number=1):
    with database.write() as session:
        row = find_iteration(session, number)
        iterations.fail(session, row, error_code="rain", message="it rains", now=now)


def test_a_paused_iteration_says_so_and_goes_on_when_it_is_resumed(client):
    ask(client)
    assert steer(client, "pause").json()["state"] == "paused"
    assert client.get(f"{URL}/1").json()["state"] == "paused"
    answer = steer(client, "resume")
    assert answer.status_code == 200
    assert answer.json()["state"] in {"requested", "running"}


def test_a_pause_in_mid_phase_is_a_wish_until_the_worker_has_stopped(client, claim_phase):
    ask(client)
    claim_phase()
    record = steer(client, "pause").json()
    assert (record["state"], record["wish"]) == ("running", "pause")
    assert client.get(URL).json()["items"][0]["wish"] == "pause"
    assert steer(client, "resume").json()["wish"] is None


def test_a_cancelled_iteration_is_over_and_so_is_its_phase(client, claim_phase):
    ask(client)
    claim_phase()
    record = steer(client, "cancel").json()
    assert record["state"] == "cancelled"
    assert [run["state"] for run in record["phases"]] == ["abandoned"]


def test_a_failed_iteration_is_tried_again(client, database, now):
    ask(client)
    fail_the_iteration(database, now)
    record = steer(client, "retry").json()
    assert record["state"] in {"requested", "running"}
    assert record["error"] is None


def test_a_phase_is_skipped_by_name(client):
    ask(client)
    answer = steer(client, "skip", body={"phase": "update_policy"})
    assert answer.status_code == 200
    skipped = [run for run in answer.json()["phases"] if run["phase"] == "update_policy"]
    assert [run["state"] for run in skipped] == ["skipped"]


@pytest.mark.parametrize(
    "body", [{}, {"phase": "rest"}, {"phase": None}, {"phase": "collect", "why": "rain"}, [], "collect"]
)
def test_a_phase_that_there_is_not_is_refused_and_nothing_is_skipped(client, database, body):
    ask(client)
    answer = steer(client, "skip", body=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert acts_on(database) == []


@pytest.mark.parametrize("act", [act for act in ACTS if act != "cancel"])
def test_what_the_state_does_not_allow_is_a_409_and_is_not_noted(client, database, act):
    ask(client)
    steer(client, "cancel")
    answer = steer(client, act)
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal_move")
    assert [action for action, _ in acts_on(database)] == ["iteration_cancelled"]


@pytest.mark.parametrize("act", ACTS)
def test_an_iteration_that_there_is_not_cannot_be_steered(client, act):
    answer = steer(client, act, 7)
    assert (answer.status_code, answer.json()["code"]) == (404, "page_not_found")


@pytest.mark.parametrize("act", ["pause", "resume", "cancel", "skip"])
def test_asking_twice_is_the_same_as_asking_once(client, act):
    ask(client)
    first, second = steer(client, act), steer(client, act)
    assert (first.status_code, second.status_code) == (200, 200)
    skipped = [
        [run["phase"] for run in answer.json()["phases"] if run["state"] == "skipped"]
        for answer in (first, second)
    ]
    assert skipped[0] == skipped[1] == (["collect"] if act == "skip" else [])


def test_the_same_key_does_an_act_once_however_late_it_comes_again(client):
    ask(client)
    steer(client, "pause", key="one")
    steer(client, "resume", key="two")
    steer(client, "pause", key="three")
    assert steer(client, "resume", key="two").json()["state"] == "paused"
    assert steer(client, "resume", key="four").json()["state"] in {"requested", "running"}


def test_a_retry_that_is_sent_again_under_its_key_does_not_try_a_third_time(client, database, now):
    ask(client)
    fail_the_iteration(database, now)
    steer(client, "retry", key="one")
    fail_the_iteration(database, now)
    assert steer(client, "retry", key="one").json()["state"] == "failed"
    assert steer(client, "retry").json()["state"] in {"requested", "running"}


def test_a_key_belongs_to_one_act_on_one_iteration(client):
    ask(client, seed=1), ask(client, seed=2)
    assert steer(client, "pause", key="k").json()["state"] == "paused"
    assert steer(client, "pause", 2, key="k").json()["state"] == "paused"
    assert steer(client, "cancel", key="k").json()["state"] == "cancelled"


def test_every_act_is_noted_with_what_it_changed(client, database):
    ask(client)
    steer(client, "pause", key="k")
    steer(client, "skip")
    steer(client, "cancel")
    noted = acts_on(database)
    assert [action for action, _ in noted] == [
        "iteration_paused",
        "iteration_skipped_collect",
        "iteration_cancelled",
    ]
    assert (noted[0][1]["to"], noted[0][1]["idempotency_key"]) == ("paused", "k")
    assert (noted[2][1]["from"], noted[2][1]["to"]) == ("paused", "cancelled")


def test_an_iteration_of_chosen_phases_ends_after_them(client, finish_phase):
    ask(client, phases=["update_policy"])
    assert finish_phase().phase == "update_policy"
    with client.app.state.services.database.read() as session:
        runs = phase_runs.of_iteration(session, find_iteration(session, 1).id)
    assert [run.phase for run in runs] == ["update_policy"]
