"""Every way the robot side can refuse, as one tree. Only the classes live here; who raises them is elsewhere.

    RobotBridgeError
    ├── BadArray                 a number, shape or dtype that cannot be used
    │   ├── BadAction            ... in an action that was about to move an arm
    │   ├── BadObservation       ... in what a policy was to look at
    │   └── ConventionSingular   angles that a convention cannot express there
    ├── EpisodeError
    │   ├── EpisodeInvalid       arrays, frames and manifest contradict each other
    │   ├── FramesCorrupt        a frames blob that is truncated or not ours
    │   ├── StepsCorrupt         a steps.npz that is truncated, incomplete or holds objects
    │   └── DigestMismatch       bytes that are not the bytes their sha256 names
    ├── DriverError
    │   ├── UnknownTask          the driver has no such task
    │   ├── RendererUnavailable  no way to make pictures on this machine
    │   ├── MotorFault           the arm reports a fault
    │   ├── CameraStale          the camera stopped giving fresh pictures
    │   │   └── CameraFrozen     pictures come: the same one again, an older one, or one that shows nothing
    │   ├── DriverDisconnected   the arm's interface went silent: nobody knows whether it moved
    │   └── NeedsHuman           scene or arm cannot be brought in order without somebody's hand
    ├── StationRefused           the station understood and said no (one class per problem code)
    │   ├── BadRequest, TooLarge, VersionMismatch, UnknownCall, Unauthorized, Forbidden, RateLimited
    │   ├── UnknownEpisode, UnknownLease, UnknownBlob
    │   ├── LeaseRequired, LeaseConflict, FenceStale
    │   ├── StepOutOfOrder, StepStale, EpisodeState, IdempotencyMismatch, LimitsViolation
    │   ├── EStopped, NotHomed, Resting, WaitingHuman, EndpointRefused
    │   └── SpoolFull, SpoolDiskFull, UnknownOutcome
    ├── PolicyError              whoever decides the actions did not
    │   ├── PolicyUnreachable    no answer in time
    │   ├── PolicyFailed         it answered that it cannot
    │   └── UnknownSession       it does not know the episode; reset first
    ├── SpoolCorrupt, SpoolBusy  the station's own files do not read back, or another station has them
    ├── BindRefused              the station would listen where it must not
    ├── StationUnreachable       no answer: nobody knows whether anything moved; asking again is safe
    └── StationMisbehaved        an answer that is not robot-station/v1

A class states its sentence once, as a template over named parts; raising it fills the parts in. The parts
also travel in the problem body, so that a client raises the class the station raised.
"""

from __future__ import annotations

from typing import ClassVar


class RobotBridgeError(Exception):
    """Root of the tree. `code` is stable; `retryable` says whether the same call may succeed later."""

    code: ClassVar[str] = "robot_bridge_error"
    retryable: ClassVar[bool] = False
    sentence: ClassVar[str] = "{detail}"

    def __init__(self, **parts: object) -> None:
        self.parts = parts
        super().__init__(self.sentence.format(**parts))


class BadArray(RobotBridgeError):
    code = "bad_array"
    sentence = "{thing} must be {expected}, found {found}. Nothing was used of it."


class BadAction(BadArray):
    code = "bad_action"
    sentence = "{thing} must be {expected}, found {found}. Nothing moved; send a corrected action."


class BadObservation(BadArray):
    code = "bad_observation"
    sentence = "{thing} must be {expected}, found {found}. No action was decided; send a whole observation."


class ConventionSingular(BadArray):
    code = "convention_singular"
    sentence = (
        "{thing} cannot be written in {convention}: {reason}. Turn the gripper away, or keep bridge_v2."
    )


class EpisodeError(RobotBridgeError):
    code = "episode_error"


class EpisodeInvalid(EpisodeError):
    code = "episode_invalid"
    sentence = "episode {episode_id}: {thing} must be {expected}, found {found}. It was not accepted."


class FramesCorrupt(EpisodeError):
    code = "frames_corrupt"
    sentence = "frames blob: {thing} must be {expected}, found {found}. Fetch or record it again."


class StepsCorrupt(EpisodeError):
    code = "steps_corrupt"
    sentence = "steps.npz: {thing} must be {expected}, found {found}. Fetch or record it again."


class DigestMismatch(EpisodeError):
    code = "digest_mismatch"
    retryable = True
    sentence = (
        "{thing} must have sha256 {expected}, found {found}. The bytes changed on the way: fetch them again."
    )


class DriverError(RobotBridgeError):
    code = "driver_error"


class UnknownTask(DriverError):
    code = "unknown_task"
    sentence = "task {task_id!r} is not one of this robot's tasks: {known}. Ask for one of them."


class RendererUnavailable(DriverError):
    code = "renderer_unavailable"
    sentence = "renderer {renderer!r} cannot make pictures here: {reason}. Choose another renderer."


class MotorFault(DriverError):
    code = "motor_fault"
    retryable = True
    sentence = "motor {motor} reports {fault}. The arm holds its position; look at it before going on."


class CameraStale(DriverError):
    code = "camera_stale"
    retryable = True
    sentence = (
        "camera {camera}: the newest picture is {age_s} s old, at most {limit_s} s is allowed. Check it."
    )


class CameraFrozen(CameraStale):
    code = "camera_frozen"
    sentence = (
        "camera {camera} gives pictures that cannot be used: {fault}, in picture {seq}. Look at the camera."
    )


class DriverDisconnected(DriverError):
    code = "driver_disconnected"
    sentence = (
        "the arm's interface {interface} went silent during {call}: {reason}. Look at the arm, restart it."
    )


class NeedsHuman(DriverError):
    code = "needs_human"
    sentence = "somebody must look at the robot: {reason}. Then tell the station that it is done."


class StationRefused(RobotBridgeError):
    code = "station_refused"


class BadRequest(StationRefused):
    code = "bad_request"
    sentence = "{thing} was refused: {reason}. Nothing was done; send a corrected request."


class TooLarge(StationRefused):
    code = "too_large"
    sentence = "the request body holds {found} bytes, at most {expected} are read. Send less."


class VersionMismatch(StationRefused):
    code = "version_mismatch"
    sentence = (
        "protocol version {found} was asked for, this station speaks {expected}. Update the older side."
    )


class UnknownCall(StationRefused):
    code = "unknown_call"
    sentence = "this station has no call {call}. Its calls are those of robot-station/v1."


class Unauthorized(StationRefused):
    code = "unauthorized"
    sentence = "{call} needs a bearer token that is known here, found {found}. Ask the robot's owner for one."


class Forbidden(StationRefused):
    code = "forbidden"
    sentence = "{call} needs the scope {expected}, token {name!r} has {found}. Use a token that has it."


class RateLimited(StationRefused):
    code = "rate_limited"
    retryable = True
    sentence = "{call} was asked for too often; at most {limit} a minute. Try again in {retry_after_s} s."


class UnknownEpisode(StationRefused):
    code = "unknown_episode"
    sentence = "episode {episode_id} is not on this station. It was never started here, or was acknowledged."


class UnknownLease(StationRefused):
    code = "unknown_lease"
    sentence = "lease {lease_id} is not held: it ran out, was released or never was. Acquire a new one."


class UnknownBlob(StationRefused):
    code = "unknown_blob"
    sentence = "episode {episode_id} names no blob {sha256}. Its manifest lists the blobs it has."


class LeaseRequired(StationRefused):
    code = "lease_required"
    sentence = "{call} moves the robot and needs a lease. Acquire one and send its fence in the Fence header."


class LeaseConflict(StationRefused):
    code = "lease_conflict"
    retryable = True
    sentence = "the robot is leased to {holder!r} for {remaining_s:.1f} s more. Wait or ask the holder."


class FenceStale(StationRefused):
    code = "fence_stale"
    sentence = "fence {found} is out of date, {current} is current. Another holder came: acquire a new lease."


class StepOutOfOrder(StationRefused):
    code = "step_out_of_order"
    sentence = "episode {episode_id}: step {found} was sent, step {expected_step} is next. Go on from there."


class StepStale(StationRefused):
    code = "step_stale"
    sentence = (
        "episode {episode_id}: step {found} arrived {late_ms} ms after it ran out. Decide again and send it."
    )


class EpisodeState(StationRefused):
    code = "episode_state"
    sentence = (
        "episode {episode_id} is {found}, this call needs it to be {expected}. Read its state and go on."
    )


class IdempotencyMismatch(StationRefused):
    code = "idempotency_mismatch"
    sentence = "{thing} was sent before with other contents. Nothing moved; use a new id for a new request."


class LimitsViolation(StationRefused):
    code = "limits_violation"
    sentence = "{thing} must be {expected}, found {found}. A request may narrow limits, never widen them."


class EStopped(StationRefused):
    code = "estopped"
    sentence = "the emergency stop is latched since {since}: {reason}. An operator at the robot clears it."


class NotHomed(StationRefused):
    code = "not_homed"
    sentence = "the arm is not at home ({reason}). Ask for a reset first."


class Resting(StationRefused):
    code = "resting"
    retryable = True
    sentence = "the motors rest for {retry_after_s} s more, after {worked_s} s of work. Try again then."


class WaitingHuman(StationRefused):
    code = "waiting_human"
    sentence = "the station waits for somebody at the robot: {reason}. It goes on when they say so there."


class EndpointRefused(StationRefused):
    code = "endpoint_refused"
    sentence = "policy endpoint {found} is not one this station may call: {expected}. Add it at the station."


class SpoolFull(StationRefused):
    code = "spool_full"
    retryable = True
    sentence = (
        "{found} bytes wait in the spool, at most {expected} may. Fetch and acknowledge finished episodes."
    )


class SpoolDiskFull(StationRefused):
    code = "disk_full"
    retryable = True
    sentence = (
        "{path} does not fit on the station's disk ({reason}). The episode is still in the station's memory: "
        "make room, then finish it again."
    )


class UnknownOutcome(StationRefused):
    code = "unknown_outcome"
    sentence = "episode {episode_id}: nobody knows whether step {found} moved the arm. It was aborted."


class SpoolCorrupt(RobotBridgeError):
    code = "spool_corrupt"
    sentence = "spool file {path} does not read back: {reason}. Move it away and look at what wrote it."


class SpoolBusy(RobotBridgeError):
    code = "spool_busy"
    sentence = "spool {path} belongs to a station that is running. Stop it, or give this one another folder."


class PolicyError(RobotBridgeError):
    code = "policy_error"


class PolicyUnreachable(PolicyError):
    code = "policy_unreachable"
    retryable = True
    sentence = "policy {url} did not answer {call} within {waited_s} s: {reason}. The arm holds meanwhile."


class PolicyFailed(PolicyError):
    code = "policy_failed"
    retryable = True
    sentence = "policy {url} cannot decide: {reason}. The arm holds; look at the policy's log."


class UnknownSession(PolicyError):
    code = "unknown_session"
    sentence = "no session {session} runs here. Reset first: a policy keeps only the newest sessions."


class BindRefused(RobotBridgeError):
    code = "bind_refused"
    sentence = "{thing} without {missing} listens on loopback only, not on {host}. Use 127.0.0.1 or give it."


class StationUnreachable(RobotBridgeError):
    code = "station_unreachable"
    retryable = True
    sentence = (
        "station {url} did not answer {call} within {tries} tries: {reason}. Check that it runs; try again."
    )


class StationMisbehaved(RobotBridgeError):
    code = "station_misbehaved"
    sentence = "station {url} answered {call} with {found}, expected {expected}. Check its version."
