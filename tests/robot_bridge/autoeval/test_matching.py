"""Attempts and trajectories pair by their actions, and only when they saw the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot_bridge.autoeval.matching import best_match
from robot_bridge.frames import encode_jpeg
from tests.robot_bridge.autoeval.rollouts import Rollout


def test_equal_actions_and_equal_sights_are_a_match() -> None:
    rollout, other = Rollout.random(seed=1), Rollout.random(seed=2)
    match = best_match(rollout.trajectory(), [other.attempt(0), rollout.attempt(1)])
    assert match is not None
    assert (match.attempt.index, match.agrees) == (1, True)


def test_one_bit_in_one_action_is_another_attempt() -> None:
    rollout = Rollout.random()
    action = rollout.action.copy()
    action[2, 3] = np.nextafter(action[2, 3], np.float32(1.0))
    assert best_match(rollout.trajectory(action=action), [rollout.attempt()]) is None


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_more_or_fewer_actions_are_another_attempt(steps: int) -> None:
    longer = Rollout.random(5)
    cut = Rollout(longer.frames[: steps + 1], longer.proprio[: steps + 1], longer.action[:steps])
    match = best_match(longer.trajectory(), [cut.attempt()])
    assert (match is not None) is (steps == 5)


def test_what_was_sent_counts_and_not_what_the_policy_decided() -> None:
    rollout = Rollout.random()
    attempt = rollout.attempt(policy_action=rollout.action + 1, rotation="bridge_compensated")
    assert best_match(rollout.trajectory(), [attempt]) is not None
    assert best_match(rollout.trajectory(action=rollout.action + 1), [attempt]) is None


def test_equal_actions_with_other_pictures_do_not_agree() -> None:
    rollout = Rollout.random()
    forged = tuple(encode_jpeg(255 - frame) for frame in rollout.frames[:-1])
    match = best_match(rollout.trajectory(), [rollout.attempt(jpegs=forged)])
    assert match is not None
    assert not match.agrees


def test_a_single_other_picture_is_enough_to_disagree() -> None:
    rollout = Rollout.random()
    jpegs = list(rollout.attempt().jpegs)
    jpegs[2] = encode_jpeg(np.roll(rollout.frames[2], 60, axis=1))
    match = best_match(rollout.trajectory(), [rollout.attempt(jpegs=tuple(jpegs))])
    assert match is not None
    assert not match.agrees


def test_equal_pictures_with_another_pose_do_not_agree() -> None:
    rollout = Rollout.random()
    proprio = rollout.proprio[:-1].copy()
    proprio[3, 2] += 0.002
    match = best_match(rollout.trajectory(), [rollout.attempt(proprio=proprio)])
    assert match is not None
    assert not match.agrees


def test_the_first_state_is_not_compared_because_it_is_not_published() -> None:
    rollout = Rollout.random()
    proprio = rollout.proprio[:-1].copy()
    proprio[0] += 1.0
    match = best_match(rollout.trajectory(), [rollout.attempt(proprio=proprio)])
    assert match is not None
    assert match.agrees


def test_of_two_attempts_with_equal_actions_the_one_that_saw_the_same_is_it() -> None:
    """A policy that holds still sends the same numbers in every attempt."""
    rollout = Rollout.random()
    elsewhere = replace(rollout, frames=Rollout.random(seed=9).frames, proprio=Rollout.random(seed=9).proprio)
    for attempts in (
        [elsewhere.attempt(0), rollout.attempt(1)],
        [rollout.attempt(0), elsewhere.attempt(1)],
    ):
        match = best_match(rollout.trajectory(), attempts)
        assert match is not None
        assert match.agrees
        assert np.array_equal(match.attempt.proprio, rollout.proprio[:-1])


def test_of_two_attempts_that_cannot_be_told_apart_the_earlier_is_it() -> None:
    rollout = Rollout.random()
    match = best_match(rollout.trajectory(), [rollout.attempt(3), rollout.attempt(2)])
    assert match is not None
    assert match.attempt.index == 2


def test_one_step_has_nothing_to_compare_and_agrees() -> None:
    rollout = Rollout.random(1)
    match = best_match(rollout.trajectory(), [rollout.attempt()])
    assert match is not None
    assert (match.agrees, match.difference) == (True, 0.0)


def test_no_attempt_is_no_match() -> None:
    assert best_match(Rollout.random().trajectory(), []) is None
