"""Questions to a vision-language model, answers as models really write them, and how votes are counted."""

import itertools

import pytest

from daemon.learning.reward.vlm import EVERY, Rubric, question, read_answer, readable, shown, tally

ALL_OR_NOTHING = Rubric()
WITH_HALF = Rubric(done="the drawer is open", partly="the hand touches the handle")

READABLE = [
    ("Score: 1", 1.0),
    ("Score: 0", 0.0),
    ("The drawer stands open.\nScore: 1", 1.0),
    ("score: 1", 1.0),
    ("SCORE: 0", 0.0),
    ("Score:1", 1.0),
    ("Score : 0", 0.0),
    ("Score = 1", 1.0),
    ("**Score: 1**", 1.0),
    ("`Score: 0`", 0.0),
    ("> Score: 1", 1.0),
    ("### Score: 1", 1.0),
    ("- Score: 0", 0.0),
    ("Score: 1.0", 1.0),
    ("Score: 0.00", 0.0),
    ("Score: 1.", 1.0),
    ("Score: 1\n\n   \n", 1.0),
    ("Score: 0\nNo: the drawer moved.\nScore: 1", 1.0),  # the last line counts
    ("  Score: 1  ", 1.0),
    ("Score: 1\r\n", 1.0),
]
UGLY = [
    "",
    "   \n\n",
    "I cannot judge this.",
    "1",
    "Yes",
    "Score:",
    "Score: X",
    "Score: 2",
    "Score: -1",
    "Score: 10",
    "Score: 0.7",
    "Score: 1/1",
    "Score: 1 out of 1",
    "Score: 1 or 0",
    "Score: one",
    "Score: 1 (the drawer is open)",
    "The score is 1",
    "Score: 1\nI hope that helps!",
    "Final: 1",
    '{"score": 1}',
    "Score: 1, Score: 0",
    "Score: 1e0",
    "Score: ١",  # a digit, and not one that was asked for
    "Sc0re: 1",
    "Score: 0.5",  # no half points were offered
]


@pytest.mark.parametrize(("text", "score"), READABLE)
def test_a_score_on_the_last_line_is_read_whatever_decorates_it(text: str, score: float) -> None:
    assert read_answer(text, ALL_OR_NOTHING) == score


@pytest.mark.parametrize("text", UGLY)
def test_everything_else_is_no_vote(text: str) -> None:
    assert read_answer(text, ALL_OR_NOTHING) is None


@pytest.mark.parametrize("text", ["Score: ?", "All is blurred.\n**score: ?**"])
def test_that_nothing_can_be_seen_is_an_answer_and_no_vote(text: str) -> None:
    assert read_answer(text, ALL_OR_NOTHING) is None
    assert readable(text, ALL_OR_NOTHING)


@pytest.mark.parametrize("text", UGLY)
def test_what_cannot_be_read_is_no_answer(text: str) -> None:
    assert not readable(text, ALL_OR_NOTHING)


def test_a_model_is_not_asked_to_call_failed_what_it_cannot_see() -> None:
    assert "does not show how things stand, score ?" in question("open it", ALL_OR_NOTHING, pictures=3)


@pytest.mark.parametrize("text", ["Score: 0.5", "Score: .5", "score: 0.50"])
def test_half_a_point_counts_where_the_rubric_offers_it(text: str) -> None:
    assert read_answer(text, WITH_HALF) == 0.5
    assert read_answer(text, ALL_OR_NOTHING) is None


@pytest.mark.parametrize(
    ("scores", "known", "success", "probability"),
    [
        ([1, 1, 1, 1, 1], True, True, 1.0),
        ([0, 0, 0, 0, 0], True, False, 0.0),
        ([1, 1, 1, 0, 0], True, True, 0.6),
        ([1, 1, 0, 0], False, False, 0.5),  # a tie is no verdict
        ([1, 0, None, None, None], False, False, 0.5),
        ([1, None, None, None, None], False, True, 1.0),  # not even half could be read
        ([1, 1, 1, None, None], True, True, 1.0),
        ([None] * 5, False, False, 0.5),  # nobody answered: nobody failed
        ([0.5, 0.5, 0.5], True, False, 0.0),  # half a point is no success
        ([1, 1, 0.5], True, True, 2 / 3),
    ],
)
def test_votes_that_agree_are_a_verdict_and_all_else_is_unknown(scores, known, success, probability) -> None:
    found = tally(scores, agreement=0.6)
    assert (found.known, found.success) == (known, success)
    assert found.probability == pytest.approx(probability)
    assert found.votes == sum(score is not None for score in scores)


def test_how_many_must_agree_is_asked() -> None:
    assert tally([1, 1, 1, 0, 0], agreement=0.6).known
    assert not tally([1, 1, 1, 0, 0], agreement=0.8).known


@pytest.mark.parametrize(("frames", "places"), [(41, 14), (1, 1), (2, 1), (4, 2), (7, 3)])
def test_every_third_frame_is_shown_and_always_the_last(frames: int, places: int) -> None:
    found = shown(frames)
    assert len(found) == places
    assert found[-1] == frames - 1
    assert all(later - earlier == EVERY for earlier, later in itertools.pairwise(found))
    assert found[0] < EVERY


def test_a_question_says_what_counts_and_which_scores_there_are() -> None:
    text = question("open the drawer", WITH_HALF, pictures=14)
    assert "14 pictures" in text
    assert "told: open the drawer" in text
    assert "Score 1 if, in the last picture, the drawer is open." in text
    assert "Score 0.5 if that is not so, but the hand touches the handle." in text
    assert "(X is one of 0, 0.5, 1, ?)" in text


def test_without_a_rubric_the_instruction_is_what_counts_and_there_is_no_half_point() -> None:
    text = question("open the drawer", ALL_OR_NOTHING, pictures=2)
    assert "was achieved: open the drawer" in text
    assert "0.5" not in text
