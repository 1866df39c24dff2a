"""What a station says of itself: who it is, what it allows, what it does now. No commands here."""

from __future__ import annotations

from typing import Literal, TypeAlias

from robot_bridge.episode import Convention
from robot_bridge.protocol import Answer, Corner

StationState: TypeAlias = Literal[
    "OFFLINE",  # the driver is gone
    "IDLE",
    "HOMING",
    "RESETTING",
    "READY",  # an episode waits for its first action
    "RUNNING",
    "HOLD",  # the dead-man holds the arm
    "JUDGING",
    "FAULT",  # motors or camera; maintenance is needed
    "RESTING",
    "WAITING_HUMAN",
    "ESTOPPED",
]
EpisodeProgress: TypeAlias = Literal["ready", "running", "held"]


class ProtocolVersion(Answer):
    major: int
    minor: int


class CameraAnswer(Answer):
    name: str
    w: int
    h: int
    fps: float
    renderer: str


class TaskAnswer(Answer):
    """One task, and the box (metres, base frame) that targets stay in while it runs."""

    task_id: str
    instruction: str
    box_low: Corner
    box_high: Corner
    reset: Literal["auto", "human", "none"] = "auto"
    judge: Literal["classifier", "sim", "human"] = "sim"


class LimitsAnswer(Answer):
    """The station's own limits: metres, radians, seconds and milliampere. None: this robot declares none."""

    step_xyz_max: float
    step_rot_max: float
    max_steps: int
    max_actions_per_call: int
    ee_speed_max: float | None = None  # metres a second
    joint_speed_max: float | None = None  # radians a second
    ee_accel_max: float | None = None  # metres a second, a second
    joint_accel_max: float | None = None  # radians a second, a second
    effort_max_mA: float | None = None  # noqa: N815
    tilt_max: float | None = None  # radians from straight down; pi: any
    max_episode_s: float | None = None


class DeadManAnswer(Answer):
    """How long a stepped episode may wait for its next step: then the arm holds, then the episode ends."""

    hold_after_ms: int
    abort_after_ms: int
    park_after_s: float


class RestAnswer(Answer):
    """The motors rest `rest_s` seconds after `work_s` seconds of work."""

    work_s: float
    rest_s: float


class StationAnswer(Answer):
    """Who this station is and what it allows."""

    station_id: str
    robot_model: str
    software_digest: str
    protocol: ProtocolVersion
    capabilities: tuple[str, ...]
    modes: tuple[str, ...]
    conventions: Convention
    control_hz: float
    cameras: tuple[CameraAnswer, ...]
    limits: LimitsAnswer
    tasks: tuple[TaskAnswer, ...]
    dead_man: DeadManAnswer | None = None
    rest: RestAnswer | None = None
    policy_endpoints: tuple[str, ...] = ()  # prefixes of the addresses a callback episode may name


class MotorAnswer(Answer):
    """One motor; `error` is "" when it is well."""

    name: str
    torque: bool
    error: str
    temperature_c: float | None
    current_mA: float | None  # noqa: N815


class CameraStatus(Answer):
    """The newest picture: its number, how old it was when it was read, and how many came twice."""

    name: str
    seq: int
    age_ms: float
    dup_frames: int


class LeaseState(Answer):
    """What everybody may know of a lease; its id stays with its holder."""

    holder: str
    fence: int
    remaining_s: float


class OpenEpisode(Answer):
    episode_id: str
    task_id: str
    state: EpisodeProgress
    next_step: int
    clips: dict[str, int]


class HealthAnswer(Answer):
    live: bool
    ready: bool
    state: StationState


class StatusAnswer(Answer):
    """What the station does now; `station_time` is its clock in seconds."""

    state: StationState
    lease: LeaseState | None
    episode: OpenEpisode | None
    estop_reason: str | None
    spooled_episodes: int
    spooled_bytes: int
    station_time: float
    waiting_for: str | None = None  # what a human is asked to do
    motors: tuple[MotorAnswer, ...] = ()
    cameras: tuple[CameraStatus, ...] = ()
    uptime_s: float = 0.0
    worked_s: float = 0.0  # since the motors rested last
    resting_s: float = 0.0  # how long they still rest
