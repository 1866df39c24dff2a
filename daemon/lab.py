"""The processes of a lab on one machine: a robot station, and the daemon that is to use it.

Each is one of our own commands, on a free loopback port and with its files in the lab's folder. However the
block that uses them ends, all are stopped, and nothing they started outlives them; where whoever had started
them was killed, the next to start them ends those first.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from daemon.errors import DemoFailed
from robot_bridge.drivers.tasks import TASKS

START_DEADLINE_S = 90.0
STOP_DEADLINE_S = 20.0
LOOK_EVERY_S = 0.05

KEPT: Final = "GYMNASTD_THREADS_PER_WORKER"  # two labs side by side on two cores want a thread each

Via = Literal["station", "station-callback", "autoeval-emulator"]
COLLECT_VIA: Final[dict[Via, str]] = {
    "station": "stepped",
    "station-callback": "callback",
    "autoeval-emulator": "autoeval",
}


def fresh_lab(out: Path) -> Path:
    """An empty data directory inside `out`; earlier runs keep theirs under their own names."""
    out.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name.removeprefix("lab-")) for path in out.glob("lab-[0-9]*")]
    lab = out.resolve() / f"lab-{max(taken, default=0) + 1:03d}"
    lab.mkdir()
    return lab


@contextmanager
def servers(lab: Path, cell_seed: int, *, via: Via = "station") -> Iterator[tuple[str, str]]:
    """The robot and the daemon as processes; yields their URLs and stops both however the block ends."""
    name, command = robot_command(lab, cell_seed, via=via)
    with server(lab, name, command=command, environment={}) as robot_url:
        environment = {
            "GYMNASTD_DATA_DIR": str(lab / "data"),
            "GYMNASTD_COLLECT_VIA": COLLECT_VIA[via],
            **(autoeval_settings(robot_url) if name == "autoeval" else {"GYMNASTD_STATION_URL": robot_url}),
        }
        with server(lab, "serve", command=["serve"], environment=environment) as daemon_url:
            yield robot_url, daemon_url


def robot_command(lab: Path, cell_seed: int, *, via: Via) -> tuple[str, list[str]]:
    """What runs the simulated robots: our station, or AutoEval's emulator over cells of the same kind."""
    if via == "autoeval-emulator":
        root = str(lab / "autoeval")
        return "autoeval", ["autoeval-emulator", "--cell-seed", str(cell_seed), "--root", root]
    return "station", ["station", "--sim", "--cell-seed", str(cell_seed), "--spool", str(lab / "spool")]


def autoeval_settings(url: str) -> dict[str, str]:
    """Settings for an emulator: scheduler and hub in one, with the boxes of the simulated cells."""
    boxes = {name: (task.box_low, task.box_high) for name, task in TASKS.items()}
    return {
        "GYMNASTD_AUTOEVAL_URL": url,
        "GYMNASTD_AUTOEVAL_HUB": url,
        "GYMNASTD_AUTOEVAL_BOXES": json.dumps(boxes),
        "GYMNASTD_AUTOEVAL_ROTATION": "bridge_compensated",
        "GYMNASTD_AUTOEVAL_POLL_S": "1",
        "GYMNASTD_AUTOEVAL_JOIN_WAIT_S": "60",
        "GYMNASTD_GATEWAY_BIND": f"127.0.0.1:{free_port()}",
    }


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(
    lab: Path, name: str, *, command: Sequence[str], environment: Mapping[str, str], port: int = 0
) -> Iterator[str]:
    """One of our servers on loopback, port 0 is a free one; its log goes to `<lab>/<name>.log`."""
    announced, numbered = lab / f"{name}.url", lab / f"{name}.pid"
    end_orphan(numbered, announced)
    announced.unlink(missing_ok=True)
    arguments = [sys.executable, "-m", "daemon.cli", *command]
    arguments += ["--port", str(port), "--announce", str(announced)]
    with (lab / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            arguments,
            env={**inherited(os.environ), "OMP_WAIT_POLICY": "PASSIVE", **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone; we stop the others in order
        )
        try:
            numbered.write_text(str(process.pid))
            yield wait_for_url(process, announced)
        finally:
            stop(process)
            numbered.unlink(missing_ok=True)


def end_orphan(numbered: Path, announced: Path) -> None:
    """End the server of an earlier start, if it still runs; it would hold the lab's locks.

    Where there is no /proc to tell that the number is still its own, it is left alone.
    """
    try:
        pid = int(numbered.read_text())
        told = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if str(announced).encode() not in told:
        return
    deadline = time.monotonic() + STOP_DEADLINE_S
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.killpg(pid, 0)  # raises once nobody is left
            time.sleep(LOOK_EVERY_S)
        os.killpg(pid, signal.SIGKILL)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What a server of ours is told by the environment: nothing of another lab's settings but its threads."""
    return {key: value for key, value in environ.items() if key == KEPT or not key.startswith("GYMNASTD_")}


def wait_for_url(process: subprocess.Popen[bytes], announced: Path) -> str:
    """The address that a server wrote when it was ready.

    Raises:
        DemoFailed: it ended or stayed silent; the end of its log is in the message.
    """
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        if announced.exists():
            return announced.read_text().strip()
        time.sleep(LOOK_EVERY_S)
    log = announced.with_suffix(".log").read_text(errors="replace").splitlines()
    raise DemoFailed(step=f"the start of {announced.stem}", found="\n".join(log[-15:]))


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the group, then SIGKILL to what is left of it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
