import subprocess
import sys

SCRIPT = """
import logging
from daemon.logs import configure_logging
configure_logging("INFO")
logging.getLogger("daemon.test").info("phase finished phase=%s took_s=%.1f", "collect", 1.25)
logging.getLogger("daemon.test").debug("too quiet")
logging.getLogger("apscheduler.executors.default").info("chatter")
logging.getLogger("apscheduler").warning("a job was missed")
"""


def logged() -> list[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_a_line_has_its_time_in_utc_its_level_its_module_and_facts():
    first, second = logged()
    assert first.endswith("Z INFO daemon.test phase finished phase=collect took_s=1.2")
    assert len(first.split("Z ")[0]) == len("2026-01-01T12:00:00")
    assert second.endswith("WARNING apscheduler a job was missed")
