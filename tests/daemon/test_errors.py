import inspect
from pathlib import Path

import pytest

from daemon import errors
from daemon.errors import DaemonError

CLASSES = [
    value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, DaemonError)
]


def test_every_error_has_a_code_of_its_own():
    codes = [error.code for error in CLASSES]
    assert len(set(codes)) == len(codes) > 10


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_hangs_on_the_one_root_and_says_whether_to_try_again(error):
    assert issubclass(error, DaemonError)
    assert isinstance(error.retryable, bool)
    assert error.code == error.code.lower().replace(" ", "_")


@pytest.mark.parametrize("error", [e for e in CLASSES if e is not DaemonError], ids=lambda e: e.__name__)
def test_the_tree_in_the_docstring_names_every_class(error):
    assert error.__name__ in str(errors.__doc__)


def test_a_sentence_names_the_thing_and_what_to_do():
    busy = errors.DataDirectoryBusy(data_dir=Path("lab"), holder="pid 12")
    assert str(busy) == (
        "data directory lab is in use by another gymnastd (pid 12). "
        "Stop it, or give this one another GYMNASTD_DATA_DIR."
    )


def test_a_refusal_keeps_the_code_that_the_daemon_gave():
    refused = errors.DaemonRefused(
        url="http://127.0.0.1/v1/iterations",
        status=409,
        problem={"code": "idempotency_mismatch", "detail": "d"},
    )
    assert (refused.status, refused.problem_code) == (409, "idempotency_mismatch")
    assert errors.DaemonRefused(url="u", status=500, problem={}).problem_code == "unknown"


def test_only_failing_checks_are_told():
    assert "workers: none" in str(errors.NotReady(checks={"database": "ok", "workers": "none"}))
    assert "database" not in str(errors.NotReady(checks={"database": "ok", "workers": "none"}))
    assert "a token with the scope read is told why" in str(errors.NotReady(checks=None))
