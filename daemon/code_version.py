"""Which code and which packages this process runs: digests of our own sources, versions of what counts.

Nothing here runs a program or imports what it tells the version of.
"""

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

DISTRIBUTION = "gymnast-daemon"
ROOT = Path(__file__).parents[1]
OURS = ("daemon", "storage", "robot_bridge")
PACKAGES = (  # whose version can change a number: arithmetic, models, pictures, the simulated cell
    "accelerate",
    "av",
    "diffusers",
    "mujoco",
    "numpy",
    "peft",
    "pillow",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)
CPU_FACTS = Path("/proc/cpuinfo")


@cache
def code_version() -> Mapping[str, Any]:
    """The release, one sha256 over all our source files, and the commit where this is a checkout."""
    return {
        "version": version(DISTRIBUTION),
        "sha256": sources_digest(ROOT),
        "commit": commit_of(ROOT),
    }


@cache
def platform_facts() -> Mapping[str, Any]:
    """Interpreter, packages and processor."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(CPU_FACTS),
        "packages": package_versions(PACKAGES),
    }


def package_versions(names: tuple[str, ...]) -> dict[str, str]:
    """The installed version of each package; those that are not installed are left out."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def sources_digest(root: Path) -> str:
    """sha256 over the names and contents of all Python files of our packages under `root`."""
    digest = hashlib.sha256()
    for package in OURS:
        for path in sorted((root / package).rglob("*.py")):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def commit_of(root: Path) -> str | None:
    """The commit that a checkout at `root` is at, read from its files; None where it is no checkout."""
    folder = _git_folder(root / ".git")
    if folder is None:
        return None
    head = _text(folder / "HEAD")
    name = head.removeprefix("ref: ")
    if name == head:
        return head or None  # a detached head is the commit itself
    shared = (folder / _text(folder / "commondir")) if (folder / "commondir").is_file() else folder
    return _text(folder / name) or _text(shared / name) or _packed(shared / "packed-refs", name)


def processor_name(facts: Path) -> str:
    """The processor's model as Linux tells it; elsewhere what Python knows."""
    named = [line.partition(":")[2] for line in _text(facts).splitlines() if line.startswith("model name")]
    return named[0].strip() if named else platform.processor() or platform.machine()


def _git_folder(place: Path) -> Path | None:
    """A folder; or, in a worktree, a file that names one."""
    if place.is_file():
        return (place.parent / _text(place).removeprefix("gitdir: ")).resolve()
    return place if place.is_dir() else None


def _packed(file: Path, name: str) -> str | None:
    for line in _text(file).splitlines():
        commit, _, ref = line.partition(" ")
        if ref == name:
            return commit
    return None


def _text(file: Path) -> str:
    """The file's text, nothing where there is no such file."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
