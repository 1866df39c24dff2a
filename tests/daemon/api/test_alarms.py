"""Alarms over REST and in iteration records: which policies are watched, and with which episodes."""

import pytest

from tests.daemon.playing import Players

URL = "/v1/alarms"


@pytest.fixture
def played(database, blobs, now, tmp_path):
    """Bring in episodes of one policy, one iteration after the other, each a string of + and -."""
    return Players(database=database, blobs=blobs, folder=tmp_path, now=now).play


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


@pytest.mark.parametrize(("early", "alarms"), [((), 1), ((0, 1), 1), ((0,), 0), ((1,), 0)])
def test_episodes_that_end_otherwise_are_another_rate_and_no_alarm(client, played, early, alarms):
    played("+" * 20, "-" * 20, early=early)
    assert len(client.get(URL).json()["items"]) == alarms


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
