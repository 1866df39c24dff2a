"""The dependency audit tells apart: nothing known, a vulnerability, no service, a wrong question."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AWAY = "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='advisories.example', port=443)"
FAULT = {"id": "PYSEC-2026-1", "fix_versions": ["1.2"], "aliases": [], "description": "bad"}


def document(*faults: object) -> str:
    fine = {"name": "fine", "version": "1.0", "vulns": []}
    skipped = {"name": "ours", "skip_reason": "not found"}
    return json.dumps(
        {"dependencies": [fine, skipped, {"name": "old", "version": "1.1", "vulns": [*faults]}]}
    )


def audit(
    folder: Path, *, out: str = "", complaint: str = "", status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Ask a program that answers so instead of the real one; it keeps what it was asked."""
    program = folder / "pip-audit"
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        f"pathlib.Path({str(folder / 'asked')!r}).write_text(' '.join(sys.argv[1:]))\n"
        f"print({out!r})\nsys.stderr.write({complaint!r})\nsys.exit({status})\n"
    )
    program.chmod(0o755)
    environment = {**os.environ, "PIP_AUDIT": str(program), "PYTHON": sys.executable}
    return subprocess.run(
        [ROOT / ".ci" / "audit"], capture_output=True, text=True, env=environment, timeout=60, check=False
    )


def test_without_a_known_vulnerability_it_says_so_and_passes(tmp_path: Path) -> None:
    done = audit(tmp_path, out=document())
    assert (done.returncode, done.stderr) == (0, "")
    known = "no known vulnerability in 2 of 3 pins; the others are not known there"
    assert done.stdout == f"dependency audit: {known}\n"
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("--requirement constraints.txt --no-deps --disable-pip --format json")


def test_a_service_that_knows_none_of_the_pins_has_checked_nothing(tmp_path: Path) -> None:
    """An index that only stands for the real one answers so, and it must not pass for a clean bill."""
    skipped = json.dumps({"dependencies": [{"name": name, "skip_reason": "not found"} for name in "ab"]})
    done = audit(tmp_path, out=skipped)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "dependency audit: NOT CHECKED, the advisory service knows none of 2 pins\n"


def test_a_known_vulnerability_fails_and_is_named_with_its_cure(tmp_path: Path) -> None:
    done = audit(tmp_path, out=document(FAULT, {**FAULT, "id": "PYSEC-2026-2", "fix_versions": []}), status=1)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "dependency audit: known vulnerabilities; pin other versions in constraints.txt",
        "  old 1.1: PYSEC-2026-1 fixed in 1.2",
        "  old 1.1: PYSEC-2026-2 fixed in no version yet",
    ]


def test_a_service_that_cannot_be_reached_is_told_and_does_not_fail(tmp_path: Path) -> None:
    done = audit(tmp_path, complaint=f"Traceback\n  File\n{AWAY}\n", status=1)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("dependency audit: NOT CHECKED, the advisory service did not answer: ")
    assert "advisories.example" in done.stdout


@pytest.mark.parametrize(
    ("complaint", "status"),
    [("ERROR:pip_audit._cli:invalid requirements input: constraints.txt", 1), ("usage: pip-audit", 2)],
)
def test_a_question_that_cannot_be_put_fails(tmp_path: Path, complaint: str, status: int) -> None:
    done = audit(tmp_path, complaint=complaint, status=status)
    assert done.returncode == 1
    assert (
        done.stderr == f"dependency audit: the question could not be put (exit status {status})\n{complaint}"
    )


def test_a_program_that_is_not_there_fails() -> None:
    environment = {**os.environ, "PIP_AUDIT": "/nowhere/pip-audit"}
    done = subprocess.run(
        [ROOT / ".ci" / "audit"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1
    assert "could not be put (exit status 127)" in done.stderr


def test_the_checks_ask_and_the_program_that_asks_is_pinned() -> None:
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-2:] == [".ci/audit", "make test"]
    assert "pip-audit" in (ROOT / "pyproject.toml").read_text()
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert any(re.fullmatch(r"pip[-_]audit==[0-9.]+", pin) for pin in pins)
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[^ ;]+", pin)] == [], (
        "all are looked up"
    )
