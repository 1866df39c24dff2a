import os
import signal
import subprocess
import sys

import pytest

from daemon.data_directory import DataDirectoryLock
from daemon.errors import DataDirectoryBusy

HOLD = """
import sys, pathlib
from daemon.data_directory import DataDirectoryLock
with DataDirectoryLock(pathlib.Path(sys.argv[1])):
    sys.stdout.write("held\\n"); sys.stdout.flush()
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_holder_is_refused_and_told_who_the_first_is(tmp_path, holder):
    with pytest.raises(DataDirectoryBusy) as refused, DataDirectoryLock(tmp_path):
        pass
    assert refused.value.code == "data_directory_busy"
    assert f"pid {holder.pid}" in str(refused.value)


def test_the_lock_goes_with_a_killed_holder(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with DataDirectoryLock(tmp_path):
        assert (tmp_path / "gymnastd.lock").read_text() == f"pid {os.getpid()}\n"


def test_the_lock_can_be_taken_again_after_it_was_left(tmp_path):
    for _ in range(2):
        with DataDirectoryLock(tmp_path):
            pass


def test_two_directories_do_not_meet(tmp_path):
    with DataDirectoryLock(tmp_path / "a"), DataDirectoryLock(tmp_path / "b"):
        assert (tmp_path / "a").is_dir()


def test_the_same_process_cannot_hold_a_directory_twice(tmp_path):
    with DataDirectoryLock(tmp_path), pytest.raises(DataDirectoryBusy), DataDirectoryLock(tmp_path):
        pass


def test_an_error_inside_lets_the_directory_go(tmp_path):
    with pytest.raises(ZeroDivisionError), DataDirectoryLock(tmp_path):
        raise ZeroDivisionError
    with DataDirectoryLock(tmp_path):
        pass
