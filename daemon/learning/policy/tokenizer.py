"""Instructions as tokens: a small byte-level tokenizer that can read any sentence.

Byte-pair merges are learned from a handful of instructions; because the alphabet is all 256 bytes, a
sentence in new words, or in another script, still becomes tokens. It travels inside checkpoints as JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from daemon.learning.errors import LearningError

log = logging.getLogger(__name__)

VOCABULARY = 384  # 2 special tokens, 256 bytes, and merges
MAX_TOKENS = 32  # longer instructions are cut, which is told; AutoEval's four take 4 to 8
PAD, START = "<pad>", "<start>"


class TokenizerUnreadable(LearningError):
    """Text that is not a serialised tokenizer of ours."""

    code = "tokenizer_unreadable"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"tokenizer JSON cannot be read: {reason}. Take it from an intact checkpoint.")


def build_tokenizer(corpus: Iterable[str], *, vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Learn merges from a few instructions; lower case, so that "Open" and "open" are one word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(corpus), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    return _wrap(tokenizer)


def to_json(tokenizer: PreTrainedTokenizerFast) -> str:
    """Everything `from_json` needs, and nothing of the batches that were tokenized meanwhile."""
    bare = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    bare.no_padding()
    bare.no_truncation()
    return str(bare.to_str())


def from_json(text: str) -> PreTrainedTokenizerFast:
    """Rebuild a tokenizer from `to_json`'s text.

    Raises:
        TokenizerUnreadable: the text is not a tokenizer, or lacks our special tokens.
    """
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception for any malformed text
        raise TokenizerUnreadable(reason=str(error)) from error
    if tokenizer.token_to_id(PAD) is None or tokenizer.token_to_id(START) is None:
        raise TokenizerUnreadable(reason=f"the tokens {PAD} and {START} are missing")
    return _wrap(tokenizer)


def tokenize(
    tokenizer: PreTrainedTokenizerFast, instructions: Sequence[str], *, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Tokens and mask of a batch of instructions: int64 [B, W] and bool [B, W], W its longest.

    Every row starts with the start token, so an empty instruction still has one token. What is cut of a long
    one is told in the log, once: sentences that begin alike are one sentence then.
    """
    if not instructions:
        empty = torch.zeros(0, 1, dtype=torch.int64, device=device)
        return empty, empty.bool()
    encoded = tokenizer(list(instructions), padding=True, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    if ids.shape[1] > MAX_TOKENS:
        for sentence, tokens in zip(instructions, mask.sum(dim=1).tolist(), strict=True):
            if tokens > MAX_TOKENS:
                _tell_of_cut(sentence, tokens)
    return ids[:, :MAX_TOKENS].to(device), mask[:, :MAX_TOKENS].to(device).bool()


@cache
def _tell_of_cut(sentence: str, tokens: int) -> None:
    log.warning(
        "instruction is cut tokens=%d of_which_read=%d sentence=%r", tokens, MAX_TOKENS, sentence[:200]
    )


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=START)
