"""Errors of the exchange: a code each, sentences that name the thing and say what to do."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from storage.errors import StorageError
from storage.interchange import errors
from storage.interchange.errors import InterchangeError

PATH = Path("out") / "meta"
PARTS = {
    "ClipInvalid": {"path": PATH, "expected": "float32", "found": "float64"},
    "DatasetInvalid": {"path": PATH, "expected": "fps 5", "found": "fps 10"},
    "DatasetUnsealed": {"folder": PATH, "begun": True},
    "DatasetChanged": {"path": PATH, "expected": "sha256 ab", "found": "sha256 cd"},
    "DatasetUndeclared": {"folder": PATH, "known": ("bridge_v2",)},
    "TargetNotEmpty": {"folder": PATH},
    "ExportDiffers": {"folder": PATH, "differences": ("the query was (all), is task=fly",)},
    "ExportBusy": {"folder": PATH},
    "EpisodeUnfit": {"episode_id": "e-1", "expected": "5 Hz", "found": "3 Hz"},
    "NothingToExport": {"query": "task=fly"},
    "QueryInvalid": {"term": "colour=red", "expected": "KEY=VALUE"},
    "ExtraMissing": {"package": "pyarrow", "extra": "interchange"},
}
OURS = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, InterchangeError) and each is not InterchangeError
]


def test_the_examples_here_cover_every_error() -> None:
    assert {each.__name__ for each in OURS} == set(PARTS)


@pytest.mark.parametrize("error", OURS, ids=lambda each: each.__name__)
def test_a_sentence_names_every_part(error: type[StorageError]) -> None:
    parts = PARTS[error.__name__]
    sentence = str(error(**parts))
    assert sentence.endswith(".")
    assert ".." not in sentence
    for value in (each for each in parts.values() if not isinstance(each, bool)):
        assert (value[0] if isinstance(value, tuple) else str(value)) in sentence


@pytest.mark.parametrize("error", OURS, ids=lambda each: each.__name__)
def test_an_error_can_be_told_apart_and_hangs_on_the_one_root(error: type[StorageError]) -> None:
    assert issubclass(error, InterchangeError)
    assert [each for each in OURS if each.code == error.code] == [error]
    assert error.retryable is (error is errors.ExportBusy)
    assert error.__name__ in str(errors.__doc__)


def test_a_thousand_differences_are_one_sentence_that_says_how_many() -> None:
    told = [f"episode {number} was withdrawn" for number in range(1000)]
    sentence = str(errors.ExportDiffers(folder=PATH, differences=told))
    assert "episode 4 was withdrawn; and 995 more." in sentence
    assert "episode 5 " not in sentence


def test_another_error_in_a_sentence_does_not_end_it_twice() -> None:
    sentence = str(errors.DatasetInvalid(path=PATH, expected="a pickle", found="it names a call."))
    assert "found it names a call. Episodes" in sentence


def test_the_same_command_is_advised_only_where_it_can_go_on() -> None:
    goes_on = str(errors.DatasetUnsealed(folder=PATH, begun=True))
    assert "Give the same command to export again: it goes on where it was." in goes_on
    lost = str(errors.DatasetUnsealed(folder=PATH, begun=False))
    assert "Export again into an empty folder" in lost
    assert "same command" not in lost


def test_a_narrower_query_is_advised_together_with_a_new_folder() -> None:
    sentence = str(errors.EpisodeUnfit(episode_id="e-1", expected="5 Hz", found="3 Hz"))
    assert "Narrow the query, so that it is left out, and name a new folder" in sentence
