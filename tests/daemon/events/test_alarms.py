"""The watch on alarms: each is told once, whatever becomes of the verdicts that raised it."""

from datetime import timedelta

import pytest

from daemon.alarms import alarms_of
from daemon.events.alarms import NEWS, AlarmWatch, is_news
from daemon.events.words import FOR_PEOPLE, event_record
from storage import episodes, events, labels, outcomes
from tests.daemon.playing import Players

FALLS = ("+" * 15, "+" * 5 + "-" * 12)


class Watched:
    """A store, episodes for it, and the watch."""

    def __init__(self, database, blobs, folder, now) -> None:
        self.database, self.now = database, now
        self.players = Players(database=database, blobs=blobs, folder=folder, now=now)
        self.watch = AlarmWatch(database)

    def look(self, **later) -> str | None:
        return self.watch.look(self.now + timedelta(**later))

    def told(self):
        with self.database.read() as session:
            return events.after(session, 0, kinds=("alarm_raised",))

    def relabel(self, number: int, *, success: bool) -> None:
        """A human says otherwise about the n-th episode."""
        at = self.now + timedelta(days=1)
        with self.database.write() as session:
            episode = episodes.get(session, f"00000000-0000-0000-0000-{number:012x}")
            verdict = labels.Verdict(success=success, source="human", at=at, judge="ann")
            labels.append(session, episode.id, verdict, now=at)


@pytest.fixture
def watched(sqlite_database, blobs, tmp_path, now):
    return Watched(sqlite_database, blobs, tmp_path, now)


def test_an_alarm_is_told_unasked_with_its_iteration_and_its_rates(watched):
    policy = watched.players.play(*FALLS)
    assert watched.look(hours=1) == "alarms raised count=1"
    (event,) = watched.told()
    assert (event.iteration, event.facts["policy"], event.facts["direction"]) == (2, policy, "fell")
    record = event_record(event)
    assert record["text"].startswith(
        "iteration 2: the real success of policy 1 at open_drawer on cell-1 fell, and the policy did not"
    )
    assert record["text"].endswith("19 of 19 before, 1 of 5 since"), "the rates on either side of the change"
    assert event.facts["after"] == {"successes": 1, "episodes": 5}
    assert "alarm_raised" in FOR_PEOPLE


def test_an_alarm_is_told_once_also_by_a_daemon_that_started_again(watched):
    watched.players.play(*FALLS)
    for hours in range(3):
        watched.look(hours=hours)
    watched.watch = AlarmWatch(watched.database)
    watched.look(hours=4)
    assert len(watched.told()) == 1


def test_steady_success_is_not_told_of(watched):
    watched.players.play("+-+" * 6, "+-+" * 6)
    assert watched.look() is None
    assert watched.told() == []


def test_an_alarm_that_other_episodes_raise_by_now_is_the_same_alarm(watched):
    watched.players.play(*FALLS)
    watched.look(hours=1)
    for number in (22, 24):
        watched.relabel(number, success=True)
    watched.players.play("-" * 12)
    assert watched.look(hours=2) is None
    with watched.database.read() as session:
        policies, _ = outcomes.policies_that_stayed(session)
        (alarm,) = alarms_of(session, policies)
    (told,) = watched.told()
    assert alarm["noticed_by"] != told.facts["noticed_by"], "it is noticed by another one"


def test_success_that_comes_back_and_goes_again_is_told_each_time(watched):
    watched.players.play(*FALLS)
    watched.look(hours=1)
    watched.players.play("+" * 40)
    watched.look(hours=2)
    watched.players.play("-" * 40)
    watched.look(hours=3)
    watched.look(hours=4)
    assert [event.facts["direction"] for event in watched.told()] == ["fell", "rose", "fell"]


def test_several_alarms_at_once_are_told_in_the_order_in_which_they_came(watched):
    watched.players.play(*FALLS, "+" * 40)
    assert watched.look(hours=2) == "alarms raised count=2"
    assert [event.facts["direction"] for event in watched.told()] == ["fell", "rose"]


def test_an_alarm_of_long_ago_is_no_news(watched):
    watched.players.play(*FALLS)
    assert watched.watch.look(watched.now + NEWS + timedelta(days=1)) is None
    assert watched.told() == []


def test_alarms_are_computed_only_when_verdicts_have_come(watched, monkeypatch):
    computed = []

    def counted(session, policies):
        computed.append(len(policies))
        return alarms_of(session, policies)

    monkeypatch.setattr("daemon.events.alarms.alarms_of", counted)
    watched.players.play(*FALLS)
    for _ in range(3):
        watched.look(hours=1)
    assert computed == [1]
    watched.relabel(22, success=True)
    watched.look(hours=2)
    assert computed == [1, 1]


def test_another_robot_has_alarms_of_its_own(watched):
    watched.players.play(*FALLS)
    watched.look(hours=1)
    with watched.database.read() as session:
        policies, _ = outcomes.policies_that_stayed(session)
        (alarm,) = alarms_of(session, policies)
        assert not is_news(session, alarm)
        assert is_news(session, {**alarm, "station": "cell-2"})
