"""By the station's own loop: it asks our policy server for actions, outbound only; we watch over it."""

from __future__ import annotations

import threading
from contextlib import suppress

from robot_bridge.client import StationClient, StillRunning
from robot_bridge.protocol import EpisodeMode, EpisodeRequest

WATCH_S = 2.0  # until it is looked whether the phase is to stop; the lease is kept alive meanwhile


class CallbackDrive:
    """Starts an episode and keeps its lease alive until the station says that it is over. Obeys `Drive`."""

    mode: EpisodeMode = "callback"

    def __init__(self, endpoint: str) -> None:
        self.endpoint: str | None = endpoint

    def run(self, client: StationClient, request: EpisodeRequest, *, stop: threading.Event) -> None:
        client.create_episode(request)
        client.start(request.episode_id)
        while not stop.is_set():
            with suppress(StillRunning):
                client.wait_finished(request.episode_id, timeout_s=WATCH_S)
                return
