"""A worker process whose phases take no time, run by tests as a script.

Each phase appends its name to `walked`; while a file `hold-<phase>` is in the data directory it stays in
the phase, reporting, so that a test can do something to it there. A file `crash-<phase>` makes it die once.
"""

import os
import signal
import sys
import threading

from daemon.phases.context import PhaseContext
from daemon.worker_process import run_worker_process

PAUSE = threading.Event()


def run(phase: str, context: PhaseContext) -> dict[str, object]:
    folder = context.settings.data_dir
    with (folder / "walked").open("a") as walked:
        walked.write(f"{phase}\n")
    crash = folder / f"crash-{phase}"
    if crash.exists():
        crash.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"in-{phase}").write_text(str(os.getpid()))
    while (folder / f"hold-{phase}").exists():
        context.report(0.5, "holding")
        PAUSE.wait(0.01)
    context.record({"update": 1, "loss": 0.5})
    return {"made": {phase: str(context.iteration_number)}}


def phase_named(name: str):
    return lambda context: run(name, context)


NAMES = ("collect", "finetune_world_model", "update_policy")

if __name__ == "__main__":
    sys.exit(run_worker_process({name: phase_named(name) for name in NAMES}, sys.argv[1:]))
