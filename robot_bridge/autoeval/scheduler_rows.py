"""What is sent to AutoEval's scheduler and what it lists, checked: it is public, and anybody writes into it.

Numbers are checked, texts made printable and cut, states must be known. The calls are in `scheduler`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from robot_bridge.autoeval.errors import JobInvalid, SchedulerMisbehaved
from robot_bridge.autoeval.scheduler_http import printable
from robot_bridge.autoeval.tasks import EPISODES_MAX

STATUSES: Final = ("queued", "evaluating", "completed", "failed", "cancelled")
TERMINAL: Final = ("completed", "failed", "cancelled")
DESCRIPTION_PREFIX: Final = "dyna"
DIGEST_DIGITS: Final = 12
NAME_MAX: Final = 200  # characters of what others named
TEXT_MAX: Final = 500
COUNT_MAX: Final = 10**9
SECONDS_MAX: Final = 1e11  # unix time of the year 5138


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What is posted. The whole of it can be read by anybody: no secrets in the description.

    A port below zero means that the address is complete without one.

    Raises:
        JobInvalid: a number AutoEval would not take, or the description gives the policy's address away.
    """

    description: str
    robot: str
    task: str
    policy_server_ip: str
    policy_server_port: int
    num_episodes: int
    max_steps: int
    submitter_id: str
    policy_name: str

    def __post_init__(self) -> None:
        if not 1 <= self.num_episodes <= EPISODES_MAX:
            self._refuse("num_episodes", f"1 to {EPISODES_MAX}", self.num_episodes)
        if self.max_steps < 1:
            self._refuse("max_steps", "at least 1", self.max_steps)
        if not 1 <= len(self.description) <= NAME_MAX or not self.description.isprintable():
            self._refuse("description", f"1 to {NAME_MAX} printable characters", len(self.description))
        capability = self.policy_server_ip.rstrip("/").rpartition("/")[2]
        if capability and capability in self.description:
            self._refuse("description", "free of the policy server's address", "a part of it")

    def _refuse(self, thing: str, expected: str, found: object) -> None:
        raise JobInvalid(thing=thing, expected=expected, found=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as it is listed. `success_rate` is a share; `wandb_url` is to be shown, never opened."""

    job_id: str
    status: str
    description: str
    robot: str
    task: str
    num_episodes: int | None
    max_steps: int | None
    submitted_at: float | None
    success_rate: float | None
    wandb_url: str

    @property
    def is_over(self) -> bool:
        """Whether AutoEval will do nothing more about it."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotStatus:
    """Whether a robot takes jobs, and what its owners say when it does not."""

    robot: str
    is_online: bool
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStatus:
    """What a cell shows of itself now. While `waiting_for_human` a job stands still and is not broken."""

    instruction: str
    episode: int
    timestep: int
    waiting_for_human: bool


def description_of(job_id: str, policy_digest: str | None) -> str:
    """The token a job is found by: our job's id, and the first digits of the policy's digest."""
    digest = (policy_digest or "").removeprefix("sha256:")[:DIGEST_DIGITS] or "none"
    return f"{DESCRIPTION_PREFIX}:{job_id}:{digest}"


def job_of(raw: Mapping[str, Any], *, url: str) -> JobRow:
    """One listed job.

    Raises:
        SchedulerMisbehaved: without an id, in an unknown state, or with a success rate that is no share.
    """
    job_id, rate = raw.get("id"), raw.get("success_rate")
    if not isinstance(job_id, str) or len(job_id) > NAME_MAX:
        raise _misbehaved(url, expected="a job with an id", found=kind_of(job_id))
    is_share = isinstance(rate, int | float) and math.isfinite(rate) and 0.0 <= rate <= 1.0
    if rate is not None and (isinstance(rate, bool) or not is_share):
        raise _misbehaved(url, expected="a success rate from 0 to 1", found=repr(rate)[:40])
    link = text_of(raw, "wandb_url")
    return JobRow(
        job_id=job_id,
        status=status_of(raw, url=url),
        description=text_of(raw, "description"),
        robot=text_of(raw, "robot"),
        task=text_of(raw, "task"),
        num_episodes=whole_number(raw.get("num_episodes")),
        max_steps=whole_number(raw.get("max_steps")),
        submitted_at=_seconds(raw.get("submitted_at")),
        success_rate=None if rate is None else float(rate),
        wandb_url=link if link.startswith("https://") else "",
    )


def status_of(raw: Mapping[str, Any], *, url: str) -> str:
    """One of STATUSES.

    Raises:
        SchedulerMisbehaved: another one.
    """
    status = raw.get("status")
    if status not in STATUSES:
        found = repr(status)[:60] if isinstance(status, str) else kind_of(status)
        raise _misbehaved(url, expected=f"a status of {', '.join(STATUSES)}", found=found)
    return str(status)


def robot_of(raw: object, *, url: str) -> RobotStatus:
    """One listed robot.

    Raises:
        SchedulerMisbehaved: without a name, or without saying whether it is online.
    """
    name = raw.get("robot") if isinstance(raw, dict) else None
    is_online = raw.get("is_online") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(name, str) or not isinstance(is_online, bool):
        raise _misbehaved(url, expected="a robot that is online or not", found=kind_of(raw))
    return RobotStatus(
        robot=printable(name, NAME_MAX), is_online=is_online, message=text_of(raw, "offline_message")
    )


def live_of(raw: Mapping[str, Any]) -> LiveStatus:
    """What a cell shows; whoever likes may write into it, so that it is only ever shown."""
    return LiveStatus(
        instruction=text_of(raw, "language_instruction"),
        episode=whole_number(raw.get("episode")) or 0,
        timestep=whole_number(raw.get("timestep")) or 0,
        waiting_for_human=raw.get("waiting_for_human") is True,
    )


def text_of(raw: Mapping[str, Any], name: str) -> str:
    """A text field, printable and cut; "" where there is none."""
    value = raw.get(name)
    return printable(value, TEXT_MAX) if isinstance(value, str) else ""


def whole_number(value: object) -> int | None:
    """A number that counts something, or None."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX
    return value if isinstance(value, int) and is_count else None


def kind_of(value: object) -> str:
    """What to call somebody else's value in a sentence."""
    return "nothing" if value is None else type(value).__name__


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= SECONDS_MAX else None


def _misbehaved(url: str, *, expected: str, found: str) -> SchedulerMisbehaved:
    return SchedulerMisbehaved(url=url, call="a question about jobs", expected=expected, found=found)
