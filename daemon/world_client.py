"""The REST client's part for imagined worlds: what-ifs with their films, pictures to start from."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from daemon.client import DaemonClient
from daemon.daemon_http import Json
from daemon.worlds.errors import WhatIfFailed, WhatIfWaits

OVER = frozenset({"finished", "failed"})
WHAT_IF_WAIT_S = 86_400.0  # every phase run that is queued before it may take hours


class WorldClient(DaemonClient):
    """A client that also asks what would happen. It raises what `DaemonClient` does."""

    def ask_what_if(self, wish: Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Ask one; without a key a fresh one is made, so that a retry cannot ask twice."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._json("POST", "/v1/worlds/what-if", body=dict(wish), headers=headers)

    def what_if(self, what_if_id: str) -> Json:
        return self._json("GET", f"/v1/worlds/what-ifs/{what_if_id}")

    def what_ifs(self, **filters: Any) -> Json:
        return self._json("GET", "/v1/worlds/what-ifs", params=filters)

    def picture(self, address: str) -> bytes:
        """Give a strip, a film or a start by the address that a record has."""
        return self._answer("GET", address).content

    def start_images(self) -> Json:
        """List the pictures of people's own that updates may start from."""
        return self._json("GET", "/v1/start-images")

    def start_image(self, image_id: str) -> Json:
        return self._json("GET", f"/v1/start-images/{image_id}")

    def add_start_image(self, new: Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Keep a picture: image (base64), task, instruction. A key is made where none is given."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._json("POST", "/v1/start-images", body=dict(new), headers=headers)

    def remove_start_image(self, image_id: str) -> None:
        self._answer("DELETE", f"/v1/start-images/{image_id}")

    def wait_what_if(
        self,
        what_if_id: str,
        *,
        on_record: Callable[[Json], None] = lambda record: None,
        poll_s: float = 0.5,
        timeout_s: float = WHAT_IF_WAIT_S,
    ) -> Json:
        """Follow a what-if to its end, a day at most; phases come before it, and without a worker it stays.

        Raises:
            WhatIfFailed: it has no result.
            WhatIfWaits: `timeout_s` passed first; it is done all the same once a worker comes to it.
        """
        begun = time.monotonic()
        while True:
            record = self.what_if(what_if_id)
            on_record(record)
            if record["state"] in OVER:
                break
            waited_s = time.monotonic() - begun
            if waited_s >= timeout_s:
                raise WhatIfWaits(what_if_id=what_if_id, state=record["state"], waited_s=waited_s)
            time.sleep(poll_s)
        if record["state"] == "failed":
            error = record["error"] or {"code": "unknown", "message": "no reason was recorded"}
            raise WhatIfFailed(what_if_id=what_if_id, error_code=error["code"], message=error["message"])
        return record
