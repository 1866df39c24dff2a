"""Errors of the daemon: one root, each class with a stable code, building its own sentence.

    DaemonError
    ├── SettingUnknown, SettingInvalid        the environment of a process
    ├── SpecUnknownField, SpecInvalid         what an iteration was asked to do
    ├── CountsInvalid                         statistics
    ├── DataDirectoryBusy                     a second daemon on the same data
    ├── DataDirectoryUnfinished               a restore was killed in it
    ├── RequestInvalid, RequestTooLarge, PageNotFound, NotReady, DatabaseAway      doors of the REST API
    ├── PhaseUnknown, PhaseStalled, ClockSkewed      the worker
    ├── AssetMissing, ContractMismatch, NothingCollected        the phases
    ├── DaemonUnreachable, DaemonRefused, IterationFailed, WaitTimedOut, TokenUnusable      the REST client
    ├── SinkRefused                           export of curves
    ├── ProofDiffers                          `gymnastd bench learning`
    └── DemoFailed                            `gymnastd demo`

`daemon/api/problems.py` is the only place where a code becomes an HTTP status.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar


class DaemonError(Exception):
    """Root of everything the daemon refuses or fails at."""

    code: ClassVar[str] = "daemon_error"
    retryable: ClassVar[bool] = False


class SettingUnknown(DaemonError):
    code = "setting_unknown"

    def __init__(self, *, names: Sequence[str], known: Sequence[str]) -> None:
        super().__init__(
            f"the environment sets {', '.join(names)}, which gymnastd does not know. "
            f"Known names: {', '.join(known)}. Unset or rename it."
        )


class SettingInvalid(DaemonError):
    code = "setting_invalid"

    def __init__(self, *, faults: Mapping[str, str]) -> None:
        listed = "; ".join(f"{name}: {reason}" for name, reason in faults.items())
        super().__init__(f"settings are refused: {listed}. Correct them and start again.")
        self.faults = dict(faults)


class SpecInvalid(DaemonError):
    """A field of an iteration spec is missing, out of bounds or of the wrong type."""

    code = "spec_invalid"

    def __init__(self, *, faults: Mapping[str, str]) -> None:
        listed = "; ".join(f"{name}: {reason}" for name, reason in faults.items())
        super().__init__(f"the iteration spec is refused: {listed}. Nothing was stored.")
        self.faults = dict(faults)


class SpecUnknownField(SpecInvalid):
    """An iteration spec names a field that does not exist; guessing what it meant would be worse."""

    code = "spec_unknown_field"


class CountsInvalid(DaemonError):
    code = "counts_invalid"

    def __init__(self, *, successes: int, episodes: int) -> None:
        super().__init__(
            f"{successes} successes of {episodes} episodes cannot be: expected 0 <= successes <= episodes."
        )


class DataDirectoryBusy(DaemonError):
    code = "data_directory_busy"

    def __init__(self, *, data_dir: Path, holder: str) -> None:
        super().__init__(
            f"data directory {data_dir} is in use by another gymnastd ({holder}). "
            "Stop it, or give this one another GYMNASTD_DATA_DIR."
        )


class DataDirectoryUnfinished(DaemonError):
    code = "data_directory_unfinished"

    def __init__(self, *, data_dir: Path) -> None:
        super().__init__(
            f"data directory {data_dir} holds a restore that was interrupted. "
            "Run `gymnastd restore` again; it begins anew."
        )


class RequestInvalid(DaemonError):
    code = "request_invalid"

    def __init__(self, *, faults: Mapping[str, str]) -> None:
        listed = "; ".join(f"{name}: {reason}" for name, reason in faults.items())
        super().__init__(f"the request is refused: {listed}.")
        self.faults = dict(faults)


class RequestTooLarge(DaemonError):
    code = "request_too_large"

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(f"the request body is larger than {limit_bytes} bytes. Send a smaller one.")


class PageNotFound(DaemonError):
    code = "page_not_found"

    def __init__(self, *, what: str, key: object) -> None:
        super().__init__(f"there is no {what} {key}. List what there is and ask for one of those.")


class NotReady(DaemonError):
    code = "not_ready"
    retryable = True

    def __init__(self, *, checks: Mapping[str, str] | None) -> None:
        """`checks` are told to those who may know them."""
        failing = [f"{name}: {found}" for name, found in (checks or {}).items() if found != "ok"]
        why = "; ".join(failing) or "a token with the scope read is told why"
        super().__init__(f"the daemon cannot work yet: {why}. Ask again soon; see its log if this stays.")
        self.checks = None if checks is None else dict(checks)


class DatabaseAway(DaemonError):
    """Why is in the log: the database's own words can hold what is nobody's business."""

    code = "database_away"
    retryable = True

    def __init__(self) -> None:
        super().__init__(
            "the daemon's database does not answer, or another writer keeps it. Ask again soon, and with the "
            "same Idempotency-Key where there was one; `gymnastd doctor` on the daemon's machine says more."
        )


class ClockSkewed(DaemonError):
    """The time on this machine is not that of the database, so its leases could not be believed."""

    code = "clock_skewed"

    def __init__(self, *, ahead_s: float, limit_s: float) -> None:
        side = "ahead of" if ahead_s > 0 else "behind"
        super().__init__(
            f"this machine's clock is {abs(ahead_s):.1f} s {side} the database's; expected at most "
            f"{limit_s:g} s, a quarter of GYMNASTD_LEASE_TTL_S, or leases would be taken from workers that "
            "live. Let NTP set the clock of both machines (timedatectl), then start again."
        )


class PhaseUnknown(DaemonError):
    code = "phase_unknown"

    def __init__(self, *, phase: str, known: Sequence[str]) -> None:
        super().__init__(
            f"this worker cannot run phase {phase}; it knows {', '.join(known)}. "
            "Start workers of the same release as the daemon."
        )


class PhaseStalled(DaemonError):
    code = "phase_stalled"
    retryable = True

    def __init__(self, *, phase: str, silent_s: float) -> None:
        super().__init__(
            f"phase {phase} reported no progress for {silent_s:.0f} s; its worker gives it up "
            "and the next attempt starts when the lease has run out."
        )


class AssetMissing(DaemonError):
    """A base checkpoint that should have come with the package is not there."""

    code = "asset_missing"

    def __init__(self, *, kind: str, preset: str, path: Path) -> None:
        super().__init__(
            f"the base {kind} checkpoint of preset {preset} is not at {path}. Install the package whole, "
            f"or make the base checkpoints with `gymnastd pretrain --preset {preset}`."
        )


class ContractMismatch(DaemonError):
    """A policy and a robot mean different things by an action."""

    code = "policy_contract_mismatch"

    def __init__(self, *, policy: str, station: str, differences: Sequence[str]) -> None:
        super().__init__(
            f"{policy} cannot act at {station}: {'; '.join(differences)} there. "
            "Drive the robot as the policy was taught: what is imported or taught here acts as in Bridge V2."
        )


class NothingCollected(DaemonError):
    """A phase needs episodes of a kind that the replay store does not hold."""

    code = "nothing_collected"

    def __init__(self, *, phase: str, wanted: str) -> None:
        super().__init__(
            f"{phase} needs {wanted}, and the replay store holds none. Collect or import some first."
        )


class DaemonUnreachable(DaemonError):
    code = "daemon_unreachable"
    retryable = True

    def __init__(self, *, url: str, reason: str) -> None:
        super().__init__(
            f"no gymnastd answers at {url} ({reason}). Start one with `gymnastd serve`, "
            "or give its address with --url."
        )


class DaemonRefused(DaemonError):
    """The daemon answered with a problem; `problem_code` is the daemon's own code."""

    code = "daemon_refused"

    def __init__(self, *, url: str, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem_code = str(problem.get("code", "unknown"))
        detail = problem.get("detail", "no detail was given")
        super().__init__(f"{url} answered {status} {self.problem_code}: {detail}")


class IterationFailed(DaemonError):
    code = "iteration_failed"

    def __init__(self, *, number: int, error_code: str, message: str) -> None:
        super().__init__(f"iteration {number} failed with {error_code}: {message}")


class WaitTimedOut(DaemonError):
    code = "wait_timed_out"
    retryable = True

    def __init__(self, *, number: int, state: str, waited_s: float) -> None:
        super().__init__(
            f"iteration {number} is still {state} after {waited_s:.0f} s of waiting; it goes on. "
            f"Look again with `gymnastd status {number}`."
        )


class TokenUnusable(DaemonError):
    """The sentence does not hold the token."""

    code = "token_unusable"

    def __init__(self, *, url: str, reason: str) -> None:
        super().__init__(
            f"the token is not sent to {url}: {reason}. Use an https:// address, or its own machine, "
            "and the token as `gymnastd token create` printed it."
        )


class SinkRefused(DaemonError):
    """Whoever was to show curves did not take them."""

    code = "sink_refused"
    retryable = True

    def __init__(self, *, sink: str, reason: str) -> None:
        super().__init__(
            f"{sink} does not take the curves: {reason}. Nothing is lost: repeat the export when it answers."
        )


class ProofDiffers(DaemonError):
    """Iterations of two plans in one lab would be told as one curve."""

    code = "proof_differs"

    def __init__(self, *, out: Path, differences: Mapping[str, tuple[Any, Any]]) -> None:
        told = "; ".join(
            f"{name} is {found}, {asked} was asked" for name, (found, asked) in differences.items()
        )
        super().__init__(
            f"{out} holds another proof: {told}. Ask for the same to go on with it, or take another folder."
        )


class DemoFailed(DaemonError):
    code = "demo_failed"

    def __init__(self, *, step: str, found: str) -> None:
        super().__init__(f"the demo stopped at {step}: {found}")
