"""By the station's own loop: it asks our policy server for actions, outbound only; we watch over it."""

from __future__ import annotations

import threading
from contextlib import suppress

from daemon.phases.arms import Arms
from daemon.policy_server.sessions import PolicySessions
from robot_bridge.client import StationClient, StillRunning
from robot_bridge.protocol import EpisodeMode, EpisodeRequest

WATCH_S = 2.0  # until it is looked whether the phase is to stop; the lease is kept alive meanwhile


class CallbackDrive:
    """Starts an episode and keeps its lease alive until the station says that it is over. Obeys `Drive`."""

    mode: EpisodeMode = "callback"

    def __init__(self, endpoint: str, sessions: PolicySessions, arms: Arms) -> None:
        self.endpoint: str | None = endpoint
        self._sessions, self._arms = sessions, arms

    def ended_by(self, task_id: str) -> None:
        """Nobody looks at the pictures between two chunks here."""

    def run(self, client: StationClient, request: EpisodeRequest, *, stop: threading.Event) -> None:
        arm = self._arms.version(request.policy.version)
        self._sessions.reserve(str(request.episode_id), arm.policy, arm.ref)
        client.create_episode(request)
        client.start(request.episode_id)
        while not stop.is_set():
            with suppress(StillRunning):
                client.wait_finished(request.episode_id, timeout_s=WATCH_S)
                return
