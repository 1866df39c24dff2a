"""A vision-language model in this process: the verdict is read off the logits of the two answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import is_torchvision_available

from daemon.judges.vlm_local import JudgeModelUnusable, VlmLocalJudge
from daemon.learning.errors import BadTensor
from daemon.learning.reward.vlm import Rubric
from tests.daemon.learning.policy.tiny_vlms import (
    COPIES,
    FAMILIES,
    PATCH,
    SIDE,
    WORDS,
    a_llava,
    a_llava_processor,
    a_tokenizer,
)

pytestmark = pytest.mark.filterwarnings(COPIES)

INSTRUCTION = "open the drawer"


def films(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(256, (count, 7, 3, 32, 32), generator=generator).byte()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("eyes")
    FAMILIES["llava"](found)
    return found


@pytest.fixture(scope="module", params=FAMILIES)
def any_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp(request.param)
    FAMILIES[request.param](found)
    return found


def judge_of(folder: Path) -> VlmLocalJudge:
    return VlmLocalJudge.load(folder, frames=7, device=torch.device("cpu"))


def test_a_folder_is_read_and_judges(any_folder: Path) -> None:
    judge = judge_of(any_folder)
    verdicts = judge.judge(films(), [INSTRUCTION] * 2)
    assert judge.frames == 7
    assert verdicts.probability.shape == (2,)
    assert torch.equal(verdicts.success, verdicts.probability > 0.5)
    assert torch.equal(verdicts.known, (verdicts.probability - 0.5).abs() >= 0.1)
    again = judge_of(any_folder).judge(films()[1:], [INSTRUCTION])
    torch.testing.assert_close(verdicts.probability[1:], again.probability)


def test_it_looks_and_listens(any_folder: Path) -> None:
    judge = judge_of(any_folder)
    with torch.no_grad():
        for weight in judge._model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(7)) * 0.3)
    one, other = judge.judge(films(), [INSTRUCTION] * 2).probability.tolist()
    told = float(judge.judge(films(1), ["the drawer gapes"]).probability[0])
    assert one != pytest.approx(other, abs=1e-5)
    assert one != pytest.approx(told, abs=1e-5)


@pytest.mark.parametrize(("answer", "odds"), [("1", +2.0), ("0", -2.0)])
def test_only_the_two_answers_are_weighed_against_each_other(
    any_folder: Path, answer: str, odds: float
) -> None:
    """Two more in the logit of one answer are two in the log odds; other words do not count."""
    judge = judge_of(any_folder)
    before = judge.judge(films(1), [INSTRUCTION]).probability.logit()
    token = judge._processor.tokenizer.convert_tokens_to_ids(answer)

    def lean(_module: torch.nn.Module, _given: object, logits: torch.Tensor) -> torch.Tensor:
        leaning = logits.clone()
        leaning[..., 0] += 9.0  # no answer
        leaning[..., token] += 2.0
        return leaning

    judge._model.get_output_embeddings().register_forward_hook(lean)
    after = judge.judge(films(1), [INSTRUCTION]).probability.logit()
    torch.testing.assert_close(after - before, torch.tensor([odds]), atol=1e-4, rtol=0)


def test_it_is_asked_for_an_answer_and_not_taught(any_folder: Path) -> None:
    """Some processors return targets for training, from which the model would work out a loss."""
    judge, losses = judge_of(any_folder), []
    judge._model.register_forward_hook(lambda *made: losses.append(made[2].loss))
    judge.judge(films(1), [INSTRUCTION])
    assert losses == [None]


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision reads the videos")
def test_a_processor_that_cannot_do_without_videos_says_what_to_install(tmp_path: Path) -> None:
    FAMILIES["smolvlm"](tmp_path)
    file = tmp_path / "processor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"processor_class": "SmolVLMProcessor"}))
    with pytest.raises(JudgeModelUnusable, match=r"SmolVLMProcessor .* install the package torchvision"):
        judge_of(tmp_path)


def test_an_instruction_that_holds_a_control_token_is_refused(folder: Path) -> None:
    with pytest.raises(BadTensor, match="'<image>' in"):
        judge_of(folder).judge(films(1), ["open the <image>"])


class Leaning:
    """Stands for a model whose next token is known: logits of all tokens but two are hopeless."""

    def __init__(self, yes: float, no: float) -> None:
        self.yes, self.no = yes, no
        self.device = torch.device("cpu")
        self.inputs: dict[str, Any] = {}

    def eval(self) -> Leaning:
        return self

    def __call__(self, **inputs: Any) -> Any:
        self.inputs = inputs
        logits = torch.full((1, inputs["input_ids"].shape[1], len(WORDS)), -50.0)
        logits[0, -1, WORDS.index("1")], logits[0, -1, WORDS.index("0")] = self.yes, self.no
        return type("Output", (), {"logits": logits})()


@pytest.mark.parametrize(
    ("yes", "no", "known", "success"),
    [
        (3.0, 0.0, True, True),
        (0.0, 3.0, True, False),
        (0.1, 0.0, False, True),
        (float("nan"), 0, False, False),
    ],
)
def test_the_verdict_is_how_much_likelier_yes_is_than_no(
    yes: float, no: float, known: bool, success: bool
) -> None:
    judge = VlmLocalJudge(Leaning(yes, no), a_llava_processor(), frames=7)
    verdicts = judge.judge(films(1), [INSTRUCTION])
    assert (bool(verdicts.known[0]), bool(verdicts.success[0])) == (known, success)
    if known:
        odds = torch.tensor([yes, no]).softmax(0)[0]
        assert verdicts.probability[0] == pytest.approx(float(odds))


def test_every_third_frame_is_shown_with_the_rubric_s_words() -> None:
    model = Leaning(1.0, 0.0)
    rubrics = {INSTRUCTION: Rubric(done="the drawer gapes")}
    VlmLocalJudge(model, a_llava_processor(), frames=7, rubrics=rubrics).judge(films(1), [INSTRUCTION])
    assert len(model.inputs["pixel_values"]) == 3
    said = model.inputs["input_ids"][0].tolist()
    assert WORDS.index("gapes") in said
    assert said.count(WORDS.index("<image>")) == 3 * (SIDE // PATCH) ** 2


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(JudgeModelUnusable, match=str(tmp_path)):
        VlmLocalJudge.load(tmp_path, frames=7, device=torch.device("cpu"))


def test_weights_as_pickles_are_not_read(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(a_llava().state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(JudgeModelUnusable):
        VlmLocalJudge.load(tmp_path, frames=7, device=torch.device("cpu"))


def test_a_tokenizer_without_the_answers_is_refused() -> None:
    silent = a_tokenizer(tuple(word if word != "1" else "one" for word in WORDS))
    with pytest.raises(ValueError, match="no token for '1'"):
        VlmLocalJudge(a_llava(), a_llava_processor(silent), frames=7)


def test_frames_that_are_none_are_refused() -> None:
    with pytest.raises(BadTensor, match="one instruction each"):
        VlmLocalJudge(a_llava(), a_llava_processor(), frames=7).judge(films(2), [INSTRUCTION])
