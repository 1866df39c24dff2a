"""By the station's own loop: it asks our policy server for actions, outbound only; we watch over it."""

from __future__ import annotations

import threading

from robot_bridge.client import StationClient
from robot_bridge.protocol import EpisodeMode, EpisodeRequest

WATCH_S = 2.0  # of one long-poll; the lease is renewed after each


class CallbackDrive:
    """Starts an episode and keeps its lease alive until the station says that it is over. Obeys `Drive`."""

    mode: EpisodeMode = "callback"

    def __init__(self, endpoint: str) -> None:
        self.endpoint: str | None = endpoint

    def run(self, client: StationClient, request: EpisodeRequest, *, stop: threading.Event) -> None:
        client.create_episode(request)
        cursor = client.events().next_cursor
        client.start(request.episode_id)
        while not stop.is_set() and client.state(request.episode_id).state != "finished":
            cursor = client.events(cursor, wait_s=WATCH_S).next_cursor
            client.heartbeat()
