"""Instructions become tokens, whatever their words, and the tokenizer travels as JSON."""

import json

import pytest
import torch

from daemon.learning.policy.tokenizer import (
    MAX_TOKENS,
    PAD,
    START,
    TokenizerUnreadable,
    build_tokenizer,
    from_json,
    to_json,
    tokenize,
)

CORPUS = (
    "open the drawer",
    "close the drawer",
    "put the eggplant in the blue sink",
    "put the eggplant in the yellow basket",
)
CPU = torch.device("cpu")
TOKENIZER = build_tokenizer(CORPUS)


def tokens_of(sentence: str) -> list[int]:
    ids, _ = tokenize(TOKENIZER, [sentence], device=CPU)
    return [int(token) for token in ids[0]]


def test_the_four_instructions_are_different_and_short() -> None:
    rows = [tuple(tokens_of(sentence)) for sentence in CORPUS]
    assert len(set(rows)) == 4
    assert max(len(row) for row in rows) <= 10


@pytest.mark.parametrize(
    "sentence", ["stack the red cup", "öffne die Schublade", "引き出しを開けて", "🍆 → 🧺"]
)
def test_any_sentence_has_tokens_that_spell_it(sentence: str) -> None:
    spelled = TOKENIZER.decode(tokens_of(sentence), skip_special_tokens=True)
    assert spelled.strip() == sentence.lower()


def test_case_and_surrounding_space_do_not_matter() -> None:
    assert tokens_of("  Open the DRAWER ") == tokens_of("open the drawer")


def test_every_sentence_starts_with_the_start_token() -> None:
    start = TOKENIZER.convert_tokens_to_ids(START)
    assert [tokens_of(sentence)[0] for sentence in (*CORPUS, "")] == [start] * 5


def test_an_empty_instruction_is_one_token() -> None:
    ids, mask = tokenize(TOKENIZER, [""], device=CPU)
    assert ids.shape == (1, 1)
    assert mask.tolist() == [[True]]


def test_a_batch_is_padded_at_the_end_and_the_mask_says_where() -> None:
    ids, mask = tokenize(TOKENIZER, [CORPUS[0], CORPUS[3]], device=CPU)
    short = len(tokens_of(CORPUS[0]))
    assert ids.dtype == torch.int64
    assert mask.dtype == torch.bool
    assert mask[0].tolist() == [True] * short + [False] * (ids.shape[1] - short)
    assert mask[1].all()
    assert set(ids[0, short:].tolist()) == {TOKENIZER.convert_tokens_to_ids(PAD)}
    assert ids[0, :short].tolist() == tokens_of(CORPUS[0])


def test_an_endless_instruction_is_cut_and_that_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        ids, mask = tokenize(TOKENIZER, ["zz " * 400, "open"], device=CPU)
        assert ids.shape == mask.shape == (2, MAX_TOKENS)
        assert mask.sum(dim=1).tolist() == [MAX_TOKENS, len(tokens_of("open"))]
    assert caplog.text.count("instruction is cut") == 1
    assert "of_which_read=32" in caplog.text


def test_a_batch_leaves_no_trace_in_the_next_one() -> None:
    before = tokens_of(CORPUS[0])
    tokenize(TOKENIZER, ["zz " * 500, "open"], device=CPU)
    assert tokens_of(CORPUS[0]) == before
    assert to_json(TOKENIZER) == to_json(build_tokenizer(CORPUS))


def test_the_same_corpus_gives_the_same_tokenizer() -> None:
    assert to_json(build_tokenizer(CORPUS)) == to_json(build_tokenizer(list(CORPUS)))


def test_json_carries_the_whole_tokenizer() -> None:
    again = from_json(to_json(TOKENIZER))
    sentences = [*CORPUS, "pour the tea", ""]
    one, mask_one = tokenize(TOKENIZER, sentences, device=CPU)
    two, mask_two = tokenize(again, sentences, device=CPU)
    assert torch.equal(one, two)
    assert torch.equal(mask_one, mask_two)
    assert to_json(again) == to_json(TOKENIZER)


def without(token: str) -> str:
    document = json.loads(to_json(TOKENIZER))
    document["added_tokens"] = [entry for entry in document["added_tokens"] if entry["content"] != token]
    document["model"]["vocab"].pop(token, None)
    document["post_processor"] = None
    return json.dumps(document)


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", to_json(TOKENIZER)[:-40], without(PAD), without(START)])
def test_what_is_not_our_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(TokenizerUnreadable) as refused:
        from_json(text)
    assert refused.value.code == "tokenizer_unreadable"
