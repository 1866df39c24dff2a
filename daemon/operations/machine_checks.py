"""Checks of the machine: disk, data directory, clock, packages, accelerator. No torch in this process."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from importlib import metadata
from pathlib import Path
from uuid import uuid4

from packaging.requirements import InvalidRequirement, Requirement

from daemon.disk import LOW, MB, DiskGuard
from daemon.operations.findings import Finding, fault, ok, warning
from daemon.settings import Settings

DISTRIBUTION = "gymnast-daemon"
SLOW_FLUSH_S = 1.0  # a disk that takes longer for a few bytes will miss heartbeats
CLOCK_LOOK_S = 0.2
CLOCK_SLACK_S = 0.1  # between two clocks over CLOCK_LOOK_S; a clock that is being set is off by more
TORCH_S = 180.0  # importing torch from a cold disk
LOOK_AT_TORCH = """
import json, sys, torch
found = {"torch": torch.__version__, "cuda": torch.cuda.is_available()}
if found["cuda"]:
    torch.ones(8, device="cuda").sum().item()
    found["device"] = torch.cuda.get_device_name(0)
sys.stdout.write(json.dumps(found))
"""


def check_disk(settings: Settings) -> Finding:
    """Whether there is room, and for a while yet."""
    guard = DiskGuard(folder=settings.data_dir, min_free_mb=settings.min_free_disk_mb)
    free_mb = guard.measure(settings.data_dir) // MB
    found = f"{free_mb} MB are free under {settings.data_dir}, {settings.min_free_disk_mb} are the least"
    remedy = "free some: `gymnastd gc`, old backups, another disk"
    if free_mb < settings.min_free_disk_mb:
        return fault("disk", f"{found}; nothing is collected or learned", remedy)
    if free_mb < LOW * settings.min_free_disk_mb:
        return warning("disk", found, remedy)
    return ok("disk", found)


def check_data_directory(data_dir: Path) -> Finding:
    """Whether files can be written, flushed and renamed there."""
    name = "data_directory"
    if not data_dir.is_dir():
        return warning(
            name, f"{data_dir} is not there yet", "`gymnastd serve` makes it; or set GYMNASTD_DATA_DIR"
        )
    probe = data_dir / f".doctor-{uuid4().hex}"
    begun = time.monotonic()
    try:
        with probe.open("xb") as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
        probe = probe.replace(probe.with_suffix(".renamed"))
    except OSError as error:
        return fault(
            name, f"{data_dir} cannot be written: {error}", "see to its owner, its mount and its quota"
        )
    finally:
        probe.unlink(missing_ok=True)
    took_s = time.monotonic() - begun
    found = f"{data_dir} takes a file and flushes it in {1000 * took_s:.0f} ms"
    if took_s > SLOW_FLUSH_S:
        return warning(name, found, "the disk is slow or busy; heartbeats may come late")
    return ok(name, found)


def check_clock(
    newest: datetime | None,
    *,
    now: Callable[[], datetime],
    monotonic: Callable[[], float] = time.monotonic,
) -> Finding:
    """Whether the wall clock runs as fast as the one that cannot be set, and is not behind our own rows.

    Args:
        newest: the newest time that the database holds.
    """
    name = "clock"
    wall, steady = now(), monotonic()
    threading.Event().wait(CLOCK_LOOK_S)
    drift = (now() - wall).total_seconds() - (monotonic() - steady)
    remedy = "let NTP set the clock (timedatectl); leases and schedules go by it"
    if abs(drift) > CLOCK_SLACK_S:
        return fault(name, f"the wall clock jumped {drift:+.3f} s in {CLOCK_LOOK_S} s", remedy)
    if newest is not None and newest > now():
        behind = (newest - now()).total_seconds()
        return fault(name, f"the clock is {behind:.0f} s behind the newest row of the database", remedy)
    local = now().astimezone()
    return ok(name, f"{now().isoformat(timespec='seconds')}, here {local.tzname()} (UTC{local:%z})")


def check_packages() -> list[Finding]:
    """Whether every package that this release needs is there, in a version that it was made for."""
    try:
        wanted = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return [warning("packages", f"{DISTRIBUTION} is not installed, only its code is here", "install it")]
    faults = [found for line in wanted if (found := unmet(line)) is not None]
    if not faults:
        return [ok("packages", f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)}, all versions as supported")]
    remedy = "install the release again with its constraints.txt"
    return [fault("packages", found, remedy) for found in faults]


def unmet(line: str) -> str | None:
    """What is wrong with the package that a line of requirements names; None where nothing is."""
    try:
        wanted = Requirement(line)
    except InvalidRequirement:
        return f"{line} cannot be read"
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return None
    try:
        found = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{wanted.name} is missing, {wanted.specifier} is supported"
    if wanted.specifier.contains(found, prereleases=True):
        return None
    return f"{wanted.name} is {found}, {wanted.specifier} is supported"


def check_accelerator(timeout_s: float = TORCH_S) -> Finding:
    """What torch finds, asked in a process of its own."""
    name, remedy = "accelerator", "run `python -c 'import torch'` to see why; install the release again"
    try:
        done = subprocess.run(
            [sys.executable, "-c", LOOK_AT_TORCH],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return fault(name, f"torch does not load within {timeout_s:.0f} s", remedy)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return fault(name, f"torch does not work: {last}", remedy)
    found = json.loads(done.stdout)
    if found["cuda"]:
        return ok(name, f"torch {found['torch']} on {found['device']}")
    return ok(name, f"torch {found['torch']} on the processor; there is no accelerator")
