"""The sentences of this package: which thing, and what to do."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from daemon.operations import errors
from daemon.operations.errors import (
    BackupDamaged,
    BackupMissing,
    BackupUnreadable,
    OperationError,
    PlaceTaken,
    RevisionUnknown,
)

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, OperationError)]


def test_every_error_has_a_code_of_its_own_and_is_in_the_tree() -> None:
    assert len({error.code for error in CLASSES}) == len(CLASSES) == 6
    for error in CLASSES:
        assert error.__name__ in str(errors.__doc__)


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (BackupMissing(folder=Path("b"), name="x", known=["y"]), ("no backup x", "It holds y")),
        (BackupMissing(folder=Path("b"), name=None, known=[]), ("gymnastd backup",)),
        (BackupUnreadable(path=Path("b/x.json"), reason="cut"), ("b/x.json", "cut", "--name")),
        (BackupDamaged(name="x", faults=["blob 1"]), ("blob 1", "nothing was restored")),
        (PlaceTaken(what="data directory d", found="notes"), ("data directory d", "notes")),
        (RevisionUnknown(revision="0815", known=["0001"]), ("0815", "0001")),
    ],
)
def test_a_sentence_says_which_thing_and_what_to_do(error: OperationError, parts: tuple[str, ...]) -> None:
    assert all(part in str(error) for part in parts)
    assert str(error).endswith(".")


def test_of_many_faults_some_are_named_and_all_are_kept() -> None:
    error = BackupDamaged(name="x", faults=[f"blob {number}" for number in range(50)])
    assert "and 30 more" in str(error)
    assert len(error.faults) == 50
