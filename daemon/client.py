"""A thin REST client of the daemon, for the command line, the demo and anybody's script.

Every call that may be repeated is repeated after a broken connection; asking for an iteration may be,
because the idempotency key makes the second request find the first.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import requests

from daemon.daemon_http import DaemonHttp, Json
from daemon.errors import DaemonRefused, IterationFailed, WaitTimedOut

TERMINAL_STATES = frozenset({"finished", "failed", "cancelled"})
WAIT_S = (
    7 * 86_400.0
)  # for an iteration: its robot's hours may leave it a few nights; paused ones have no end


class DaemonClient(DaemonHttp):
    """What one daemon can be asked; each call raises as `DaemonHttp` says."""

    def ready(self) -> bool:
        """Say whether the daemon can work on iterations now."""
        try:
            self._json("GET", "/readyz")
        except DaemonRefused as refused:
            if refused.problem_code != "not_ready":
                raise
            return False
        return True

    def request_iteration(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Ask for one iteration. Without a key a fresh one is made, so that a retry cannot ask twice."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._json("POST", "/v1/iterations", body=dict(spec), headers=headers)

    def iteration(self, number: int) -> Json:
        return self._json("GET", f"/v1/iterations/{number}")

    def iterations(self, **filters: Any) -> Json:
        """List iterations, newest first; filters are the query parameters of `/v1/iterations`."""
        return self._json("GET", "/v1/iterations", params=filters)

    def steer(
        self, number: int, act: str, *, phase: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Do one of pause, resume, cancel, retry, skip (of a phase) to an iteration; gives its record."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        body = None if phase is None else {"phase": phase}
        return self._json("POST", f"/v1/iterations/{number}/{act}", body=body, headers=headers)

    def pause(self, number: int) -> Json:
        """Let an iteration wait; a phase that runs stops at its next report."""
        return self.steer(number, "pause")

    def resume(self, number: int) -> Json:
        return self.steer(number, "resume")

    def cancel(self, number: int) -> Json:
        return self.steer(number, "cancel")

    def retry(self, number: int) -> Json:
        """Let a failed iteration go on from the phase that failed."""
        return self.steer(number, "retry")

    def skip(self, number: int, phase: str) -> Json:
        return self.steer(number, "skip", phase=phase)

    def estop(self, reason: str = "") -> Json:
        """Stop every robot now; only somebody at a station can let it go on."""
        return self._json("POST", "/v1/estop", body={"reason": reason})

    def manifest(self, number: int) -> Json:
        """Give what each phase of an iteration read, and what came of it."""
        return self._json("GET", f"/v1/iterations/{number}/manifest")

    def diff(self, number: int, other: int) -> Json:
        """Give what differs from one iteration to another."""
        return self._json("GET", f"/v1/iterations/{number}/diff/{other}")

    def read(self, path: str, **filters: Any) -> Json:
        """Give whatever a GET of a path below `/v1` answers, such as `alarms` or `checkpoints/ID/trust`."""
        return self._json("GET", f"/v1/{path}", params=filters)

    def success_rates(self, **filters: Any) -> Json:
        """Give real success; filters are the query parameters of `/v1/success-rates`."""
        return self._json("GET", "/v1/success-rates", params=filters)

    def success_rates_csv(self, **filters: Any) -> str:
        return self._answer("GET", "/v1/success-rates", params={**filters, "format": "csv"}).text

    def ledger(self, **filters: Any) -> Json:
        """Give what iterations cost and gained; filters are the query parameters of `/v1/ledger`."""
        return self._json("GET", "/v1/ledger", params=filters)

    def ledger_csv(self, **filters: Any) -> str:
        return self._answer("GET", "/v1/ledger", params={**filters, "format": "csv"}).text

    def episodes(self, **filters: Any) -> Json:
        """List episodes; filters are the query parameters of `/v1/episodes`."""
        return self._json("GET", "/v1/episodes", params=filters)

    def episode(self, episode_id: str) -> Json:
        return self._json("GET", f"/v1/episodes/{episode_id}")

    def checkpoints(self, **filters: Any) -> Json:
        """List checkpoints; filters are the query parameters of `/v1/checkpoints`."""
        return self._json("GET", "/v1/checkpoints", params=filters)

    def checkpoint(self, checkpoint_id: str) -> Json:
        return self._json("GET", f"/v1/checkpoints/{checkpoint_id}")

    def policies(self, **filters: Any) -> Json:
        """List policies; filters are the query parameters of `/v1/policies`."""
        return self._json("GET", "/v1/policies", params=filters)

    def policy(self, checkpoint_id: str) -> Json:
        """Give a policy with the lineages whose champion it is."""
        return self._json("GET", f"/v1/policies/{checkpoint_id}")

    def promote(self, checkpoint_id: str, **wish: Any) -> Json:
        """Make a policy the champion of a `lineage`, for a `reason`; gives the policy."""
        return self._decide(checkpoint_id, "promote", wish)

    def roll_back(self, checkpoint_id: str, **wish: Any) -> Json:
        """Put the policy before this champion of a `lineage` in its place, for a `reason`; gives that one."""
        return self._decide(checkpoint_id, "rollback", wish)

    def _decide(self, checkpoint_id: str, act: str, wish: Mapping[str, Any]) -> Json:
        headers = {"Idempotency-Key": str(wish.get("idempotency_key") or uuid.uuid4())}
        body = {name: wish[name] for name in wish if name != "idempotency_key"}
        return self._json("POST", f"/v1/policies/{checkpoint_id}/{act}", body=body, headers=headers)

    def judges(self, **filters: Any) -> Json:
        """List trained judges; filters are the query parameters of `/v1/judges`."""
        return self._json("GET", "/v1/judges", params=filters)

    def stations(self) -> Json:
        """List the stations that were seen."""
        return self._json("GET", "/v1/stations")

    def tasks(self) -> Json:
        return self._json("GET", "/v1/tasks")

    def audit(self, **filters: Any) -> Json:
        """List who did what; needs the scope admin. Filters are the query parameters of `/v1/audit`."""
        return self._json("GET", "/v1/audit", params=filters)

    def curves(self, number: int) -> Json:
        """Give the training curves of an iteration: phase, name, then points [x, y]."""
        return self._json("GET", f"/v1/iterations/{number}/curves")

    def film_strip(self, number: int, task: str, origin: str) -> bytes | None:
        """Give the `real` or the `imagined` strip as JPEG, or None where the iteration left none."""
        try:
            return self._answer("GET", f"/v1/iterations/{number}/film-strips/{task}/{origin}.jpg").content
        except DaemonRefused as refused:
            if refused.status == 404:
                return None
            raise

    def events(self, **filters: Any) -> Json:
        """List events; filters are the query parameters of `/v1/events`."""
        return self._json("GET", "/v1/events", params=filters)

    def label(
        self, episode_id: str, verdict: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> Json:
        """Add a human's verdict: success, labeller, note. A key is made where none is given."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._json("POST", f"/v1/episodes/{episode_id}/labels", body=dict(verdict), headers=headers)

    def notes(self, episode_id: str) -> Json:
        return self._json("GET", f"/v1/episodes/{episode_id}/notes")

    def note(self, episode_id: str, note: Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Write a note on an episode without judging it: text, author. A key is made where none is given."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._json("POST", f"/v1/episodes/{episode_id}/notes", body=dict(note), headers=headers)

    def phase_log(self, number: int, phase: str, attempt: int, *, tail: int = 200) -> str:
        """Give the last lines of what a worker wrote in one attempt at a phase."""
        path = f"/v1/iterations/{number}/phases/{phase}/{attempt}/log"
        return self._answer("GET", path, params={"tail": tail}).text

    def metrics(self) -> str:
        """Give the numbers for Prometheus, in its text format."""
        return self._answer("GET", "/metrics").text

    def cameras(self) -> Json:
        """Give what each station's camera shows now, with the address of its picture."""
        return self._json("GET", "/v1/cameras")

    def camera_picture(self, address: str) -> bytes:
        """Give a camera's picture as JPEG, by the address that `cameras` told of seconds ago."""
        return self._answer("GET", address).content

    def open_events(self, **filters: Any) -> requests.Response:
        """Open the stream of events; filters are the query parameters of `/v1/events/stream`."""
        return self._opened("/v1/events/stream", params=filters)

    def video(self, episode_id: str) -> bytes:
        """Give an episode's film as mp4."""
        return self._answer("GET", f"/v1/episodes/{episode_id}/video.mp4").content

    def schedules(self) -> Json:
        return self._json("GET", "/v1/schedules")

    def schedule(self, schedule_id: str) -> Json:
        return self._json("GET", f"/v1/schedules/{schedule_id}")

    def add_schedule(self, wish: Mapping[str, Any]) -> Json:
        """Keep a schedule; the same one again is found by its name."""
        return self._json("POST", "/v1/schedules", body=dict(wish))

    def change_schedule(self, schedule: Mapping[str, Any], **changes: Any) -> Json:
        """Change a schedule that was read before; refused if somebody else has changed it since."""
        headers = {"If-Match": f'"{schedule["version"]}"'}
        return self._json("PATCH", f"/v1/schedules/{schedule['id']}", body=changes, headers=headers)

    def remove_schedule(self, schedule_id: str) -> None:
        self._answer("DELETE", f"/v1/schedules/{schedule_id}")

    def run_schedule_now(self, schedule_id: str, *, idempotency_key: str | None = None) -> Json:
        """Ask for one iteration besides the schedule's times; gives the iteration."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._json("POST", f"/v1/schedules/{schedule_id}/run-now", headers=headers)

    def standing(self) -> Json:
        """Give how each robot stands now."""
        return self._json("GET", "/v1/standing")

    def hours(self, station: str) -> Json:
        """When a station's robot may move."""
        return self._json("GET", f"/v1/stations/{station}/hours")

    def set_hours(self, station: str, hours: Mapping[str, Any]) -> Json:
        return self._json("PUT", f"/v1/stations/{station}/hours", body=dict(hours))

    def remove_hours(self, station: str) -> None:
        self._answer("DELETE", f"/v1/stations/{station}/hours")

    def tokens(self) -> Json:
        """List all access tokens that ever were; needs the scope admin, as do the next two."""
        return self._json("GET", "/v1/tokens")

    def make_token(self, name: str, scopes: Sequence[str], *, expires_at: datetime | None = None) -> Json:
        """Make an access token; `token` in the answer is told this once.

        Where a connection broke, the name may be taken by a token that nobody has seen: revoke it first.
        """
        ends = None if expires_at is None else expires_at.isoformat()
        body = {"name": name, "scopes": list(scopes), "expires_at": ends}
        return self._json("POST", "/v1/tokens", body=body)

    def revoke_token(self, name: str) -> None:
        self._answer("DELETE", f"/v1/tokens/{name}")

    def wait(
        self,
        number: int,
        *,
        on_record: Callable[[Json], None] = lambda record: None,
        poll_s: float = 1.0,
        timeout_s: float = WAIT_S,
    ) -> Json:
        """Follow an iteration until it ends, a week at most, handing every record seen to `on_record`.

        Raises:
            IterationFailed: it ended in another state than finished.
            WaitTimedOut: `timeout_s` passed first; the iteration itself goes on.
        """
        begun = time.monotonic()
        while True:
            record = self.iteration(number)
            on_record(record)
            if record["state"] in TERMINAL_STATES:
                break
            waited_s = time.monotonic() - begun
            if waited_s >= timeout_s:
                raise WaitTimedOut(number=number, state=record["state"], waited_s=waited_s)
            time.sleep(poll_s)
        if record["state"] != "finished":
            error = record.get("error") or {}
            raise IterationFailed(
                number=number,
                error_code=str(error.get("code", record["state"])),
                message=str(error.get("message", "no reason was recorded")),
            )
        return record
