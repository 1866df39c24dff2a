"""Alarms over REST and in iteration records: which policies are watched, and with which episodes."""

from dataclasses import replace
from datetime import timedelta

import pytest

from storage import checkpoints, episodes, iterations, trials

URL = "/v1/alarms"


@pytest.fixture
def played(client, database, blobs, now, an_episode, tmp_path):
    """Bring in episodes of one policy, one iteration after the other, each a string of + and -."""

    def play(*rounds: str, promoted: bool = False) -> str:
        number = 0
        with database.write() as session:
            (tmp_path / "policy").write_text("policy")
            new = checkpoints.NewCheckpoint(kind="policy", spec_digest="5" * 64)
            policy = checkpoints.save(session, blobs, new, file=tmp_path / "policy", now=now).id
            for turn, outcomes in enumerate(rounds):
                row, _ = iterations.request_iteration(
                    session, spec={"seed": turn}, idempotency_key=None, now=now
                )
                iterations.cancel(session, row.id, now=now)
                if promoted and turn == 0:
                    trial = trials.NewTrial(
                        iteration_id=row.id,
                        champion_id=policy,
                        candidate_id=policy,
                        decision="promoted",
                        evidence={},
                    )
                    trials.save(session, trial, now=now)
                for outcome in outcomes:
                    number += 1
                    built = an_episode(number, success=outcome == "+")
                    begun = now + timedelta(minutes=number)
                    manifest = built.manifest.model_copy(update={"started_at": begun, "ended_at": begun})
                    origin = episodes.Provenance(origin="collect", iteration_id=row.id, checkpoint_id=policy)
                    episodes.commit(
                        session, blobs, replace(built, manifest=manifest), provenance=origin, now=now
                    )
        return policy

    return play


def test_a_policy_that_fails_where_it_used_to_succeed_raises_an_alarm(client, played):
    policy = played("+" * 15, "+" * 5 + "-" * 12)
    answer = client.get(URL).json()
    (alarm,) = answer["items"]
    assert answer["watched"] == [policy]
    assert (alarm["policy"], alarm["task"], alarm["station"]) == (policy, "open_drawer", "cell-1")
    assert (alarm["direction"], alarm["iteration"]) == ("fell", 2)
    assert alarm["before"]["successes"] == alarm["before"]["episodes"]
    assert alarm["changed_at"] < alarm["noticed_at"]
    assert alarm["statistic"] >= 8


def test_the_record_of_the_iteration_whose_episodes_raised_it_tells_the_alarm(client, played):
    played("+" * 15, "+" * 5 + "-" * 12, "-" * 10)
    told = [len(client.get(f"/v1/iterations/{number}").json()["alarms"]) for number in (1, 2, 3)]
    assert told == [0, 1, 0]


def test_a_policy_that_acted_once_is_not_told_of(client, played):
    played("+" * 20 + "-" * 12)
    assert client.get(URL).json() == {"items": [], "watched": [], "next_cursor": None}


def test_episodes_of_the_trial_that_chose_the_policy_do_not_count(client, played):
    played("+" * 20, "-" * 12, promoted=True)
    assert client.get(URL).json()["items"] == []


def test_steady_success_raises_no_alarm(client, played):
    played("+-+" * 6, "+-+" * 6, "++-" * 6)
    assert client.get(URL).json()["items"] == []


@pytest.mark.parametrize(("params", "code"), [({"cursor": "x"}, 422), ({"limit": 51}, 422)])
def test_what_cannot_be_asked_is_refused(client, params, code):
    assert client.get(URL, params=params).status_code == code
