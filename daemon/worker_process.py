"""What makes a process a worker: its arguments, its signals, and the watch on the daemon that started it."""

import argparse
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

from daemon.errors import DaemonError
from daemon.heartbeat import WorkerStopped
from daemon.logs import configure_logging
from daemon.phase_worker import Phase, no_device, run_worker
from daemon.redaction import secrets_of
from daemon.settings import load_settings
from daemon.tracing import tracing
from daemon.worlds.turn import Imagine
from storage.errors import StorageError

log = logging.getLogger(__name__)

STANDARD_INPUT = 0
ORPHAN_GRACE_S = 5.0


def run_worker_process(
    phases: Mapping[str, Phase],
    arguments: Sequence[str],
    *,
    imagine: Imagine | None = None,
    device: Callable[[], str | None] = no_device,
) -> int:
    """Be a worker until told to stop. SIGTERM and SIGINT give the phase run back, unfinished.

    Returns:
        The exit status: 0 after a stop that was asked for, 1 when the worker could not work at all.
    """
    parsed = _parse(arguments)
    stop = threading.Event()
    try:
        settings = load_settings()
        configure_logging(settings.log_level, secrets_of(settings), form=settings.log_format)
        _stop_on_signals(stop)
        if parsed.supervised:
            threading.Thread(target=_leave_with_parent, name="parent-watch", daemon=True).start()
        with tracing(settings, role="worker"):
            run_worker(settings, name=parsed.name, stop=stop, phases=phases, imagine=imagine, device=device)
    except WorkerStopped:
        log.info("worker stopped name=%s", parsed.name)
    except (DaemonError, StorageError) as error:
        log.error("worker failed name=%s code=%s reason=%s", parsed.name, error.code, error)
        return 1
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gymnastd-worker", description="Runs phases of iterations.")
    parser.add_argument("--name", default=f"{os.uname().nodename}-{os.getpid()}", help="shown in phase runs")
    parser.add_argument("--supervised", action="store_true", help="leave when standard input closes")
    return parser.parse_args(arguments)


def _stop_on_signals(stop: threading.Event) -> None:
    def asked_to_stop(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)  # giving the run back must not be interrupted
        stop.set()
        raise WorkerStopped

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, asked_to_stop)


def _leave_with_parent() -> None:
    """Wait until the pipe from the daemon closes, which it does however the daemon ends; then stop."""
    while os.read(STANDARD_INPUT, 1):
        pass
    log.warning("the daemon is gone; this worker leaves")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_GRACE_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)  # started in a group of its own, so nobody else is in it
