"""Vision-language models of some families, as small as they go and untrained, as the folders they come in.

Each differs from the others where families do: how a picture is cut and how many tokens it takes, what the
processor returns beside the tokens, who sees whom, and how positions are counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaConfig,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaProcessor,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2VLImageProcessorPil,
    SiglipImageProcessorPil,
    SmolVLMConfig,
)

COPIES = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"  # PaliGemma's own
SIDE, PATCH = 16, 8
WORDS = ("<unk>", "<image>", "<pad>", "1", "0", "Answer", "drawer", "gapes", "the", "picture")
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**SMALL, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 2}
CHAT = (
    "{% for turn in messages %}{% for part in turn['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %} Answer : {% endif %}"
)


def a_tokenizer(
    words: tuple[str, ...] = WORDS, *, control: tuple[str, ...] = ("<image>",), **named: str
) -> PreTrainedTokenizerFast:
    """Whole words only; `control` are tokens that no sentence may hold, `named` those with a role."""
    vocabulary = dict.fromkeys((*words, *control, *named.values()))  # each once, in this order
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(vocabulary)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=list(control),
        **named,
    )


def a_model(config: PreTrainedConfig, *, seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForImageTextToText.from_config(config).eval()


def a_llava(*, seed: int = 0) -> Any:
    """A picture is four tokens of one view; everybody sees what came before."""
    config = LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            **SMALL,
            "image_size": SIDE,
            "patch_size": PATCH,
            "projection_dim": 16,
        },
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(WORDS)},
        image_token_index=1,
        vision_feature_layer=-1,
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    return a_model(config, seed=seed)


def a_llava_processor(tokenizer: PreTrainedTokenizerFast | None = None) -> LlavaProcessor:
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        ),
        tokenizer=tokenizer or a_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def llava(folder: Path) -> None:
    a_llava().save_pretrained(folder)
    a_llava_processor().save_pretrained(folder)


def smolvlm(folder: Path) -> None:
    """A picture is cut in four and shown whole as well, each with a mask of its pixels, between tokens."""
    control = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tokenizer = a_tokenizer(control=control)
    config = SmolVLMConfig(
        vision_config={**SMALL, "image_size": SIDE, "patch_size": PATCH // 2},
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(tokenizer)},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    pictures = Idefics3ImageProcessorPil(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=True
    )
    a_model(config).save_pretrained(folder)
    Idefics3Processor(pictures, tokenizer, image_seq_len=4).save_pretrained(folder)


def paligemma(folder: Path) -> None:
    """Kinds of tokens say who sees whom: the whole prompt sees itself in both directions."""
    tokenizer = a_tokenizer(bos_token="<bos>", eos_token="<eos>")
    pictures = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    pictures.image_seq_length = (SIDE // PATCH) ** 2
    processor = PaliGemmaProcessor(pictures, tokenizer)  # adds tokens of its own
    config = PaliGemmaConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            **SMALL,
            "image_size": SIDE,
            "patch_size": PATCH,
            "vision_use_head": False,
        },
        text_config={"model_type": "gemma", **TEXT, "head_dim": 8, "vocab_size": len(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=SMALL["hidden_size"],
        hidden_size=SMALL["hidden_size"],
        vocab_size=len(tokenizer),
    )
    a_model(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def qwen2_5_vl(folder: Path) -> None:
    """Patches of all pictures in one list, a grid for each, and positions in time, height and width.

    Its processor has a part for videos, which is why it cannot be built where there is no torchvision.
    """
    control = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    tokenizer = a_tokenizer(control=tuple(control.values()))
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "out_hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "patch_size": PATCH // 2,
            "window_size": SIDE,
            "fullatt_block_indexes": [1],
        },
        text_config={**TEXT, "vocab_size": len(tokenizer), "rope_parameters": rope},
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in control.items()},
    )
    a_model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pictures = Qwen2VLImageProcessorPil(
        patch_size=PATCH // 2, merge_size=2, size={"shortest_edge": SIDE**2, "longest_edge": 4 * SIDE**2}
    )
    pictures.save_pretrained(folder)
    file = folder / "preprocessor_config.json"
    named = json.loads(file.read_text()) | {"processor_class": "Qwen2_5_VLProcessor"}
    file.write_text(json.dumps(named))
    (folder / "chat_template.jinja").write_text(CHAT)


FAMILIES: dict[str, Callable[[Path], None]] = {
    builder.__name__: builder for builder in (llava, smolvlm, paligemma, qwen2_5_vl)
}
