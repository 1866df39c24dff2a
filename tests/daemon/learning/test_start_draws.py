"""Which starts come next: all in turn, or those whose groups will tell most apart."""

import pytest
import torch

from daemon.learning.start_draws import StartDraws

LEFT, RIGHT = "push it left", "push it right"


def draws_of(*instructions: str, seed: int = 0, by_promise: bool = False) -> StartDraws:
    generator = torch.Generator().manual_seed(seed)
    return StartDraws(instructions, generator=generator, by_promise=by_promise)


def test_instructions_take_turns_and_starts_come_round_before_they_repeat() -> None:
    drawn = draws_of(*[RIGHT] * 5, *[LEFT] * 2).draw(20)
    assert [row >= 5 for row in drawn] == [False, True] * 10
    assert sorted(drawn[0:10:2]) == [0, 1, 2, 3, 4]
    assert sorted(drawn[10:20:2]) == [0, 1, 2, 3, 4]
    assert [sorted(drawn[place : place + 4 : 2]) for place in (1, 5, 9)] == [[5, 6]] * 3


def test_turns_go_on_from_one_draw_to_the_next() -> None:
    draws, at_once = draws_of(*[RIGHT] * 5, LEFT), draws_of(*[RIGHT] * 5, LEFT)
    assert [row for _ in range(6) for row in draws.draw(2)] == at_once.draw(12)


@pytest.mark.parametrize("by_promise", [False, True])
def test_draws_are_shuffled_by_the_seed(by_promise: bool) -> None:
    first, again, other = (draws_of(*[RIGHT] * 10, seed=s, by_promise=by_promise).draw(10) for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_promise_of_a_start_is_its_expected_variance() -> None:
    draws = draws_of(RIGHT, RIGHT, RIGHT)
    assert draws.promises().tolist() == pytest.approx([4 / 20] * 3)  # Beta(2, 2): nothing is known yet
    draws.learn([0, 1], [5, 8], [8, 8])
    after = draws.promises().tolist()  # 13 of 16 succeeded, so m = 14 / 18 and the prior Beta(28/9, 8/9)
    assert after[0] == pytest.approx((28 / 9 + 5) * (8 / 9 + 3) / (12 * 13))
    assert after[1] == pytest.approx((28 / 9 + 8) * (8 / 9) / (12 * 13))
    assert after[2] == pytest.approx((28 / 9) * (8 / 9) / (4 * 5))
    assert after[0] > after[2] > after[1], "unknown lies between mixed and certain"


def test_starts_of_an_instruction_that_always_succeeds_promise_little_before_they_were_drawn() -> None:
    draws = draws_of(*[RIGHT] * 4, *[LEFT] * 4, by_promise=True)
    for _ in range(5):
        draws.learn([0, 4], [8, 3], [8, 8])
    promises = draws.promises()
    assert float(promises[5:].min()) > 4 * float(promises[1:4].max())
    drawn = [row for _ in range(100) for row in draws.draw(4)]
    assert sum(row < 4 for row in drawn) < 100, "a quarter of the draws at most"
    assert any(row < 4 for row in drawn), "none is given up for good"


def test_starts_that_told_most_apart_come_most_often() -> None:
    draws = draws_of(*[RIGHT] * 3, by_promise=True)
    for _ in range(10):
        draws.learn([0, 1, 2], [4, 8, 0], [8, 8, 8])
    drawn = [draws.draw(1)[0] for _ in range(300)]
    assert drawn.count(0) > 3 * max(drawn.count(1), drawn.count(2))
    assert min(drawn.count(1), drawn.count(2)) > 0, "none is given up for good"


def test_a_start_does_not_crowd_out_the_others_within_one_draw() -> None:
    draws = draws_of(*[RIGHT] * 8, by_promise=True)
    drawn = draws.draw(8)
    assert len(set(drawn)) >= 5


def test_what_a_start_said_long_ago_fades() -> None:
    draws = draws_of(RIGHT)
    for _ in range(50):
        draws.learn([0], [8], [8])
    certain = draws.promises().item()
    for _ in range(3):
        draws.learn([0], [4], [8])
    assert draws.promises().item() > 2 * certain


def test_verdicts_that_were_declined_say_nothing() -> None:
    draws = draws_of(RIGHT)
    before = draws.outcomes.clone()
    draws.learn([0], [0], [0])
    assert torch.equal(draws.outcomes, before)
