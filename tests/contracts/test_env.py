"""What every environment of the rollout loop promises, the imagined, the real and the simulated: `Env`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from daemon.learning.errors import BadTensor
from daemon.learning.imagine import ImaginedEnv
from daemon.learning.policy.policy import Policy
from daemon.learning.rollout import Env, RolloutPlan, Starts, rollout
from daemon.learning.world_model.model import WorldModel
from daemon.phases.station_env import StationEnv
from daemon.simulated_env import Scene, SimulatedEnv
from robot_bridge.client import StationClient
from robot_bridge.episode import PolicyRef
from robot_bridge.protocol import EpisodeRequest
from tests.daemon.phases.conftest import model_files, toy_station  # noqa: F401 - fixtures

CHUNK = torch.tensor([0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]).expand(1, 3, 7)

Begun = tuple[Env, Starts]


@pytest.fixture(params=["imagined", "station", "simulated"])
def begin(
    request: pytest.FixtureRequest,
    toy_station: str,  # noqa: F811
    model_files: dict[str, Path],  # noqa: F811
) -> Iterator[Callable[[], Begun]]:
    """A way to get an environment of one rollout that has not begun, and what it may start from."""
    client = StationClient(toy_station)

    def imagined() -> Begun:
        picture = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
        env = ImaginedEnv(WorldModel.load(model_files["world_model"]), seed=0)
        return env, Starts(images=picture, instructions=("open the drawer",))

    def station() -> Begun:
        asked = EpisodeRequest(task_id="open_drawer", max_steps=20, policy=PolicyRef(name="test"), seed=5)
        env = StationEnv(client, client.create_episode(asked))
        return env, env.starts

    simulator = SimulatedEnv(3, [Scene(task_id="open_drawer", seed=5)])

    def simulated() -> Begun:
        return simulator, simulator.starts

    if request.param != "station":
        yield imagined if request.param == "imagined" else simulated
    else:
        with client.leased("test", 20.0):
            yield station
    simulator.close()
    client.close()


def started(begin: Callable[[], Begun]) -> tuple[Env, Tensor]:
    env, starts = begin()
    env.reset(starts.images)
    return env, starts.images


def test_a_chunk_is_answered_by_the_picture_after_its_last_action(begin: Callable[[], Begun]) -> None:
    env, _ = started(begin)
    seen = env.step(CHUNK)
    assert (seen.shape, seen.dtype) == ((1, 3, 64, 64), torch.uint8)
    assert torch.equal(seen, env.recent_frames(1)[:, 0])


def test_recent_frames_are_one_per_action_and_oldest_first(begin: Callable[[], Begun]) -> None:
    env, _ = started(begin)
    first = env.step(CHUNK)
    second = env.step(CHUNK)
    recent = env.recent_frames(4)
    assert (recent.shape, recent.dtype) == ((1, 4, 3, 64, 64), torch.uint8)
    assert torch.equal(recent[:, 0], first)
    assert torch.equal(recent[:, 3], second)


def test_where_there_are_fewer_the_first_repeats(begin: Callable[[], Begun]) -> None:
    env, _ = started(begin)
    env.step(CHUNK[:, :1])
    recent = env.recent_frames(5)
    assert recent.shape[1] == 5
    assert torch.equal(recent[:, 0], recent[:, 3])
    assert torch.equal(recent[:, 4], env.recent_frames(1)[:, 0])


@pytest.mark.parametrize(
    "actions", [CHUNK.repeat(2, 1, 1), CHUNK[0], CHUNK[:, :0], CHUNK[..., :6], CHUNK * float("nan")]
)
def test_actions_of_another_shape_or_that_are_no_numbers_are_refused_and_move_nothing(
    begin: Callable[[], Begun], actions: Tensor
) -> None:
    env, _ = started(begin)
    before = env.step(CHUNK)
    with pytest.raises(BadTensor, match="actions"):
        env.step(actions)
    assert torch.equal(env.recent_frames(1)[:, 0], before)
    assert torch.equal(env.recent_frames(2)[:, 1], before)


def test_a_policy_rolls_out_in_it(begin: Callable[[], Begun], model_files: dict[str, Path]) -> None:  # noqa: F811
    env, starts = begin()
    policy = Policy.load(model_files["policy"])
    plan = RolloutPlan(chunks=2, temperature=0.0, final_frames=3)
    done = rollout(policy, env, starts, plan=plan)
    assert done.final_frames.shape == (1, 3, 3, 64, 64)
    assert torch.equal(done.images[:, 0], starts.images)
