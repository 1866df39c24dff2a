"""GRPO by hand: numbers worked on paper, invariances, and the direction in which a policy moves."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.learning.errors import BadTensor
from daemon.learning.grpo import (
    ClipRange,
    ClipRangeInvalid,
    GroupTooSmall,
    PolicyLoss,
    RatioOf,
    clipped_policy_loss,
    group_advantages,
    informative_groups,
    kl_penalty,
)

WIDE = ClipRange(low=0.99, high=1e6)
grids = st.integers(1, 4).flatmap(
    lambda rows: st.lists(
        st.lists(st.sampled_from([0.0, 1.0]), min_size=6, max_size=6), min_size=rows, max_size=rows
    )
)


def loss_of(
    log_probs: torch.Tensor,
    advantages: list[float],
    *,
    old: torch.Tensor | None = None,
    valid: torch.Tensor | None = None,
    clip: ClipRange | None = None,
    ratio_of: RatioOf = "token",
) -> PolicyLoss:
    return clipped_policy_loss(
        log_probs,
        torch.zeros_like(log_probs) if old is None else old,
        advantages=torch.tensor(advantages),
        valid=torch.ones_like(log_probs, dtype=torch.bool) if valid is None else valid,
        clip=clip or ClipRange(low=0.1, high=0.3),
        ratio_of=ratio_of,
    )


# ---- advantages


def test_advantages_worked_by_hand() -> None:
    returns = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    thirds = 1 / math.sqrt(3)  # mean 1/4, deviation sqrt(3)/4
    expected = torch.tensor([[3 * thirds, -thirds, -thirds, -thirds], [-1.0, -1.0, 1.0, 1.0]])
    torch.testing.assert_close(group_advantages(returns), expected)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e6])
@pytest.mark.parametrize("size", [2, 7, 8])
def test_equal_returns_teach_nothing(value: float, size: int) -> None:
    """Seven float32 returns of 0.1 have a mean that is not 0.1; the difference must not be blown up."""
    assert group_advantages(torch.full((3, size), value)).abs().max() == 0


@given(grids)
@settings(max_examples=50, deadline=None)
def test_every_row_has_mean_zero_and_deviation_one_or_is_silent(grid: list[list[float]]) -> None:
    returns = torch.tensor(grid)
    advantages = group_advantages(returns)
    assert advantages.mean(1).abs().max() < 1e-5
    spread = advantages.square().mean(1)
    uneven = returns.std(1) > 0
    assert torch.allclose(spread, uneven.float(), atol=1e-5)


@given(grids, st.floats(-5, 5), st.floats(0.5, 4))
@settings(max_examples=50, deadline=None)
def test_shifting_or_scaling_all_returns_changes_nothing(
    grid: list[list[float]], shift: float, scale: float
) -> None:
    returns = torch.tensor(grid)
    torch.testing.assert_close(
        group_advantages(returns * scale + shift), group_advantages(returns), atol=1e-4, rtol=1e-4
    )


def test_the_order_within_a_group_and_of_groups_does_not_matter() -> None:
    returns = torch.tensor([[1.0, 0.0, 0.5, 0.2], [0.0, 1.0, 1.0, 1.0]])
    order = torch.tensor([2, 0, 3, 1])
    base = group_advantages(returns)
    torch.testing.assert_close(group_advantages(returns[:, order]), base[:, order])
    torch.testing.assert_close(group_advantages(returns.flip(0)), base.flip(0))


def test_groups_do_not_see_each_other() -> None:
    one = torch.tensor([[1.0, 0.0, 0.0]])
    for other in (0.0, 1.0, 100.0):
        both = torch.cat([one, torch.full((1, 3), other)])
        torch.testing.assert_close(group_advantages(both)[:1], group_advantages(one))


def test_unknown_rollouts_leave_the_group() -> None:
    returns = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0]])
    known = torch.tensor([[True, True, False, False, True]])
    with_unknown = group_advantages(returns, known)
    assert with_unknown[0, 2:4].tolist() == [0.0, 0.0]
    torch.testing.assert_close(
        with_unknown[0, [0, 1, 4]], group_advantages(torch.tensor([[1.0, 0.0, 0.0]]))[0]
    )


def test_what_an_unknown_rollout_returned_is_never_read() -> None:
    known = torch.tensor([[True, True, False]])
    for rubbish in (0.0, 1.0, math.nan, math.inf):
        returns = torch.tensor([[1.0, 0.0, rubbish]])
        assert group_advantages(returns, known).tolist() == [[1.0, -1.0, 0.0]]
        assert informative_groups(returns, known).tolist() == [True]


def test_a_group_nobody_judged_teaches_nothing() -> None:
    returns = torch.tensor([[1.0, 0.0]])
    assert group_advantages(returns, torch.zeros(1, 2, dtype=torch.bool)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 2, 2), (3, 0)])
def test_a_group_of_one_is_no_group(shape: tuple[int, ...]) -> None:
    with pytest.raises(GroupTooSmall) as refused:
        group_advantages(torch.zeros(shape))
    assert str(list(shape)) in str(refused.value)
    with pytest.raises(GroupTooSmall):
        informative_groups(torch.zeros(shape))


def test_a_known_return_must_be_a_number() -> None:
    with pytest.raises(BadTensor, match="finite"):
        group_advantages(torch.tensor([[1.0, math.nan]]))


@pytest.mark.parametrize("known", [torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 2)])
def test_known_must_fit_the_returns(known: torch.Tensor) -> None:
    with pytest.raises(BadTensor, match=r"bool \[1, 2\]"):
        group_advantages(torch.zeros(1, 2), known)


# ---- informative groups


@pytest.mark.parametrize(
    ("successes", "informative"), [(0, False), (1, True), (4, True), (7, True), (8, False)]
)
def test_of_eight_rollouts_one_to_seven_successes_inform(successes: int, informative: bool) -> None:
    returns = (torch.arange(8) < successes).float().unsqueeze(0)
    assert informative_groups(returns).tolist() == [informative]


@pytest.mark.parametrize(("successes", "informative"), [(0, False), (1, True), (9, True), (10, False)])
def test_a_group_on_the_bound_informs_despite_rounding(successes: int, informative: bool) -> None:
    returns = (torch.arange(10) < successes).float().unsqueeze(0)
    assert informative_groups(returns, low=0.1, high=0.9).tolist() == [informative]


def test_bounds_can_be_narrower() -> None:
    returns = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    assert informative_groups(returns, low=0.4, high=0.6).tolist() == [False, True, False]


def test_only_known_rollouts_count_towards_a_group() -> None:
    returns = torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 3)
    known = torch.tensor(
        [[True, True, False, False], [True, False, True, False], [True, False, False, False]]
    )
    assert informative_groups(returns, known).tolist() == [False, True, False]


@pytest.mark.parametrize(("judged", "informative"), [(3, False), (4, True)])
def test_a_group_of_which_less_than_half_is_known_does_not_inform(judged: int, informative: bool) -> None:
    returns = torch.tensor([[1.0, 0.0] * 4])
    known = torch.arange(8)[None] < judged
    assert informative_groups(returns, known).tolist() == [informative]


# ---- the loss


@pytest.mark.parametrize(
    ("advantage", "ratio", "learns"),
    [
        (+1.0, 1.25, True),
        (+1.0, 1.35, False),  # better than its group, and already 35 % likelier
        (+1.0, 0.85, True),  # better, and rarer than it was: the clip must not protect it
        (-1.0, 0.95, True),
        (-1.0, 0.85, False),  # worse than its group, and already 15 % rarer
        (-1.0, 1.35, True),  # moved the wrong way: the clip must not protect it
    ],
)
def test_the_clip_stops_learning_only_once_the_policy_has_moved_enough(
    advantage: float, ratio: float, learns: bool
) -> None:
    log_probs = torch.tensor([[ratio]]).log().requires_grad_()
    result = loss_of(log_probs, [advantage])
    result.loss.backward()
    assert log_probs.grad is not None
    assert bool(log_probs.grad.abs() > 0) is learns
    assert result.clip_fraction == float(not learns)


def test_a_loss_worked_by_hand() -> None:
    log_probs = torch.tensor([[1.2, 1.5], [0.5, 1.0]]).log()
    result = loss_of(log_probs, [2.0, -1.0])
    # row one: 2·1.2 and 2·1.3 (clipped); row two: -0.9 (clipped) and -1
    assert result.loss.item() == pytest.approx(-((2.4 + 2.6) / 2 + (-0.9 - 1.0) / 2) / 2)
    assert result.clip_fraction.item() == 0.5
    kl = [r - 1 - math.log(r) for r in (1.2, 1.5, 0.5, 1.0)]
    assert result.approx_kl.item() == pytest.approx(sum(kl) / 4, rel=1e-5)


def test_at_the_first_step_the_gradient_is_that_of_the_plain_policy_gradient() -> None:
    log_probs = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]], requires_grad=True)
    result = loss_of(log_probs, [1.5, -0.5], old=log_probs.detach().clone())
    result.loss.backward()
    assert log_probs.grad is not None
    torch.testing.assert_close(log_probs.grad, torch.tensor([[-1.5] * 2, [0.5] * 2]) / 4)
    assert result.approx_kl == 0
    assert result.clip_fraction == 0


def test_descending_makes_better_rollouts_likelier_and_worse_ones_rarer() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    chosen = torch.tensor([0, 2])
    old = logits.detach().log_softmax(-1).gather(1, chosen[:, None])
    for _ in range(5):
        log_probs = logits.log_softmax(-1).gather(1, chosen[:, None])
        (gradient,) = torch.autograd.grad(loss_of(log_probs, [1.0, -1.0], old=old, clip=WIDE).loss, logits)
        with torch.no_grad():
            logits -= gradient
    after = logits.softmax(-1).gather(1, chosen[:, None]).detach()
    assert after[0] > 1 / 3 > after[1]


@pytest.mark.parametrize("ratio_of", ["token", "chunk"])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("moved", [-1000.0, 100.0, 1000.0])
def test_a_token_that_moved_absurdly_far_gives_no_gradient_and_no_nan(
    moved: float, advantage: float, ratio_of: RatioOf
) -> None:
    """Its ratio overflows, and zero times infinity is no number."""
    log_probs = torch.tensor([[moved], [0.5]], requires_grad=True)
    found = loss_of(log_probs, [advantage, -1.0], ratio_of=ratio_of)
    found.loss.backward()
    assert found.loss.isfinite()
    assert found.approx_kl.isfinite()
    assert found.approx_kl > 1, "and is far enough to end the update"
    assert log_probs.grad is not None
    assert log_probs.grad[0].item() == 0.0
    assert log_probs.grad[1].item() > 0, "the other row learns on"


def test_a_reference_that_is_absurdly_far_costs_a_finite_amount() -> None:
    log_probs = torch.full((1, 1), -500.0, requires_grad=True)
    kl_penalty(log_probs, torch.zeros(1, 1), valid=torch.ones(1, 1, dtype=torch.bool)).backward()
    assert log_probs.grad is not None
    assert log_probs.grad.isfinite().all()


def test_invalid_tokens_change_nothing_whatever_they_hold() -> None:
    log_probs = torch.tensor([[0.1, -0.2], [0.0, 0.2]], requires_grad=True)
    plain = loss_of(log_probs, [1.0, -1.0])
    (plain_gradient,) = torch.autograd.grad(plain.loss, log_probs)
    valid = torch.tensor([[True, True, False]] * 2)
    for rubbish in (5.0, -100.0, 100.0):
        padded = torch.cat([log_probs.detach(), torch.full((2, 1), rubbish)], dim=1).requires_grad_()
        result = loss_of(padded, [1.0, -1.0], valid=valid)
        (gradient,) = torch.autograd.grad(result.loss, padded)
        torch.testing.assert_close(result.loss, plain.loss)
        torch.testing.assert_close(gradient[:, :2], plain_gradient)
        assert gradient[:, 2].abs().max() == 0
        torch.testing.assert_close(result.clip_fraction, plain.clip_fraction)
        torch.testing.assert_close(result.approx_kl, plain.approx_kl)


def test_a_long_row_weighs_no_more_than_a_short_one() -> None:
    log_probs = torch.zeros(2, 4, requires_grad=True)
    valid = torch.tensor([[True] * 4, [True, False, False, False]])
    loss_of(log_probs, [1.0, 1.0], valid=valid).loss.backward()
    assert log_probs.grad is not None
    assert log_probs.grad.sum(1).tolist() == [-0.5, -0.5]


def test_a_row_without_valid_tokens_is_as_if_it_were_not_there() -> None:
    log_probs = torch.tensor([[0.1, -0.1], [0.3, 0.0]])
    valid = torch.tensor([[True, True], [False, False]])
    both = loss_of(log_probs, [1.0, -1.0], valid=valid)
    alone = loss_of(log_probs[:1], [1.0])
    torch.testing.assert_close(both.loss, alone.loss)


def test_rollouts_without_advantage_leave_the_policy_alone() -> None:
    log_probs = torch.zeros(3, 2, requires_grad=True)
    loss_of(log_probs, [0.0, 0.0, 0.0]).loss.backward()
    assert log_probs.grad is not None
    assert log_probs.grad.abs().max() == 0


def test_the_policy_that_acted_gets_no_gradient() -> None:
    old = torch.zeros(1, 2, requires_grad=True)
    loss_of(torch.zeros(1, 2, requires_grad=True), [1.0], old=old).loss.backward()
    assert old.grad is None


def test_measurements_carry_no_gradient() -> None:
    result = loss_of(torch.zeros(1, 2, requires_grad=True), [1.0])
    assert result.loss.requires_grad
    assert not result.clip_fraction.requires_grad
    assert not result.approx_kl.requires_grad


def test_the_estimated_divergence_is_never_negative() -> None:
    log_probs = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    for row in log_probs:
        assert loss_of(row.unsqueeze(0), [1.0]).approx_kl >= 0


@pytest.mark.parametrize(
    ("old", "advantages", "valid"),
    [
        (torch.zeros(2, 2), 2, torch.ones(2, 3, dtype=torch.bool)),
        (torch.zeros(2, 3), 3, torch.ones(2, 3, dtype=torch.bool)),
        (torch.zeros(2, 3), 2, torch.ones(2, 2, dtype=torch.bool)),
        (torch.zeros(2, 3), 2, torch.ones(2, 3)),
        (torch.zeros(2, 3), 2, torch.zeros(2, 3, dtype=torch.bool)),  # nothing to learn from
    ],
)
def test_tensors_that_do_not_fit_are_refused(old: torch.Tensor, advantages: int, valid: torch.Tensor) -> None:
    with pytest.raises(BadTensor):
        loss_of(torch.zeros(2, 3), [1.0] * advantages, old=old, valid=valid)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.2), (1.0, 0.2), (-0.1, 0.2), (0.2, 0.0), (0.2, math.inf), (math.nan, 0.2)]
)
def test_a_senseless_clip_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(ClipRangeInvalid) as refused:
        ClipRange(low=low, high=high)
    assert refused.value.code == "clip_range_invalid"


def test_the_default_range_is_that_of_the_paper() -> None:
    assert ClipRange() == ClipRange(low=0.2, high=0.28)


# ---- one ratio for a chunk


def test_the_ratio_of_a_chunk_is_the_geometric_mean_of_its_tokens() -> None:
    log_probs = torch.tensor([[1.6, 0.9], [1.0, 1.0]]).log()
    result = loss_of(log_probs, [1.0, 1.0], ratio_of="chunk", clip=ClipRange(low=0.1, high=0.5))
    assert result.loss.item() == pytest.approx(-(1.2 + 1.0) / 2)  # sqrt(1.6 · 0.9) = 1.2
    assert result.clip_fraction == 0  # although one of its tokens has moved by 60 %


def test_a_chunk_is_clipped_whole() -> None:
    log_probs = torch.tensor([[1.9, 1.0], [1.0, 1.0]]).log().requires_grad_()
    result = loss_of(log_probs, [1.0, 1.0], ratio_of="chunk")  # sqrt(1.9) = 1.38
    result.loss.backward()
    assert log_probs.grad is not None
    assert log_probs.grad[0].tolist() == [0.0, 0.0]
    assert result.clip_fraction == 0.5
    by_token = loss_of(log_probs.detach().requires_grad_(), [1.0, 1.0])
    assert by_token.clip_fraction == 0.25


def test_the_ratio_of_a_chunk_does_not_see_invalid_tokens() -> None:
    log_probs = torch.tensor([[1.2, 1.2, 5.0]]).log()
    valid = torch.tensor([[True, True, False]])
    result = loss_of(log_probs, [1.0], valid=valid, ratio_of="chunk")
    assert result.loss.item() == pytest.approx(-1.2)


def test_at_the_first_step_both_ratios_have_the_same_gradient() -> None:
    gradients = []
    for ratio_of in ("token", "chunk"):
        log_probs = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]], requires_grad=True)
        loss_of(log_probs, [1.5, -0.5], old=log_probs.detach().clone(), ratio_of=ratio_of).loss.backward()
        gradients.append(log_probs.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


# ---- staying near a reference


def test_the_divergence_worked_by_hand() -> None:
    log_probs, reference = torch.tensor([[0.5, 0.2]]).log(), torch.tensor([[0.25, 0.4]]).log()
    valid = torch.ones(1, 2, dtype=torch.bool)
    by_hand = [(0.5 - 1 - math.log(0.5)), (2.0 - 1 - math.log(2.0))]
    assert kl_penalty(log_probs, reference, valid=valid).item() == pytest.approx(sum(by_hand) / 2)


def test_agreeing_with_the_reference_costs_nothing_and_leaving_it_either_way_costs() -> None:
    reference, valid = torch.tensor([[-1.0]]), torch.ones(1, 1, dtype=torch.bool)
    costs = [kl_penalty(reference + off, reference, valid=valid).item() for off in (-0.5, 0.0, 0.5)]
    assert costs[1] == 0
    assert min(costs[0], costs[2]) > 0


def test_descending_the_divergence_leads_back_to_the_reference() -> None:
    reference, valid = torch.tensor([[-1.0]]), torch.ones(1, 1, dtype=torch.bool)
    for off in (-0.5, 0.5):
        log_probs = (reference + off).requires_grad_()
        kl_penalty(log_probs, reference, valid=valid).backward()
        assert log_probs.grad is not None
        assert math.copysign(1, log_probs.grad.item()) == math.copysign(1, off)


def test_invalid_tokens_do_not_count_towards_the_divergence() -> None:
    log_probs, reference = torch.tensor([[-1.0, -9.0]]), torch.tensor([[-1.2, -0.1]])
    valid = torch.tensor([[True, False]])
    alone = kl_penalty(log_probs[:, :1], reference[:, :1], valid=valid[:, :1])
    torch.testing.assert_close(kl_penalty(log_probs, reference, valid=valid), alone)
