"""What is known of a worker that ended by itself: above all whether the kernel took it for want of memory."""

import signal
from dataclasses import dataclass
from pathlib import Path

COUNTERS = Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")
COUNTER = "oom_kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Why a worker ended, for the log and for the run that it had."""

    code: str
    message: str


def memory_kills(counters: tuple[Path, ...] = COUNTERS) -> int:
    """How often the kernel has killed for want of memory: in this control group, and on this machine."""
    total = 0
    for path in counters:
        try:
            lines = path.read_text().splitlines()
        except OSError:  # another kernel, or a container that does not show it
            continue
        total += sum(int(line.split()[1]) for line in lines if line.split()[:1] == [COUNTER])
    return total


def death_of(worker: str, *, exit_status: int, kills_before: int, kills_now: int) -> Death:
    """What an exit status says, beside what the kernel counted since the worker started."""
    if exit_status == -signal.SIGKILL and kills_now > kills_before:
        message = (
            f"worker {worker} was killed for want of memory, as the kernel counted. "
            "Give it more memory, or the spec smaller batches, groups or frames."
        )
        return Death(code="worker_out_of_memory", message=message)
    if exit_status == -signal.SIGKILL:
        message = (
            f"worker {worker} was killed, most likely for memory: it got SIGKILL, and nobody here sent it. "
            "Look at the machine's memory; if somebody killed it by hand, nothing is wrong."
        )
        return Death(code="worker_killed", message=message)
    ended = signal.Signals(-exit_status).name if exit_status < 0 else f"exit status {exit_status}"
    return Death(
        code="worker_died", message=f"worker {worker} ended with {ended} in the middle of it; see its log."
    )
