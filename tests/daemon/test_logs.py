"""Lines of the log: what they look like, where they go, and that no secret is in one."""

import io
import json
import logging
import subprocess
import sys

import pytest

from daemon.logs import Discreet, DiscreetJson, ToStandardError
from daemon.redaction import Redactor
from robot_bridge.spans import span, trace_id
from tests.traces import traced

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


def logged(script: str = SCRIPT) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
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


def test_lines_of_json_say_the_same_and_a_trace_is_within_its_line():
    lines = logged(SCRIPT.replace('["open-sesame"])', '["open-sesame"], form="json")'))
    first, second, failed = map(json.loads, lines)
    assert first.pop("at").endswith("Z")
    assert first == {
        "level": "INFO",
        "logger": "daemon.test",
        "message": "phase finished phase=collect took_s=1.2",
    }
    assert second["logger"] == "apscheduler"
    assert failed["message"] == "failed key=[redacted]"
    assert failed["error"].endswith("ValueError: [redacted] does not open https://ann:[redacted]@db")
    assert not any("sesame" in line or "hunter22" in line for line in lines)


def test_a_secret_that_json_would_write_otherwise_is_blackened_all_the_same():
    record = logging.LogRecord("daemon.test", logging.INFO, "x.py", 1, 'key=say "friend"\\', (), None)
    line = DiscreetJson(Redactor(['say "friend"\\'])).format(record)
    assert json.loads(line)["message"] == "key=[redacted]"


def test_what_is_said_while_something_is_traced_has_the_id_of_the_trace():
    with traced(), span("phase collect", {}):
        of = trace_id()
        said = line_of("episode committed")
        record = logging.LogRecord("daemon.test", logging.INFO, "x.py", 1, "the same", (), None)
        as_json = json.loads(DiscreetJson(Redactor()).format(record))
    assert said.endswith(f"daemon.test episode committed trace_id={of}")
    assert as_json["trace_id"] == of
    assert "trace_id" not in line_of("afterwards")


def test_a_line_goes_to_what_standard_error_is_now_not_to_a_stream_that_is_closed_since(monkeypatch):
    former, now = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stderr", former)
    handler = ToStandardError()
    former.close()
    monkeypatch.setattr("sys.stderr", now)
    handler.handle(logging.LogRecord("daemon.test", logging.INFO, "x.py", 1, "still here", (), None))
    assert now.getvalue() == "still here\n"


def test_a_line_that_cannot_be_formatted_is_told_on_standard_error_and_raises_nothing(capsys):
    ToStandardError().handle(logging.LogRecord("daemon.test", logging.INFO, "x.py", 1, "%d", ("one",), None))
    assert "Arguments: ('one',)" in capsys.readouterr().err


def test_a_line_for_a_standard_error_that_is_closed_raises_nothing(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    ToStandardError().handle(logging.LogRecord("daemon.test", logging.INFO, "x.py", 1, "lost", (), None))
