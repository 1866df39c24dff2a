"""A judge that learns where its instruction's subject is, and keeps its verdicts."""

from pathlib import Path

import pytest
import torch

from daemon.learning.batch import Clip
from daemon.learning.errors import BadTensor
from daemon.learning.reward.classifier import ClassifierJudge, new_judge
from daemon.learning.reward.looking import NothingMarked, shares_of, train_to_look

RED, BLUE = "find the red square", "find the blue square"


def squares(instruction: str, *, seed: int, frames: int = 40) -> Clip:
    """A red and a blue square on grey, each on one of 64 places; the one that is asked for is marked."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.full((frames, 3, 64, 64), 100, dtype=torch.uint8)
    subject = torch.zeros(frames, 64, 64, dtype=torch.bool)
    for frame in range(frames):
        places = torch.randperm(64, generator=generator)[:2].tolist()
        for place, channel, asked in zip(places, (0, 2), (RED, BLUE), strict=True):
            rows, columns = (slice(8 * at, 8 * at + 8) for at in divmod(place, 8))
            pictures[frame, :, rows, columns] = 0
            pictures[frame, channel, rows, columns] = 255
            subject[frame, rows, columns] |= asked == instruction
    return Clip(
        frames=pictures,
        actions=torch.zeros(frames - 1, 7),
        instruction=instruction,
        episode_id=f"{instruction}-{seed}",
        subject=subject,
    )


def taught(*clips: Clip, updates: int = 300) -> ClassifierJudge:
    judge = new_judge((RED, BLUE), seed=0, width=32)
    train_to_look(judge, clips, updates=updates, seed=0, batch=32, on_update=lambda *_: None)
    return judge


@pytest.fixture(scope="module")
def judge() -> ClassifierJudge:
    return taught(*(squares(sentence, seed=seed) for sentence in (RED, BLUE) for seed in range(10, 16)))


@pytest.mark.parametrize("instruction", [RED, BLUE])
def test_it_finds_in_new_pictures_what_each_instruction_is_about(judge: ClassifierJudge, instruction: str):
    unseen = squares(instruction, seed=7)
    found = judge.subject_shares(unseen.frames, instruction)
    assert found.shape == (40, 8, 8)
    where = found.flatten(1).argmax(1)
    assert (where == shares_of(unseen, 8).flatten(1).argmax(1)).float().mean() > 0.8


def test_learning_to_look_changes_no_verdict():
    frames = squares(RED, seed=3).frames
    fresh, looks = new_judge((RED, BLUE), seed=0, width=32), taught(squares(RED, seed=1), updates=5)
    before, after = (own.probabilities(frames, [RED] * len(frames)) for own in (fresh, looks))
    assert torch.equal(before, after)


def test_a_checkpoint_keeps_what_was_learned(judge: ClassifierJudge, tmp_path: Path):
    judge.save(tmp_path / "judge.safetensors", {})
    again = ClassifierJudge.load(tmp_path / "judge.safetensors")
    frames = squares(BLUE, seed=4).frames
    assert again.looks
    assert torch.allclose(
        again.subject_shares(frames, BLUE), judge.subject_shares(frames, BLUE), atol=5e-3
    ), "half precision"


def test_a_judge_that_has_not_learned_it_says_so(tmp_path: Path):
    untaught = new_judge((RED, BLUE), seed=0, width=32)
    untaught.save(tmp_path / "judge.safetensors", {})
    assert not untaught.looks
    assert not ClassifierJudge.load(tmp_path / "judge.safetensors").looks
    with pytest.raises(BadTensor, match="one that has learned to look, found one without"):
        untaught.subject_shares(squares(RED, seed=1).frames, RED)


def test_without_marks_there_is_nothing_to_learn_from():
    blind = Clip(
        frames=squares(RED, seed=1).frames, actions=torch.zeros(39, 7), instruction=RED, episode_id="blind"
    )
    judge = new_judge((RED, BLUE), seed=0, width=32)
    with pytest.raises(NothingMarked, match="none of 1 clips marks its subject"):
        train_to_look(judge, [blind], updates=1, seed=0, on_update=lambda *_: None)
    with pytest.raises(NothingMarked):
        shares_of(blind, 8)
    assert not judge.looks


def test_a_place_counts_by_the_share_of_it_that_shows_the_subject():
    clip = squares(RED, seed=5, frames=2)
    assert clip.subject is not None
    clip.subject[:] = False
    clip.subject[0, :4, :8] = True  # the upper half of the first place
    assert shares_of(clip, 8)[0, 0, 0] == 0.5
    assert shares_of(clip, 8).sum() == 0.5
