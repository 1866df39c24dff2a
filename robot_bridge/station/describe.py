"""What a station says of itself: its state as one word, its status, its description. It changes nothing."""

from __future__ import annotations

from robot_bridge.conventions import BRIDGE_V2
from robot_bridge.description import (
    CameraAnswer,
    DeadManAnswer,
    HealthAnswer,
    LimitsAnswer,
    MotorAnswer,
    OpenEpisode,
    ProtocolVersion,
    RestAnswer,
    StationAnswer,
    StationState,
    StatusAnswer,
    TaskAnswer,
)
from robot_bridge.episode import Convention
from robot_bridge.protocol import CHUNK_MAX, PROTOCOL_MAJOR, PROTOCOL_MINOR, STEPS_MAX
from robot_bridge.station.core import StationCore
from robot_bridge.station.recording import Recording

CAPABILITIES = (
    "stepped",
    "callback",
    "seeded_reset",
    "sim_predicate",
    "spool",
    "narrowed_limits",
    "events",
    "labels",
    "resets",
    "dead_man",
    "rest_policy",
    "snapshot",
)
OUT_OF_ORDER: tuple[StationState, ...] = ("OFFLINE", "ESTOPPED", "FAULT", "WAITING_HUMAN", "RESTING")


def state_of(core: StationCore) -> StationState:
    """One word: what keeps the arm from moving if anything does, else what it does, else that it is idle."""
    hindrance = _hindrance(core)
    if hindrance is not None:
        return hindrance
    recording = core.recording
    if core.resetting:
        return "RESETTING"
    if core.runner.judging:
        return "JUDGING"
    if recording is not None:
        return _doing(recording)
    return "HOMING" if core.keeper.needs_homing else "IDLE"


def health_of(core: StationCore) -> HealthAnswer:
    """Whether it can be asked for an episode."""
    state = state_of(core)
    return HealthAnswer(live=True, ready=state not in OUT_OF_ORDER, state=state)


def status_of(core: StationCore) -> StatusAnswer:
    """Everything about this moment."""
    keeper, recording, latched = core.keeper, core.recording, core.estop.read()
    episodes, size = core.spool.size()
    return StatusAnswer(
        state=state_of(core),
        lease=core.leases.state(),
        episode=None if recording is None else _open(recording),
        estop_reason=None if latched is None else latched["reason"],
        spooled_episodes=episodes,
        spooled_bytes=size,
        station_time=core.clock(),
        waiting_for=keeper.human.reason(),
        motors=tuple(
            MotorAnswer(
                name=motor.name,
                torque=motor.torque,
                error=motor.error,
                temperature_c=motor.temperature_c,
                current_mA=motor.current_mA,
            )
            for motor in keeper.readings
        ),
        cameras=(keeper.camera,),
        uptime_s=core.uptime_s,
        worked_s=keeper.rest.worked_s,
        resting_s=keeper.rest.left_s,
    )


def description_of(core: StationCore) -> StationAnswer:
    """Who it is and what it allows."""
    robot, policy = core.keeper.description, core.station.policy
    camera = robot.camera
    return StationAnswer(
        station_id=core.station.station_id,
        robot_model=robot.robot_model,
        software_digest=robot.software_digest,
        protocol=ProtocolVersion(major=PROTOCOL_MAJOR, minor=PROTOCOL_MINOR),
        capabilities=CAPABILITIES,
        modes=("stepped", "callback"),
        conventions=Convention(state=BRIDGE_V2, action=BRIDGE_V2),
        control_hz=robot.control_hz,
        cameras=(
            CameraAnswer(
                name=camera.name, w=camera.width, h=camera.height, fps=camera.fps, renderer=camera.renderer
            ),
        ),
        limits=LimitsAnswer(
            step_xyz_max=robot.step_xyz_max,
            step_rot_max=robot.step_rot_max,
            max_steps=STEPS_MAX,
            max_actions_per_call=CHUNK_MAX,
            ee_speed_max=robot.ee_speed_max,
            joint_speed_max=robot.joint_speed_max,
            ee_accel_max=robot.ee_accel_max,
            joint_accel_max=robot.joint_accel_max,
            effort_max_mA=robot.effort_max_mA,
            tilt_max=robot.tilt_max,
            max_episode_s=policy.max_episode_s,
        ),
        tasks=tuple(
            TaskAnswer(
                task_id=task.task_id,
                instruction=task.instruction,
                box_low=task.box_low,
                box_high=task.box_high,
                reset=task.reset,
                judge=task.judge,
            )
            for task in robot.tasks
        ),
        dead_man=DeadManAnswer(
            hold_after_ms=policy.hold_after_ms,
            abort_after_ms=policy.abort_after_ms,
            park_after_s=policy.park_after_s,
        ),
        rest=RestAnswer(work_s=policy.work_s, rest_s=policy.rest_s),
        policy_endpoints=policy.policy_endpoints,
    )


def _hindrance(core: StationCore) -> StationState | None:
    keeper = core.keeper
    if core.closed:
        return "OFFLINE"
    if core.estop.read() is not None:
        return "ESTOPPED"
    if keeper.fault is not None:
        return "FAULT"
    if keeper.human.reason() is not None:
        return "WAITING_HUMAN"
    return "RESTING" if keeper.rest.asleep else None


def _doing(recording: Recording) -> StationState:
    if recording.ending is not None:
        return "JUDGING"
    words: dict[str, StationState] = {"ready": "READY", "running": "RUNNING", "held": "HOLD"}
    return words[recording.progress]


def _open(recording: Recording) -> OpenEpisode:
    return OpenEpisode(
        episode_id=recording.episode_id,
        task_id=recording.request.task_id,
        state=recording.progress,
        next_step=recording.count,
        clips=dict(recording.pipeline.counts),
    )
