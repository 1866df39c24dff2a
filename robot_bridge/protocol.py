"""robot-station/v1 on the wire: what a client may send, what a station answers. No transport, no state.

A *command* with an unknown field is refused (fail closed); an *answer* may grow fields that older readers
skip. Every command can be sent twice: leases by their Idempotency-Key, episodes by episode_id, steps by
(episode_id, t).
"""

from __future__ import annotations

import operator
import uuid
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from robot_bridge.episode import Outcome, PolicyRef

PROTOCOL_MAJOR: Final = 1
PROTOCOL_MINOR: Final = 3
EARLY_END_MINOR: Final = 2  # the first version whose episodes may end before their last step
SNAPSHOT_MINOR: Final = 3  # the first version that shows its camera to who looks
PROTOCOL_HEADER: Final = "Station-Protocol"
FENCE_HEADER: Final = "Fence"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
DIGEST_HEADER: Final = "Manifest-Sha256"
PICTURE_NUMBER_HEADER: Final = "Picture-Number"
PICTURE_AGE_HEADER: Final = "Picture-Age-Ms"
PICTURE_TIME_HEADER: Final = "Picture-Captured-At"
PROBLEM_TYPE: Final = "application/problem+json"

AUTHORIZATION_HEADER: Final = "Authorization"
LEASE_TTL_MAX_S: Final = 60.0
RESET_ATTEMPTS_MAX: Final = 3
STEPS_MAX: Final = 1000  # of one episode
CHUNK_MAX: Final = 64  # actions in one call

EpisodeId: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-zA-Z][0-9a-zA-Z._-]{0,99}$")]
Corner: TypeAlias = Annotated[tuple[float, float, float], Field(strict=False)]  # JSON has lists only
FinishReason: TypeAlias = Literal["completed", "policy_error", "timeout_client"]
EpisodeMode: TypeAlias = Literal["stepped", "callback"]
Maintenance: TypeAlias = Literal["reboot_motors", "sleep", "wake"]


class Command(BaseModel):
    """Sent to a station: frozen, finite, nothing unknown in it, no text where a number belongs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Answer(BaseModel):
    """Sent by a station: frozen; fields of a later minor version are skipped."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class LeaseRequest(Command):
    """Ask for the robot. `ttl_s` seconds without a heartbeat or an accepted step end the lease."""

    holder: str = Field(min_length=1, max_length=200)
    purpose: str = Field(default="", max_length=200)
    ttl_s: float = Field(default=30.0, gt=0, le=LEASE_TTL_MAX_S)


class HeartbeatRequest(Command):
    """`seq` rises; one that was overtaken does not prolong the lease."""

    seq: int = Field(ge=0)


class NarrowedLimits(Command):
    """Limits tighter than the station's own; what is left out stays as it is. See `robot_bridge.limits`."""

    box_low: Corner | None = None
    box_high: Corner | None = None
    step_xyz_max: float | None = Field(default=None, gt=0)
    step_rot_max: float | None = Field(default=None, gt=0)
    ee_speed_max: float | None = Field(default=None, gt=0)
    joint_speed_max: float | None = Field(default=None, gt=0)
    ee_accel_max: float | None = Field(default=None, gt=0)
    joint_accel_max: float | None = Field(default=None, gt=0)
    effort_max_mA: float | None = Field(default=None, gt=0)  # noqa: N815 - mA is the unit
    tilt_max: float | None = Field(default=None, gt=0)


class EpisodeRequest(Command):
    """Reset the scene of a task and get ready. `instruction` None means the task's own sentence.

    In mode "callback" the station asks `policy_endpoint` itself, see `robot_bridge.callback`, once the
    episode is started; it must be an address that the station was told at home it may call.

    An episode says something of its policy where it was completed over all `max_steps`; with `may_end_early`,
    wherever its client completes it: by a rule that it has chosen before. Unless it is asked for it is not
    sent, and older stations take the episode.
    """

    episode_id: EpisodeId = Field(default_factory=lambda: str(uuid.uuid4()))
    task_id: str = Field(min_length=1, max_length=100)
    instruction: str | None = Field(default=None, max_length=500)
    mode: EpisodeMode = "stepped"
    policy_endpoint: str | None = Field(default=None, max_length=500)
    max_steps: int = Field(ge=1, le=STEPS_MAX)
    policy: PolicyRef
    seed: int = Field(ge=0, lt=2**63)
    limits: NarrowedLimits | None = None
    may_end_early: bool = Field(default=False, exclude_if=operator.not_)
    metadata: dict[str, str] = Field(default_factory=dict, max_length=50)


class StepsRequest(Command):
    """Execute actions [k][7] (bridge_v2) from step t on.

    `issued_at` is the station's own clock in seconds as the client knows it from its lease; a command that
    arrives more than `ttl_ms` later is refused. Shapes and NaN are judged by the safety pipeline, so that the
    answer says bad_action.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, strict=True)

    t: int = Field(ge=0, lt=STEPS_MAX)
    actions: list[list[float]] = Field(min_length=1, max_length=CHUNK_MAX)
    infer_ms: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    issued_at: float | None = Field(default=None, allow_inf_nan=False)
    ttl_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class FinishRequest(Command):
    """End the episode; only a completed one is judged."""

    reason: FinishReason = "completed"


class StartRequest(Command):
    """Let the station run a ready callback episode to its end, judge it and spool it."""


class ResetRequest(Command):
    """Bring scene and arm in order without an episode; `attempts` tries at most, then a human is asked."""

    task_id: str = Field(min_length=1, max_length=100)
    seed: int = Field(default=0, ge=0, lt=2**63)
    max_attempts: int = Field(default=RESET_ATTEMPTS_MAX, ge=1, le=RESET_ATTEMPTS_MAX)


class HumanDoneRequest(Command):
    """Said at the robot: what the station waited for is done."""

    note: str = Field(default="", max_length=500)


class ClearEStopRequest(Command):
    """Said at the robot; `nonce` stands in estop.json in the station's own folder, and nowhere else."""

    nonce: str = Field(min_length=1, max_length=100)


class AckRequest(Command):
    """The episode with this manifest is safe elsewhere: the station may forget it."""

    manifest_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class EStopRequest(Command):
    """Stop. Needs no lease."""

    reason: str = Field(default="", max_length=500)


class LeaseAnswer(Answer):
    """A lease. Send `fence` with every call that moves something, and a heartbeat every `heartbeat_s`."""

    lease_id: str
    fence: int
    ttl_s: float
    heartbeat_s: float
    station_time: float


class ObservationAnswer(Answer):
    """Observation t: a JPEG in base64, bridge_v2 proprio [7], joints [8], seconds on the robot's clock."""

    t: int
    jpeg: str
    proprio: list[float]
    qpos: list[float]
    captured_at: float


class EpisodeReadyAnswer(Answer):
    """The scene stands, the arm is home: observation 0 and what the station will do."""

    episode_id: str
    task_id: str
    instruction: str
    max_steps: int
    next_step: int
    observation: ObservationAnswer


class StepAnswer(Answer):
    """One executed step and the observation it produced (t + 1). Flags are bits of `robot_bridge.safety`."""

    t: int
    executed_action: list[float]
    target_pose: list[float]
    flags: int
    clips: list[str]
    ik_ok: bool
    observation: ObservationAnswer


class StepsAnswer(Answer):
    episode_id: str
    next_step: int
    steps: list[StepAnswer]


class SpooledEpisode(Answer):
    """One finished episode that waits for its acknowledgement."""

    episode_id: str
    manifest_sha256: str
    task_id: str
    outcome: Outcome
    T: int


class SpoolAnswer(Answer):
    """One page, oldest first. `unreadable` names folders whose manifest does not read back: look at them."""

    episodes: tuple[SpooledEpisode, ...]
    next_cursor: str | None = None
    unreadable: tuple[str, ...] = ()


class EpisodeStateAnswer(Answer):
    """Where an episode is: ready, running, held (by the dead-man), finished, or lost in a crash."""

    episode_id: str
    state: Literal["ready", "running", "held", "finished", "lost"]
    next_step: int | None
    outcome: Outcome | None = None


class ResetAnswer(Answer):
    """The scene of the task stands and the arm is home, after so many attempts."""

    task_id: str
    attempts: int


class EStopAnswer(Answer):
    since: str
    reason: str


class Problem(Answer):
    """RFC 9457 body. `parts` lets a client raise the very error the station raised."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool = False
    parts: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
