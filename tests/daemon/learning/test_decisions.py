"""Decisions: which rollouts are learned from, and that each decision keeps what belongs to it."""

import pytest
import torch

from daemon.learning.decisions import Decisions, decisions_of, joined, minibatches
from daemon.learning.errors import BadTensor
from daemon.learning.grpo import GroupTooSmall
from daemon.learning.reward.judge import Verdicts
from daemon.learning.rollout import Rollouts

CHUNKS = 3
BOUNDS = (0.1, 0.9)


def rollouts(count: int, *, chunks: list[int] | None = None) -> Rollouts:
    """Rollout b at chunk k has number 10·b + k in its picture, its tokens and its log-probabilities.

    It was over after `chunks[b]` of them; without that, after all.
    """
    taken = torch.tensor(chunks or [CHUNKS] * count)
    numbers = torch.arange(count)[:, None] * 10 + torch.arange(CHUNKS)  # [B, K]
    images = numbers.to(torch.uint8)[:, :, None, None, None].expand(-1, -1, 3, 4, 4).clone()
    tokens = numbers[:, :, None, None].expand(-1, -1, 2, 7).clone()
    return Rollouts(
        images=images,
        instructions=tuple(f"task {b}" for b in range(count)),
        tokens=tokens,
        log_probs=-tokens.float(),
        valid=torch.arange(CHUNKS) < taken[:, None],
        final_frames=images[:, -1:],
    )


def verdicts(success: list[int], known: list[int] | None = None) -> Verdicts:
    verdict = torch.tensor(success, dtype=torch.bool)
    return Verdicts(
        success=verdict,
        known=torch.tensor(known or [1] * len(success), dtype=torch.bool),
        probability=verdict.float(),
    )


def groups_of(success: list[int], known: list[int] | None = None, *, group_size: int = 4) -> list[Decisions]:
    return decisions_of(
        rollouts(len(success)), verdicts(success, known), group_size=group_size, bounds=BOUNDS
    )[0]


def kept(success: list[int], known: list[int] | None = None, *, group_size: int = 4) -> Decisions:
    return joined(groups_of(success, known, group_size=group_size))


def numbers(decisions: Decisions) -> list[int]:
    return decisions.tokens[:, 0, 0].tolist()


def test_only_groups_with_spread_are_kept() -> None:
    groups, informative = decisions_of(
        rollouts(12),
        verdicts([0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1]),
        group_size=4,
        bounds=BOUNDS,
    )
    assert informative.tolist() == [False, True, False]
    assert [numbers(group) for group in groups] == [[40, 41, 42, 50, 51, 52, 60, 61, 62, 70, 71, 72]]


def test_groups_come_one_by_one_in_their_order() -> None:
    groups = groups_of([1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1])
    assert [numbers(group)[0] for group in groups] == [0, 80]
    assert [len(group) for group in groups] == [12, 12]
    together = joined(groups)
    assert numbers(together) == numbers(groups[0]) + numbers(groups[1])
    assert together.instructions == groups[0].instructions + groups[1].instructions
    assert together.advantages.tolist() == groups[0].advantages.tolist() + groups[1].advantages.tolist()


def test_each_decision_carries_the_advantage_of_its_rollout() -> None:
    decisions = kept([1, 0, 0, 1])
    assert decisions.advantages.tolist() == [1.0] * 3 + [-1.0] * 6 + [1.0] * 3


def test_picture_sentence_tokens_and_log_probabilities_stay_together() -> None:
    decisions = kept([1, 0, 0, 1, 0, 1, 0, 0])
    for row, number in enumerate(numbers(decisions)):
        assert int(decisions.images[row, 0, 0, 0]) == number
        assert decisions.instructions[row] == f"task {number // 10}"
        assert decisions.log_probs[row].eq(-number).all()


def test_rollouts_on_which_the_judge_declined_are_left_out() -> None:
    decisions = kept([1, 0, 1, 0], [1, 1, 0, 1])
    assert {number // 10 for number in numbers(decisions)} == {0, 1, 3}
    assert sum(set(decisions.advantages.tolist())) != 0  # one success against two failures
    assert decisions.advantages.sum().item() == pytest.approx(0, abs=1e-5)


def test_what_came_after_the_end_of_a_rollout_is_no_decision() -> None:
    """Two successes of four: advantages 1, -1, -1, 1, one for each decision before the end."""
    over = rollouts(4, chunks=[1, 3, 2, 3])
    (group,), _ = decisions_of(over, verdicts([1, 0, 0, 1]), group_size=4, bounds=BOUNDS)
    assert numbers(group) == [0, 10, 11, 12, 20, 21, 30, 31, 32]
    assert group.advantages.tolist() == [1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0]
    assert group.instructions == ("task 0", *["task 1"] * 3, *["task 2"] * 2, *["task 3"] * 3)
    assert group.images[:, 0, 0, 0].tolist() == numbers(group)
    assert group.log_probs[:, 0, 0].tolist() == [-number for number in numbers(group)]


def test_a_rollout_of_which_nothing_is_valid_is_compared_with_and_not_learned_from() -> None:
    over = rollouts(4, chunks=[0, 3, 0, 1])
    (group,), informative = decisions_of(over, verdicts([1, 0, 0, 1]), group_size=4, bounds=BOUNDS)
    assert informative.tolist() == [True]
    assert numbers(group) == [10, 11, 12, 30]
    assert group.advantages.tolist() == [-1.0, -1.0, -1.0, 1.0]
    (nothing,), _ = decisions_of(
        rollouts(4, chunks=[0] * 4), verdicts([1, 0, 0, 1]), group_size=4, bounds=BOUNDS
    )
    assert len(nothing) == 0
    assert list(minibatches(nothing, 5, generator=torch.Generator())) == []


def test_an_end_and_a_judge_that_declined_are_two_reasons_to_be_left_out() -> None:
    over = rollouts(8, chunks=[3, 3, 3, 3, 1, 2, 3, 3])
    told = verdicts([0, 0, 0, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1, 0, 1])
    (group,), _ = decisions_of(over, told, group_size=4, bounds=BOUNDS)
    assert numbers(group) == [40, 50, 51, 70, 71, 72]


def test_a_group_that_is_uneven_only_in_unknown_verdicts_is_dropped() -> None:
    assert groups_of([1, 1, 1, 0], [1, 1, 1, 0]) == []


def test_nothing_informative_leaves_nothing() -> None:
    assert groups_of([0] * 8) == []


def test_bounds_decide_what_informs() -> None:
    one = verdicts([1, 0, 0, 0])
    wide, informative = decisions_of(rollouts(4), one, group_size=4, bounds=(0.0, 1.0))
    assert ([len(group) for group in wide], informative.tolist()) == ([12], [True])
    narrow, informative = decisions_of(rollouts(4), one, group_size=4, bounds=(0.4, 0.6))
    assert (narrow, informative.tolist()) == ([], [False])


@pytest.mark.parametrize(("count", "group_size"), [(6, 4), (4, 0), (3, 2)])
def test_rollouts_must_come_in_whole_groups(count: int, group_size: int) -> None:
    with pytest.raises(BadTensor, match="whole groups"):
        kept([1] * count, group_size=group_size)


def test_every_rollout_needs_a_verdict() -> None:
    with pytest.raises(BadTensor, match="verdicts"):
        decisions_of(rollouts(4), verdicts([1, 0]), group_size=2, bounds=BOUNDS)


def test_groups_of_one_are_refused() -> None:
    with pytest.raises(GroupTooSmall):
        kept([1, 0], group_size=1)


@pytest.mark.parametrize("size", [1, 5, 7, 12, 100])
def test_a_pass_sees_every_decision_once_in_parts_that_are_not_too_large(size: int) -> None:
    decisions = kept([1, 0, 0, 1])
    parts = list(minibatches(decisions, size, generator=torch.Generator().manual_seed(0)))
    assert sorted(number for part in parts for number in numbers(part)) == sorted(numbers(decisions))
    assert max(len(part) for part in parts) <= size
    assert max(len(part) for part in parts) - min(len(part) for part in parts) <= 1


def test_passes_are_shuffled_by_the_seed() -> None:
    decisions = kept([1, 0, 0, 1])

    def order(seed: int) -> list[int]:
        parts = minibatches(decisions, 5, generator=torch.Generator().manual_seed(seed))
        return [number for part in parts for number in numbers(part)]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0) != numbers(decisions)


def test_taking_rows_takes_everything_that_belongs_to_them() -> None:
    taken = kept([1, 0, 0, 1]).take(torch.tensor([4, 0]))
    assert numbers(taken) == [11, 0]
    assert taken.instructions == ("task 1", "task 0")
    assert taken.images[:, 0, 0, 0].tolist() == [11, 0]
    assert taken.advantages.tolist() == [-1.0, 1.0]
    assert taken.log_probs[:, 0, 0].tolist() == [-11.0, 0.0]
