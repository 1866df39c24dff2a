"""A station's episode obeys the contract of the rollout loop that also imagines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from daemon.learning.batch import resize_frames
from daemon.learning.errors import BadTensor
from daemon.phases.station_env import StationEnv
from robot_bridge.client import StationClient
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import StationRefused
from robot_bridge.protocol import EpisodeRequest

FORWARD = torch.tensor([0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])


@pytest.fixture
def client(toy_station: str) -> Iterator[StationClient]:
    found = StationClient(toy_station)
    with found.leased("test", 20.0):
        yield found
    found.close()


def prepared(client: StationClient, *, steps: int = 10) -> StationEnv:
    request = EpisodeRequest(task_id="open_drawer", max_steps=steps, policy=PolicyRef(name="test"), seed=5)
    return StationEnv(client, client.create_episode(request))


def test_a_chunk_moves_the_robot_and_gives_the_picture_after_it(client: StationClient) -> None:
    env = prepared(client)
    env.reset(env.starts.images)
    after = env.step(FORWARD.expand(1, 5, 7))
    assert after.shape == (1, 3, 64, 64)
    assert after.dtype == torch.uint8
    assert env.steps == 5
    assert not torch.equal(after, env.starts.images)


def test_what_a_chunk_asks_beyond_the_last_step_is_not_sent(client: StationClient) -> None:
    request = EpisodeRequest(task_id="open_drawer", max_steps=7, policy=PolicyRef(name="test"), seed=7)
    env = StationEnv(client, client.create_episode(request))
    env.reset(env.starts.images)
    env.step(FORWARD.expand(1, 5, 7))
    env.step(FORWARD.expand(1, 5, 7))
    assert env.steps == 7
    with pytest.raises(StationRefused, match="0 steps are left"):
        env.step(FORWARD.expand(1, 5, 7))
    client.finish(request.episode_id)
    episode = client.fetch_episode(request.episode_id)
    assert episode.manifest.valid_for.policy_eval
    client.ack(episode)


def test_recent_frames_are_one_per_action_oldest_first(client: StationClient) -> None:
    env = prepared(client)
    env.reset(env.starts.images)
    first = env.step(FORWARD.expand(1, 2, 7))
    second = env.step(FORWARD.expand(1, 3, 7))
    recent = env.recent_frames(4)
    assert recent.shape == (1, 4, 3, 64, 64)
    assert torch.equal(recent[:, 0], first)
    assert torch.equal(recent[:, -1], second)


def test_the_pictures_are_those_that_the_episode_will_hold(client: StationClient) -> None:
    request = EpisodeRequest(task_id="open_drawer", max_steps=3, policy=PolicyRef(name="test"), seed=6)
    env = StationEnv(client, client.create_episode(request))
    env.reset(env.starts.images)
    env.step(FORWARD.expand(1, 3, 7))
    client.finish(request.episode_id)
    episode = client.fetch_episode(request.episode_id)
    assert torch.equal(env.recent_frames(3)[0], resize_frames(episode.frames.decode_all()[1:]))
    client.ack(episode)


def test_a_judge_of_another_size_sees_the_same_moments_in_its_own(client: StationClient) -> None:
    request = EpisodeRequest(task_id="open_drawer", max_steps=3, policy=PolicyRef(name="test"), seed=6)
    env = StationEnv(client, client.create_episode(request), size=64, judged_size=16)
    assert env.starts.images.shape == (1, 3, 64, 64)
    env.reset(env.starts.images)
    after = env.step(FORWARD.expand(1, 3, 7))
    client.finish(request.episode_id)
    pictures = (episode := client.fetch_episode(request.episode_id)).frames.decode_all()
    client.ack(episode)
    assert torch.equal(after, resize_frames(pictures[-1:]))
    assert torch.equal(env.recent_frames(4)[0], resize_frames(pictures, 16))
    first = resize_frames(pictures[:1], 16)[0]
    assert torch.equal(env.recent_frames(6)[0, :2], torch.stack([first, first]))


def test_only_its_own_first_observation_starts_an_episode(client: StationClient) -> None:
    env = prepared(client)
    with pytest.raises(BadTensor, match="first observation"):
        env.reset(255 - env.starts.images)


def test_an_episode_that_has_begun_cannot_be_started_again(client: StationClient) -> None:
    env = prepared(client)
    images = env.starts.images
    env.reset(images)
    env.step(FORWARD.expand(1, 1, 7))
    with pytest.raises(BadTensor, match="1 steps"):
        env.reset(images)
