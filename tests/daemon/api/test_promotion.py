"""Champions over REST: told, promoted, rolled back, and left alone while an iteration is in work."""

import pytest
import sqlalchemy as sa

from storage import audit, checkpoints, iterations, trials
from storage.states import move
from storage.tables import CheckpointRow, IterationRow, TrialRow

URL = "/v1/policies"


@pytest.fixture
def save(client, database, blobs, now, tmp_path):
    def save_one(kind="policy", **known):
        file = tmp_path / "new.safetensors"
        file.write_bytes(repr((kind, known)).encode())
        new = checkpoints.NewCheckpoint(kind=kind, spec_digest="d" * 64, **known)
        with database.write() as session:
            return checkpoints.save(session, blobs, new, file=file, now=now).id

    return save_one


@pytest.fixture
def iteration(database, now):
    """One more iteration, in the state that is asked for; nobody works on it."""

    def make(state, lineage="main"):
        with database.write() as session:
            spec = {"lineage": lineage, "seed": 1 + len(iterations.unfinished(session))}
            row, _ = iterations.request_iteration(session, spec=spec, idempotency_key=None, now=now)
            way = {"paused": ("running", "paused"), "finished": ("running", "finished")}
            for step in way.get(state, (state,)):
                move(row, step, now=now)
            return row.number

    return make


def decide(client, policy, act, *, key=None, **wish):
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(f"{URL}/{policy}/{act}", json=wish, headers=headers)


def champions(client):
    return {name: row["id"] for row in client.get(URL).json()["items"] for name in row["champion_of"]}


def test_policies_are_told_with_the_lineages_whose_champion_each_is(client, save, iteration):
    iteration("cancelled", "b")
    first = save()
    save("world_model")
    second = save(parent_id=first, lineage="b")
    newest, oldest = client.get(URL).json()["items"]
    assert (newest["id"], newest["parent_id"], newest["champion_of"]) == (second, first, [])
    assert (oldest["id"], oldest["champion_of"]) == (first, ["b", "main"])
    assert client.get(f"{URL}/{first}").json() == oldest
    assert [row["id"] for row in client.get(URL, params={"lineage": "main"}).json()["items"]] == [first]
    page = client.get(URL, params={"limit": 1}).json()
    rest = client.get(URL, params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert [row["id"] for row in rest["items"]] == [first]


def test_what_is_no_policy_is_not_found_among_them(client, save):
    for nobody in (save("judge"), "nobody"):
        answer = client.get(f"{URL}/{nobody}")
        assert (answer.status_code, answer.json()["code"]) == (404, "page_not_found")


def test_a_policy_is_promoted_and_rolled_back_with_a_trace_of_who_did_it_and_why(client, save, database):
    old, new = save(), save(card={"n": 2})
    answer = decide(client, new, "promote", reason="it is gentler")
    assert (answer.status_code, answer.json()["id"], answer.json()["champion_of"]) == (200, new, ["main"])
    assert champions(client) == {"main": new}
    back = decide(client, new, "rollback", reason="it is not")
    assert (back.status_code, back.json()["id"], back.json()["champion_of"]) == (200, old, ["main"])
    assert champions(client) == {"main": old}
    with database.read() as session:
        second, first = audit.read(session)
        decided = session.scalars(sa.select(TrialRow.decision).order_by(TrialRow.number)).all()
    assert decided == ["adopted", "rolled_back"]
    assert (first.actor, first.action, first.subject) == ("rest", "policy_promoted", f"policy {new}")
    assert first.facts == {"lineage": "main", "reason": "it is gentler", "from": old, "to": new}
    assert (second.action, second.subject) == ("policy_rolled_back", f"policy {new}")
    assert second.facts == {"lineage": "main", "reason": "it is not", "from": new, "to": old}
    kinds = [event["kind"] for event in client.get("/v1/events").json()["items"]]
    assert [kind for kind in kinds if kind.startswith("trial_")] == ["trial_rolled_back", "trial_adopted"]


def test_the_champion_stays_champion_and_nothing_is_noted(client, save, database):
    only = save()
    answer = decide(client, only, "promote")
    assert (answer.status_code, answer.json()["champion_of"]) == (200, ["main"])
    with database.read() as session:
        assert audit.read(session) == []
        assert trials.latest(session, "main") is None


def test_under_a_key_it_is_done_once_whatever_was_decided_since(client, save):
    old, new = save(), save(card={"n": 2})
    decide(client, new, "promote", key="k")
    decide(client, old, "promote")
    late = decide(client, new, "promote", key="k")
    assert (late.status_code, late.json()["id"], late.json()["champion_of"]) == (200, new, [])
    assert champions(client) == {"main": old}
    other = decide(client, new, "promote", key="k", reason="another")
    assert (other.status_code, other.json()["code"]) == (409, "request_key_reused")


def test_only_a_policy_that_the_lineage_may_go_on_from_is_promoted(client, save, iteration, database, now):
    iteration("cancelled", "b")
    champion = save()
    number = iteration("cancelled")
    of_attempt = save(iteration_id=client.get(f"/v1/iterations/{number}").json()["id"])
    gone = save(card={"n": 3})
    with database.write() as session:
        session.get_one(CheckpointRow, gone).retired_at = now
    refused = {
        (save("judge"), "main"): (409, "policy_unfit", "it is a judge, and a policy is wanted"),
        (save(lineage="b"), "main"): (409, "policy_unfit", "it is of lineage b"),
        (of_attempt, "main"): (409, "policy_unfit", "did not finish, or decided against it"),
        (gone, "main"): (410, "retired", gone),
        ("nobody", "main"): (404, "page_not_found", "nobody"),
        (champion, "nowhere"): (404, "page_not_found", "lineage nowhere"),
    }
    for (policy, lineage), (status, code, said) in refused.items():
        answer = decide(client, policy, "promote", lineage=lineage)
        assert (answer.status_code, answer.json()["code"]) == (status, code), policy
        assert said in answer.json()["detail"]
    assert champions(client) == {"main": champion, "b": champion}


def test_what_was_to_be_kept_only_may_be_promoted_once_there_is_a_champion(client, save):
    kept = save(card={"candidate": True})
    answer = decide(client, kept, "promote")
    assert (answer.status_code, answer.json()["code"]) == (409, "policy_unfit")
    assert "has no champion yet" in answer.json()["detail"]
    save()
    assert decide(client, kept, "promote").json()["champion_of"] == ["main"]


@pytest.mark.parametrize("state", ["running", "paused"])
def test_while_an_iteration_of_the_lineage_is_in_work_its_champion_stays(
    client, save, iteration, state, monkeypatch
):
    monkeypatch.setattr("daemon.scheduler.Scheduler.advance", lambda self: None)
    old, new = save(), save(card={"n": 2})
    number = iteration(state)
    answer = decide(client, new, "promote")
    assert (answer.status_code, answer.json()["code"]) == (409, "lineage_busy")
    assert f"iteration {number} of lineage main is {state}" in answer.json()["detail"]
    assert answer.json()["retryable"] is True
    assert champions(client) == {"main": old}
    client.post(f"/v1/iterations/{number}/cancel")
    assert decide(client, new, "promote").json()["champion_of"] == ["main"]


def test_an_iteration_of_another_lineage_is_no_reason_to_wait(client, save, iteration):
    old, new = save(), save(card={"n": 2})
    iteration("running", "b")
    assert decide(client, new, "promote").status_code == 200
    assert champions(client) == {"main": new, "b": old}


def test_another_lineages_decision_is_kept_at_its_last_iteration_and_is_of_no_other(
    client, save, iteration, database
):
    save()
    new = save(lineage="b")
    failed = iteration("failed", "b")
    busy = decide(client, new, "promote")
    assert (busy.status_code, busy.json()["code"]) == (409, "lineage_busy")
    assert f"iteration {failed} of lineage b is failed" in busy.json()["detail"]
    number = iteration("finished", "b")
    answer = decide(client, new, "promote")
    assert answer.json()["champion_of"] == ["b"], "without a lineage it is the policy's own"
    with database.read() as session:
        assert trials.latest(session, "main") is None
        decided = trials.latest(session, "b")
        assert session.get_one(IterationRow, decided.iteration_id).number == number


def test_only_the_champion_is_rolled_back_and_only_to_one_that_is_there(client, save, database, now):
    nobody = decide(client, save(card={"candidate": True}), "rollback")
    assert (nobody.status_code, nobody.json()["code"]) == (409, "not_champion")
    assert "it has none yet" in nobody.json()["detail"]
    old, new = save(), save(card={"n": 2})
    for policy, code in ((new, "not_champion"), (old, "no_champion_before")):
        answer = decide(client, policy, "rollback")
        assert (answer.status_code, answer.json()["code"]) == (409, code)
    decide(client, new, "promote")
    with database.write() as session:
        session.get_one(CheckpointRow, old).retired_at = now
    gone = decide(client, new, "rollback")
    assert (gone.status_code, gone.json()["code"]) == (410, "retired")
    assert champions(client) == {"main": new}


def test_after_a_rollback_the_next_one_goes_further_back(client, save):
    a, b, c = save(), save(card={"n": 2}), save(card={"n": 3})
    for policy in (b, c):
        decide(client, policy, "promote")
    assert decide(client, c, "rollback").json()["id"] == b
    assert decide(client, b, "rollback").json()["id"] == a
    assert decide(client, a, "rollback").json()["code"] == "no_champion_before"


@pytest.mark.parametrize("wish", [{"lineage": "a b"}, {"reason": "x" * 501}, {"why": "?"}])
def test_a_wish_that_cannot_be_is_refused(client, save, wish):
    answer = decide(client, save(), "promote", **wish)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
