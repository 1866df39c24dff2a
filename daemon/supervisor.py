"""Starts the worker processes, starts them again when they die, and takes them down at the end.

Workers run in their own process group and watch a pipe from here on their standard input: when this
process dies, however it dies, the pipe closes and they leave. Nothing here knows what a worker does.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from daemon.deaths import Death, death_of, memory_kills
from daemon.settings import PREFIX, Settings

log = logging.getLogger(__name__)

WORKER_COMMAND = (sys.executable, "-m", "daemon.worker")
FIRST_BACKOFF_S = 0.5
LAST_BACKOFF_S = 30.0
HEALTHY_AFTER_S = 60.0  # a worker that lived this long starts its backoff anew
GRACE_S = 10.0  # between SIGTERM and SIGKILL


@dataclass(slots=True, kw_only=True)
class Slot:
    """One worker's place: the process in it, if any, and when the next may start."""

    name: str
    device: str | None = None  # the accelerator that the worker sees; None: what the daemon sees
    child: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    next_start_at: float = 0.0
    backoff_s: float = FIRST_BACKOFF_S
    starts: int = 0
    kills_before: int = 0


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """Keeps `settings.worker_count` workers alive. `check()` is called about once a second.

    `clock` gives seconds that only grow; it is an argument so that tests need not wait for backoff.
    `on_death` is told of every worker that ended badly; `count_kills` says how often the kernel has killed
    for want of memory.
    """

    settings: Settings
    command: Sequence[str] = WORKER_COMMAND
    clock: Callable[[], float] = time.monotonic
    on_death: Callable[[str, Death], None] = lambda worker, death: None
    count_kills: Callable[[], int] = memory_kills
    slots: list[Slot] = field(default_factory=list)
    stopping: bool = False

    def __post_init__(self) -> None:
        devices = self.settings.devices or (None,)
        self.slots = [
            Slot(name=f"{os.uname().nodename}-{os.getpid()}-{i}", device=devices[i % len(devices)])
            for i in range(self.settings.worker_count)
        ]

    def check(self) -> None:
        """Notice workers that ended, and start one in every place whose backoff is over."""
        for slot in self.slots:
            self._notice_end(slot)
            if slot.child is None and not self.stopping and self.clock() >= slot.next_start_at:
                self._start(slot)

    def alive(self) -> int:
        """Count the workers that run now."""
        return sum(slot.child is not None and slot.child.poll() is None for slot in self.slots)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """End every worker and its children: ask first, then, after `grace_s`, kill the process group."""
        self.stopping = True
        running = [slot for slot in self.slots if slot.child is not None]
        for slot in running:
            signal_group(slot.child, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        for slot in running:
            end(slot.child, max(0.0, deadline - time.monotonic()))
            slot.child = None

    def _start(self, slot: Slot) -> None:
        slot.child = subprocess.Popen(
            [*self.command, "--supervised", "--name", slot.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env=worker_environment(self.settings, os.environ, device=slot.device),
        )
        slot.started_at, slot.kills_before = self.clock(), self.count_kills()
        slot.starts += 1
        log.info("worker started name=%s pid=%d start=%d", slot.name, slot.child.pid, slot.starts)

    def _notice_end(self, slot: Slot) -> None:
        if slot.child is None or slot.child.poll() is None:
            return
        lived_s = self.clock() - slot.started_at
        signal_group(slot.child, signal.SIGKILL)  # what it started must not outlive it
        end(slot.child, 0.0)
        slot.backoff_s = FIRST_BACKOFF_S if lived_s >= HEALTHY_AFTER_S else slot.backoff_s
        slot.next_start_at = self.clock() + slot.backoff_s
        log.warning(
            "worker ended name=%s exit=%d lived_s=%.1f restart_in_s=%.1f",
            slot.name, slot.child.returncode, lived_s, slot.backoff_s,
        )  # fmt: skip
        slot.backoff_s = min(LAST_BACKOFF_S, slot.backoff_s * 2)
        status, slot.child = slot.child.returncode, None
        if status != 0:
            death = death_of(
                slot.name,
                exit_status=status,
                kills_before=slot.kills_before,
                kills_now=self.count_kills(),
            )
            log.error("worker died name=%s code=%s reason=%s", slot.name, death.code, death.message)
            self.on_death(slot.name, death)


def worker_environment(
    settings: Settings, environ: Mapping[str, str], *, device: str | None = None
) -> dict[str, str]:
    """Give a worker the daemon's own settings, its accelerator, and torch as many threads as they say."""
    ours = {name: value for name, value in environ.items() if not name.upper().startswith(PREFIX)}
    chosen = {
        PREFIX + name.upper(): value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.model_dump(mode="json").items()
        if value is not None
    }
    seen = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
    return {**ours, **chosen, **seen, **thread_environment(settings.threads_per_worker)}


def thread_environment(threads: int) -> dict[str, str]:
    """Thread counts of the numeric libraries; idle threads sleep, because spinning starves the others."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


def signal_group(child: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    """Send a signal to a worker and to whatever it started."""
    if child is not None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)


def end(child: subprocess.Popen[bytes] | None, grace_s: float) -> None:
    """Wait for a worker that was asked to leave; kill its group when it does not."""
    if child is None:
        return
    try:
        child.wait(timeout=grace_s)
    except subprocess.TimeoutExpired:
        log.warning("worker killed pid=%d grace_s=%.1f", child.pid, grace_s)
        signal_group(child, signal.SIGKILL)
        child.wait()
    if child.stdin is not None:
        child.stdin.close()
