import logging
import subprocess
import sys

import pytest

from daemon.logs import Discreet
from daemon.redaction import Redactor

SCRIPT = """
import logging
from daemon.logs import configure_logging
configure_logging("INFO", ["open-sesame"])
logging.getLogger("daemon.test").info("phase finished phase=%s took_s=%.1f", "collect", 1.25)
logging.getLogger("daemon.test").debug("too quiet")
logging.getLogger("apscheduler.executors.default").info("chatter")
logging.getLogger("apscheduler").warning("a job was missed")
try:
    raise ValueError("open-sesame does not open https://ann:hunter22@db")
except ValueError:
    logging.getLogger("daemon.test").exception("failed key=%s", "open-sesame")
"""


def logged() -> list[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_a_line_has_its_time_in_utc_its_level_its_module_and_facts():
    first, second, *_ = logged()
    assert first.endswith("Z INFO daemon.test phase finished phase=collect took_s=1.2")
    assert len(first.split("Z ")[0]) == len("2026-01-01T12:00:00")
    assert second.endswith("WARNING apscheduler a job was missed")


def test_standard_error_gets_no_secret_that_was_given_or_looks_like_one_traces_included():
    _, _, failed, *trace = lines = logged()
    assert failed.endswith("ERROR daemon.test failed key=[redacted]")
    assert trace[-1] == "ValueError: [redacted] does not open https://ann:[redacted]@db"
    assert [line for line in lines if "sesame" in line or "hunter22" in line] == []


def line_of(message, *arguments, exc_info=None):
    record = logging.LogRecord("daemon.test", logging.INFO, "x.py", 1, message, arguments, exc_info)
    return Discreet(Redactor()).format(record)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("gmd_0123456789abcdef_" + "s" * 43, "gmd_0123456789abcdef_[redacted]"),
        ("gst_" + "s-_" * 14, "gst_[redacted]"),
        ("Authorization: Bearer " + "e" * 40, "Authorization: Bearer [redacted]"),
        ("authorization=bearer " + "e" * 40, "authorization=bearer [redacted]"),
        ("iteration 12 of gmd_", "iteration 12 of gmd_"),
    ],
)
def test_a_token_that_gets_into_a_line_is_blackened(written, shown):
    assert line_of("call path=%r", written).endswith(f"daemon.test call path={shown!r}")


def test_a_token_in_a_trace_is_blackened_too():
    try:
        raise ValueError("gmd_0123456789abcdef_" + "s" * 43)
    except ValueError:
        line = line_of("failed", exc_info=sys.exc_info())
    assert "ValueError: gmd_0123456789abcdef_[redacted]" in line
    assert "sss" not in line
