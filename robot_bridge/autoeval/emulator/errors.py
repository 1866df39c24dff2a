"""What can end a job or a start of the emulator; the root of the tree is in `robot_bridge.errors`."""

from __future__ import annotations

from robot_bridge.errors import RobotBridgeError


class EvaluationKilled(RobotBridgeError):
    code = "evaluation_killed"
    sentence = "job {job_id} was killed in the middle of it; the arm stays where it was and its log is lost."


class InvalidPolicyAction(RobotBridgeError):
    code = "invalid_policy_action"
    sentence = (
        "the policy server must answer with a list or array of 7 numbers, found {found}. The job fails."
    )


class PolicyResetFailed(RobotBridgeError):
    code = "policy_reset_failed"
    sentence = "the policy server answered {status} to /reset: {text}. Only 200 and 404 let a job go on."


class UnknownQuirk(RobotBridgeError):
    code = "unknown_quirk"
    sentence = "quirk {name!r} is not one of the emulator's: {known}. Name one of them."


class BadQuirk(RobotBridgeError):
    code = "bad_quirk"
    sentence = "quirk {name} must be {expected}, found {found!r}. Correct it and start again."


class UnwritablePickle(RobotBridgeError):
    code = "unwritable_pickle"
    sentence = "a {found} has no place in AutoEval's recordings. Convert it before it is recorded."


class NothingEvaluated(RobotBridgeError):
    code = "nothing_evaluated"
    sentence = "job {job_id} asks for {episodes} episodes of {steps} steps. Ask for at least one of each."
