"""Which episodes are watched together: those of one policy, one task and one station."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon import alarms
from storage.outcomes import JudgedEpisode

START = datetime(2026, 1, 1, tzinfo=UTC)


def stream(outcomes):
    return [
        JudgedEpisode(
            id=f"e{place}",
            policy="p",
            task="lid",
            station="s",
            iteration=1 + place // 10,
            started_at=START + timedelta(minutes=place),
            success=outcome == "+",
        )
        for place, outcome in enumerate(outcomes)
    ]


def test_an_alarm_names_the_episodes_and_the_iteration_that_raised_it():
    episodes = stream("+" * 30 + "-" * 10)
    (alarm,) = alarms._alarms(episodes)
    noticed = episodes[int(alarm["noticed_by"][1:])]
    changed = episodes[int(alarm["changed_by"][1:])]
    assert (alarm["iteration"], alarm["noticed_at"]) == (noticed.iteration, noticed.started_at)
    assert alarm["changed_at"] == changed.started_at
    seen = alarm["before"]["episodes"] + alarm["after"]["episodes"]
    assert seen == 1 + int(alarm["noticed_by"][1:])


@pytest.mark.parametrize(
    ("outcomes", "direction"), [("+" * 30 + "-" * 10, "fell"), ("-" * 30 + "+" * 10, "rose")]
)
def test_an_alarm_says_which_way(outcomes, direction):
    assert [alarm["direction"] for alarm in alarms._alarms(stream(outcomes))] == [direction]


def test_steady_outcomes_raise_none():
    assert list(alarms._alarms(stream("+-" * 40))) == []
