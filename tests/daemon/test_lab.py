"""The servers of a lab on one machine: what they are told by the environment, and that none is left over."""

import subprocess
import sys
from pathlib import Path

import pytest

from daemon.lab import end_orphan, inherited


def test_a_labs_servers_take_over_how_many_threads_they_may_have_and_no_other_setting():
    told = {
        "GYMNASTD_THREADS_PER_WORKER": "1",
        "GYMNASTD_DATA_DIR": "/another/lab",
        "GYMNASTD_STATION_URL": "http://a-real-arm",
        "PATH": "/bin",
    }
    assert inherited(told) == {"GYMNASTD_THREADS_PER_WORKER": "1", "PATH": "/bin"}


@pytest.mark.parametrize("own", [True, False])
def test_a_server_that_outlived_whoever_started_it_is_ended_and_no_other_process(tmp_path: Path, own: bool):
    """The number of a process that is gone may be somebody else's by now."""
    numbered, announced = tmp_path / "serve.pid", tmp_path / "serve.url"
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)", *([str(announced)] if own else [])]
    with subprocess.Popen(sleeps, start_new_session=True) as process:
        numbered.write_text(str(process.pid))
        try:
            end_orphan_of(process, numbered, announced)
            assert (process.poll() is not None) is own
        finally:
            process.kill()


def end_orphan_of(process: subprocess.Popen[bytes], numbered: Path, announced: Path) -> None:
    """As this test's child it stays as a zombie until somebody asks."""
    with subprocess.Popen([sys.executable, "-c", ENDS, str(numbered), str(announced)]) as other:
        while other.poll() is None:
            process.poll()
    assert other.returncode == 0


ENDS = (
    "import sys; from pathlib import Path; from daemon.lab import end_orphan; "
    "end_orphan(*map(Path, sys.argv[1:]))"
)


@pytest.mark.parametrize("text", ["", "no number", "999999999"])
def test_a_number_that_is_nobodys_ends_nobody(tmp_path: Path, text: str):
    numbered = tmp_path / "serve.pid"
    end_orphan(numbered, tmp_path / "serve.url")
    numbered.write_text(text)
    end_orphan(numbered, tmp_path / "serve.url")
