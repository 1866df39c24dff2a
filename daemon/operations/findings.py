"""What a check found: a verdict, a sentence, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer of one check. `remedy` is empty where all is well."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check=check, verdict="ok", found=found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(check=check, verdict="warning", found=found, remedy=remedy)


def fault(check: str, found: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(check=check, verdict="fault", found=found, remedy=remedy)


def exit_status(findings: Iterable[Finding]) -> int:
    """1 where there is a fault, else 0: warnings do not fail a schedule."""
    return int(any(finding.verdict == "fault" for finding in findings))
