"""What a station would let through of a move, worked out without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daemon.learning.confines import ConfinedArms, Confines, together, unconfined
from daemon.learning.errors import BadTensor
from daemon.learning.policy.policy import new_policy
from daemon.learning.rollout import RolloutPlan, Starts, rollout
from robot_bridge.conventions import Pose
from robot_bridge.safety import Limits, SafetyPipeline
from tests.daemon.learning.test_rollout import CountingEnv

SENTENCE = "open the drawer"


def confines(low: float, high: float, *, step: float = 1.0, count: int = 1) -> Confines:
    return Confines(
        low=torch.full((count, 3), low), high=torch.full((count, 3), high), step=torch.full((count,), step)
    )


def down(*metres: float) -> torch.Tensor:
    """One rollout's chunk of moves along z, [1, L, 7]."""
    moves = torch.zeros(1, len(metres), 7)
    moves[0, :, 2] = torch.tensor(metres)
    return moves


def test_what_goes_through_the_floor_ends_on_it_and_comes_up_from_there() -> None:
    arms = ConfinedArms(confines(-0.05, 0.05))
    executed = arms.let_through(down(-0.04, -0.04, 0.03))
    assert executed[0, :, 2].tolist() == pytest.approx([-0.04, -0.01, 0.03])


def test_where_an_arm_is_told_to_be_is_remembered_from_chunk_to_chunk() -> None:
    arms = ConfinedArms(confines(-0.05, 0.05))
    arms.let_through(down(-0.04))
    assert arms.let_through(down(-0.04))[0, 0, 2] == pytest.approx(-0.01)


def test_a_step_is_cut_along_each_axis() -> None:
    moves = torch.tensor([[[0.03, -0.03, 0.01, 0.5, 0.0, 0.0, 1.0]]])
    executed = ConfinedArms(confines(-1.0, 1.0, step=0.02)).let_through(moves)
    assert executed[0, 0].tolist() == pytest.approx([0.02, -0.02, 0.01, 0.5, 0.0, 0.0, 1.0])


def test_what_is_not_cut_is_what_was_asked_to_the_bit() -> None:
    moves = torch.randn(5, 8, 7, generator=torch.Generator().manual_seed(0)) / 100
    assert torch.equal(ConfinedArms(confines(-1.0, 1.0, count=5)).let_through(moves), moves)
    assert torch.equal(ConfinedArms(unconfined(5)).let_through(100 * moves), 100 * moves)


def test_a_target_that_begins_outside_may_come_in_and_not_go_out_again() -> None:
    arms = ConfinedArms(confines(0.02, 0.1))  # it is 2 cm below its box
    executed = arms.let_through(down(-0.01, 0.01, -0.02, 0.03, -0.03))
    assert executed[0, :, 2].tolist() == pytest.approx([0.0, 0.01, 0.0, 0.03, -0.02], abs=1e-7)


def test_rollouts_of_a_batch_do_not_touch_each_other() -> None:
    both = together([confines(-0.01, 0.01), None, confines(-0.05, 0.05)])
    assert both is not None
    executed = ConfinedArms(both).let_through(down(-0.04).repeat(3, 1, 1))
    assert executed[:, 0, 2].tolist() == pytest.approx([-0.01, -0.04, -0.04])


def test_it_lets_through_what_the_stations_own_pipeline_does() -> None:
    rng = np.random.default_rng(0)
    limits = Limits(box_low=(0.1, -0.1, 0.0), box_high=(0.3, 0.1, 0.2), step_xyz_max=0.04)
    starts = rng.uniform([0.08, -0.12, -0.02], [0.32, 0.12, 0.22], size=(20, 3))
    asked = np.zeros((20, 30, 7), dtype=np.float32)
    asked[:, :, :3] = rng.normal(scale=0.03, size=(20, 30, 3))
    executed, cut = np.zeros_like(asked), 0
    for row, start in enumerate(starts):
        pipeline, target = SafetyPipeline(limits), Pose(start, np.eye(3))
        for step, action in enumerate(asked[row]):
            command = pipeline.apply(target, action)
            executed[row, step], target = command.executed, command.target
            cut += bool(command.flags)
    low, high = (torch.tensor(corner - starts).float() for corner in (limits.box_low, limits.box_high))
    own = Confines(low=low, high=high, step=torch.full((20,), limits.step_xyz_max))
    found = ConfinedArms(own).let_through(torch.from_numpy(asked))
    assert cut > 200
    np.testing.assert_allclose(found.numpy(), executed, atol=1e-6)


def test_a_rollout_moves_by_what_is_let_through_and_learns_from_what_was_decided() -> None:
    policy = new_policy((SENTENCE,), seed=0)
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    plan = RolloutPlan(chunks=2, temperature=1.0, final_frames=1)
    seen, rollouts = [], []
    for own in (None, confines(-1e-4, 1e-4, count=2)):
        env = CountingEnv()
        starts = Starts(images=images, instructions=(SENTENCE,) * 2, confines=own)
        generator = torch.Generator().manual_seed(0)
        rollouts.append(rollout(policy, env, starts, plan=plan, generator=generator))
        seen.append(torch.cat(env.chunks, dim=1))
    assert float(seen[0][..., :3].abs().max()) > 1e-3
    assert float(seen[1][..., :3].cumsum(1).abs().max()) < 1.1e-4
    assert torch.equal(seen[0][..., 3:], seen[1][..., 3:])
    assert torch.equal(rollouts[0].tokens[:, 0], rollouts[1].tokens[:, 0])


def test_starts_are_taken_with_their_confines() -> None:
    images = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    own = Confines(
        low=torch.tensor([[-1.0], [-2.0], [-3.0]]).expand(3, 3), high=torch.ones(3, 3), step=torch.ones(3)
    )
    taken = Starts(images=images, instructions=(SENTENCE,) * 3, confines=own).take([2, 0, 2])
    assert taken.confines is not None
    assert taken.confines.low[:, 0].tolist() == [-3.0, -1.0, -3.0]


def test_confines_of_another_number_of_starts_are_refused() -> None:
    images = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(BadTensor, match="starts: confines should be one per image, found 2 for 3 images"):
        Starts(images=images, instructions=(SENTENCE,) * 3, confines=unconfined(2))


@pytest.mark.parametrize("low", [0.1, float("nan")])
def test_a_box_without_inside_is_refused(low: float) -> None:
    with pytest.raises(BadTensor, match="low below high"):
        confines(low, 0.1)


def test_actions_of_another_batch_are_refused() -> None:
    with pytest.raises(BadTensor, match=r"\[2, L, A\]"):
        ConfinedArms(unconfined(2)).let_through(down(0.1))
