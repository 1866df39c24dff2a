"""Errors: one tree, a code each, sentences that say which thing, what was expected, what to do."""

import inspect
from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage import errors
from storage.errors import StorageError

PATH = Path("blobs") / "ab"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "ab" * 32
PARTS = {
    "BlobMissing": {"sha256": DIGEST, "path": PATH},
    "BlobCorrupt": {"sha256": DIGEST, "found": "cd" * 32, "path": PATH},
    "BlobNameInvalid": {"name": "../etc"},
    "SweepRefused": {"unnamed": 90, "seen": 100, "path": PATH},
    "DiskFull": {"needed": 100, "free": 7, "path": PATH},
    "CacheNameInvalid": {"name": "../up"},
    "DatabaseUrlInvalid": {"url": "mysql://host"},
    "DatabaseNewer": {"found": "0009", "newest": "0001"},
    "DatabaseOutdated": {"found": "0001", "newest": "0002"},
    "NaiveDatetime": {"value": datetime(2026, 1, 1)},  # noqa: DTZ001
    "NotJson": {"what": "the spec", "reason": "it holds NaN"},
    "RowMissing": {"kind": "episode", "row_id": "e-1"},
    "CursorInvalid": {"cursor": "x"},
    "IllegalMove": {"what": "iteration 3", "old": "failed", "new": "running", "allowed": ()},
    "IdempotencyMismatch": {"key": "k", "number": 3, "stored": DIGEST, "found": "cd" * 32},
    "RequestKeyReused": {"key": "k", "scope": "labels"},
    "UnknownPhase": {"phase": "dream", "known": ("collect",)},
    "LeaseHeld": {"name": "robot", "holder": "ann", "expires_at": NOW},
    "LeaseLost": {"name": "robot", "fence": 1, "current": 2, "holder": "bob"},
    "EpisodeConflict": {"episode_id": "e-1", "stored": DIGEST, "found": "cd" * 32},
    "EpisodeOriginInvalid": {"origin": "dream", "known": ("collect",)},
    "LabelSourceInvalid": {"source": "guess", "known": ("human",)},
    "UnknownTask": {"task_id": "fly", "episode_id": "e-1"},
    "EpisodeCorrupt": {"episode_id": "e-1", "stored": DIGEST, "found": "cd" * 32},
    "CheckpointKindInvalid": {"kind": "critic", "known": ("policy",)},
    "CheckpointCorrupt": {"checkpoint_id": "c-1", "stored": DIGEST, "found": "cd" * 32, "path": PATH},
    "Retired": {"what": "policy checkpoint c-1", "at": NOW},
    "MetricNotFinite": {"phase_run_id": "r-1", "name": "loss", "value": float("nan")},
    "AutoEvalJobConflict": {"job_id": "j-1", "field": "robot", "stored": "widowx_sink", "found": "another"},
}


def all_errors() -> list[type[StorageError]]:
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass)]
    return [each for each in classes if issubclass(each, StorageError)]


LEAVES = [each for each in all_errors() if not each.__subclasses__()]


def test_the_examples_here_cover_every_error() -> None:
    assert {each.__name__ for each in LEAVES} == set(PARTS)


@pytest.mark.parametrize("error", LEAVES, ids=lambda each: each.__name__)
def test_an_error_builds_its_own_sentence_from_named_parts(error: type[StorageError]) -> None:
    parts = PARTS[error.__name__]
    sentence = str(error(**parts))
    assert sentence[0].islower() or sentence[0].isdigit()
    assert sentence.endswith(".")
    for name, value in parts.items():
        if isinstance(value, str) and name not in {"holder"}:
            assert value in sentence, f"{name} is missing from: {sentence}"


@pytest.mark.parametrize("error", LEAVES, ids=lambda each: each.__name__)
def test_an_error_can_be_told_apart_by_a_code_of_its_own(error: type[StorageError]) -> None:
    assert error.code == error.code.lower()
    assert error.code.replace("_", "").isalpha()
    assert [each for each in all_errors() if each.code == error.code] == [error]


def test_only_a_full_disk_and_a_held_lease_are_worth_trying_again() -> None:
    assert {each.__name__ for each in LEAVES if each.retryable} == {"DiskFull", "LeaseHeld"}


def test_the_tree_in_the_docstring_draws_every_error() -> None:
    tree = errors.__doc__ or ""
    for each in all_errors():
        assert each.__name__ in tree


def test_ids_are_given_in_full() -> None:
    sentence = str(errors.CheckpointCorrupt(**PARTS["CheckpointCorrupt"]))
    assert DIGEST in sentence
    assert "cd" * 32 in sentence
