"""How a robot stands, in words."""

import pytest

from daemon.station_card import INSTRUCTIONS, SAYS, station_card
from daemon.station_watch import Standing
from robot_bridge.description import LeaseState, OpenEpisode, StationState, StatusAnswer


def standing(state="IDLE", **told):
    nothing = {
        "lease": None,
        "episode": None,
        "estop_reason": None,
        "spooled_episodes": 0,
        "spooled_bytes": 0,
    }
    return Standing(
        address="http://cell", status=StatusAnswer(state=state, station_time=1.0, **{**nothing, **told})
    )


def test_every_state_of_a_station_has_words():
    assert set(StationState.__args__) == set(SAYS)
    assert set(INSTRUCTIONS) <= set(SAYS)


@pytest.mark.parametrize("state", ["ESTOPPED", "WAITING_HUMAN", "FAULT", "OFFLINE"])
def test_a_robot_that_needs_somebody_says_what_to_do(state):
    card = station_card(standing(state))
    assert (card.tone, card.todo) == ("bad", INSTRUCTIONS[state])


def test_a_robot_at_work_says_whose_it_is_and_where():
    card = station_card(
        standing(
            "RUNNING",
            lease=LeaseState(holder="collector", fence=3, remaining_s=9.0),
            episode=OpenEpisode(episode_id="e", task_id="lid", state="running", next_step=7, clips={}),
            spooled_episodes=2,
        )
    )
    assert (card.tone, card.todo, card.wants) == ("good", None, None)
    assert card.facts == {
        "in the hands of": "collector", "episode": "lid, step 7", "episodes to be fetched": "2"
    }  # fmt: skip


def test_a_robot_that_is_silent_is_no_robot_that_stands_still():
    card = station_card(Standing(address="http://cell", failure="no answer"))
    assert card.wants == "no answer"
    assert "red button" in card.todo
