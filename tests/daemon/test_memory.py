"""Memory pools of threads: few, whatever the number of threads."""

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys, threading
from daemon.memory import share_memory_between_threads
if sys.argv[1] == "shared":
    share_memory_between_threads()
all_there, done = threading.Barrier(13), threading.Barrier(13)
def work():
    kept = ctypes.create_string_buffer(200_000)
    text = ["x" * 400 for _ in range(100)]
    all_there.wait()
    done.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
[thread.start() for thread in threads]
all_there.wait()
ctypes.CDLL(None).malloc_stats()
done.wait()
[thread.join() for thread in threads]
"""


def arenas(mode):
    done = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
    return done.stderr.count("Arena ")


@pytest.mark.skipif(sys.platform != "linux", reason="pools of threads are a matter of glibc")
def test_threads_share_two_pools():
    assert arenas("apart") > 2, "otherwise there is nothing to share"
    assert arenas("shared") <= 2
