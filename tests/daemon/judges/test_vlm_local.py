"""A vision-language model in this process: the verdict is read off the logits of the two answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from daemon.judges.vlm_local import JudgeModelUnusable, VlmLocalJudge
from daemon.learning.errors import BadTensor
from daemon.learning.reward.vlm import Rubric

SIDE, PATCH = 16, 8
INSTRUCTION = "open the drawer"
WORDS = ("<unk>", "<image>", "<pad>", "1", "0", "Answer", "drawer", "gapes", "the", "picture")


def a_tokenizer(words: tuple[str, ...] = WORDS) -> PreTrainedTokenizerFast:
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
    )


def a_model(*, seed: int = 0) -> LlavaForConditionalGeneration:
    """Llava, as small as it goes, untrained."""
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**small, image_size=SIDE, patch_size=PATCH, projection_dim=16),
        text_config=LlamaConfig(**small, vocab_size=len(WORDS), num_key_value_heads=2),
        image_token_index=1,
        vision_feature_layer=-1,
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    torch.manual_seed(seed)
    return LlavaForConditionalGeneration(config)


def a_processor(tokenizer: PreTrainedTokenizerFast | None = None) -> LlavaProcessor:
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer or a_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def films(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(256, (count, 7, 3, 32, 32), generator=generator).byte()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("eyes")
    a_model().save_pretrained(found)
    a_processor().save_pretrained(found)
    return found


def test_a_folder_is_read_and_judges(folder: Path) -> None:
    judge = VlmLocalJudge.load(folder, frames=7, device=torch.device("cpu"))
    verdicts = judge.judge(films(), [INSTRUCTION] * 2)
    assert judge.frames == 7
    assert verdicts.probability.shape == (2,)
    assert torch.equal(verdicts.success, verdicts.probability > 0.5)
    assert torch.equal(verdicts.known, (verdicts.probability - 0.5).abs() >= 0.1)
    again = VlmLocalJudge(a_model(), a_processor(), frames=7).judge(films(), [INSTRUCTION] * 2)
    torch.testing.assert_close(verdicts.probability, again.probability)


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
    judge = VlmLocalJudge(Leaning(yes, no), a_processor(), frames=7)
    verdicts = judge.judge(films(1), [INSTRUCTION])
    assert (bool(verdicts.known[0]), bool(verdicts.success[0])) == (known, success)
    if known:
        odds = torch.tensor([yes, no]).softmax(0)[0]
        assert verdicts.probability[0] == pytest.approx(float(odds))


def test_every_third_frame_is_shown_with_the_rubric_s_words() -> None:
    model = Leaning(1.0, 0.0)
    rubrics = {INSTRUCTION: Rubric(done="the drawer gapes")}
    VlmLocalJudge(model, a_processor(), frames=7, rubrics=rubrics).judge(films(1), [INSTRUCTION])
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
    torch.save(a_model().state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(JudgeModelUnusable):
        VlmLocalJudge.load(tmp_path, frames=7, device=torch.device("cpu"))


def test_a_tokenizer_without_the_answers_is_refused() -> None:
    silent = a_tokenizer(tuple(word if word != "1" else "one" for word in WORDS))
    with pytest.raises(ValueError, match="no token for '1'"):
        VlmLocalJudge(a_model(), a_processor(silent), frames=7)


def test_frames_that_are_none_are_refused() -> None:
    with pytest.raises(BadTensor, match="one instruction each"):
        VlmLocalJudge(a_model(), a_processor(), frames=7).judge(films(2), [INSTRUCTION])
