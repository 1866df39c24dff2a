"""Stations over REST: what their newest recordings tell."""

from datetime import datetime

import pytest

from robot_bridge.safety import CLIPPED_BOX, HELD
from storage import episodes, stations

URL = "/v1/stations"


def test_before_one_was_seen_there_is_none(client):
    assert client.get(URL).json() == {"items": []}


def test_a_station_is_told_by_its_newest_episodes(client, database, blobs, now, an_episode):
    with database.write() as session:
        for number in (1, 2):
            built = an_episode(number, steps=4, cut=[CLIPPED_BOX, HELD])
            origin = episodes.Provenance(origin="collect")
            episodes.commit(session, blobs, built, provenance=origin, now=now)
    (found,) = client.get(URL).json()["items"]
    assert datetime.fromisoformat(found["last_seen_at"]) == now
    assert client.get(f"{URL}/cell-1").json() == found
    health = found["health"]
    step, inference = health.pop("step"), health.pop("inference")
    assert health == {
        "episodes": 2,
        "invalid": 0,
        "measured": 2,
        "steps": 8,
        "cut_steps": 2,
        "cuts": {"box": 2, "held": 2},
    }
    assert (step["steps"], inference["steps"]) == (8, 8)
    assert step["p50_ms"] == pytest.approx(200.0, rel=0.025)
    assert inference["p99_ms"] == pytest.approx(12.5, rel=0.025)


def test_a_station_that_gave_no_episode_has_no_latency(client, database, now):
    with database.write() as session:
        stations.ensure(session, "cell-9", now=now)
    (found,) = client.get(URL).json()["items"]
    health = found["health"]
    assert (found["id"], health["episodes"], health["measured"]) == ("cell-9", 0, 0)
    assert (health["inference"], health["step"]) == (None, None)
