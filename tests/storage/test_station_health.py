"""Health of stations: what their recordings tell of cut steps and latencies, over the newest episodes."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from robot_bridge.episode import Episode, EpisodeHeader, assemble
from robot_bridge.safety import CLIPPED_BOX, CLIPPED_SPEED, FALLBACK, HELD, STAGES
from storage import station_health, stations
from storage.db import Database
from storage.health_tables import EpisodeHealthRow
from storage.station_health import Latency, histogram, latency
from tests.storage.conftest import build_episode

STEPS = 4


def recorded(number: int = 1, *, arrays: dict | None = None, header: dict | None = None, **built) -> Episode:
    """An episode of four steps with other arrays, or another header."""
    episode = build_episode(number, steps=STEPS, **built)
    own = {name: getattr(episode.manifest, name) for name in EpisodeHeader.model_fields}
    steps = replace(episode.steps, **(arrays or {}))
    return assemble(EpisodeHeader(**{**own, **(header or {})}), steps=steps, frames=episode.frames)


def flags(*each: int) -> dict:
    return {"flags": np.array(each, np.uint32)}


def health(database: Database) -> station_health.StationHealth:
    with database.read() as session:
        (found,) = station_health.of_stations(session)
    return found


def test_a_step_is_cut_once_however_many_stages_cut_it(database: Database, committed) -> None:
    both = CLIPPED_BOX | CLIPPED_SPEED
    committed(recorded(1, arrays=flags(0, CLIPPED_SPEED, both, 0)))
    committed(recorded(2, arrays=flags(0, CLIPPED_SPEED, 0, 0)))
    found = health(database)
    assert (found.episodes, found.measured, found.steps, found.cut_steps) == (2, 2, 8, 3)
    assert found.cuts == {"speed": 3, "box": 1}
    assert list(found.cuts) == ["speed", "box"], "what cuts most comes first"


def test_held_steps_and_fallback_actions_are_told_and_are_no_cuts(database: Database, committed) -> None:
    committed(recorded(arrays=flags(HELD, FALLBACK, HELD | CLIPPED_BOX, 0)))
    found = health(database)
    assert found.cut_steps == 1
    assert found.cuts == {"held": 2, "fallback": 1, "box": 1}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_counted_under_its_name(database: Database, committed, stage: str) -> None:
    committed(recorded(arrays=flags(STAGES[stage], 0, 0, 0)))
    found = health(database)
    assert (found.cut_steps, found.cuts) == (1, {stage: 1})


def test_a_policy_is_timed_where_it_was_asked_and_not_within_its_chunk(database: Database, committed) -> None:
    committed(recorded(arrays={"infer_ms": np.array([40.0, 0.0, 0.0, 400.0], np.float32)}))
    found = health(database).inference
    assert found is not None
    assert found.steps == 2
    assert found.p50_ms == pytest.approx(40.0, rel=0.025)
    assert found.p99_ms == pytest.approx(400.0, rel=0.025)


def test_a_step_is_timed_from_one_observation_to_the_next(database: Database, committed) -> None:
    instants = np.array([10.0, 10.2, 10.4, 10.6, 12.6])
    committed(recorded(arrays={"t_obs": instants, "t_cmd": instants[:-1]}))
    found = health(database).step
    assert found is not None
    assert found.steps == STEPS
    assert found.p50_ms == pytest.approx(200.0, rel=0.025)
    assert found.p99_ms == pytest.approx(2000.0, rel=0.025)


def test_a_robot_that_does_not_tell_is_not_said_to_cut_nothing(database: Database, committed) -> None:
    committed(recorded(1, header={"mode": "autoeval"}, arrays=flags(FALLBACK, 0, 0, 0)))
    found = health(database)
    assert (found.measured, found.steps, found.cut_steps, found.cuts) == (1, 0, 0, {})
    assert found.step is not None
    committed(recorded(2, arrays=flags(CLIPPED_BOX, 0, 0, 0)))
    assert (health(database).steps, health(database).cut_steps) == (STEPS, 1)


def test_times_that_follow_from_the_rate_are_no_latency(database: Database, committed) -> None:
    silent = {"infer_ms": np.zeros(STEPS, np.float32)}
    committed(recorded(header={"metadata": {"times": "nominal"}}, arrays=silent))
    found = health(database)
    assert (found.measured, found.inference, found.step) == (1, None, None)


def test_episodes_of_before_are_counted_but_not_as_measured(database: Database, committed) -> None:
    committed(recorded(1, arrays=flags(CLIPPED_BOX, 0, 0, 0)))
    old = committed(recorded(2, policy_eval=False, arrays=flags(CLIPPED_BOX, 0, 0, 0)))
    with database.write() as session:
        session.execute(sa.delete(EpisodeHealthRow).where(EpisodeHealthRow.episode_id == old.id))
    found = health(database)
    assert (found.episodes, found.invalid, found.measured, found.cut_steps) == (2, 1, 1, 1)


def test_only_collected_episodes_say_something_about_their_station(database: Database, committed) -> None:
    committed(recorded(1), origin="imported")
    committed(recorded(2), origin="base")
    found = health(database)
    assert (found.episodes, found.measured) == (0, 0)
    with database.read() as session:
        assert session.scalars(sa.select(EpisodeHealthRow)).all() == []


def test_the_newest_episodes_are_looked_at(database: Database, committed, monkeypatch) -> None:
    monkeypatch.setattr(station_health, "NEWEST", 2)
    for number, cut in enumerate((CLIPPED_SPEED, CLIPPED_BOX, 0), 1):
        committed(recorded(number, arrays=flags(cut, 0, 0, 0)), after_s=60.0 * number)
    found = health(database)
    assert (found.episodes, found.cuts) == (2, {"box": 1})


def test_each_station_has_its_own_health_and_its_last_contact(
    database: Database, committed, now: datetime
) -> None:
    later = now + timedelta(hours=2)
    committed(recorded(1, arrays=flags(CLIPPED_BOX, 0, 0, 0)))
    committed(recorded(2, header={"station_id": "cell-2"}), after_s=60)
    with database.write() as session:
        stations.ensure(session, "cell-1", now=later)
        one, other = station_health.of_stations(session)
    assert (one.station_id, one.last_contact_at, one.cut_steps) == ("cell-1", later, 1)
    assert (other.station_id, other.last_contact_at) == ("cell-2", now + timedelta(seconds=60))
    assert (other.steps, other.cut_steps) == (STEPS, 0)


def test_an_episode_that_comes_twice_is_measured_once(database: Database, committed) -> None:
    for _ in range(2):
        committed(recorded(arrays=flags(CLIPPED_BOX, 0, 0, 0)))
    assert health(database).cut_steps == 1


@pytest.mark.parametrize(
    ("milliseconds", "bucket"),
    [(0.01, 0), (1.0, 0), (1.02, 1), (1.03, 2), (10.0, 100), (10.1, 101), (1000.0, 300)],
)
def test_a_time_lies_in_the_bucket_that_ends_at_it_or_soon_after(milliseconds: float, bucket: int) -> None:
    assert histogram(np.array([milliseconds])) == {str(bucket): 1}


def test_percentiles_of_many_episodes_are_those_of_all_their_steps_together() -> None:
    random = np.random.default_rng(1)
    episodes = [random.lognormal(mean=4, sigma=1, size=50) for _ in range(40)]
    found = latency(histogram(each) for each in episodes)
    every = np.concatenate(episodes)
    assert found is not None
    assert found.steps == every.size
    for told, share in ((found.p50_ms, 50), (found.p99_ms, 99)):
        exact = np.percentile(every, share, method="inverted_cdf")
        assert exact <= told <= exact * 10 ** (1 / 100) + 0.1


def test_one_slow_step_in_a_hundred_is_not_the_percentile_and_two_are() -> None:
    assert latency([{"100": 99, "300": 1}]) == Latency(steps=100, p50_ms=10.0, p99_ms=10.0)
    assert latency([{"100": 98}, {"300": 2}]) == Latency(steps=100, p50_ms=10.0, p99_ms=1000.0)
    assert latency([{}, {}]) is None
