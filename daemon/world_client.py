"""The REST client's part for what-ifs: ask, wait, fetch the films."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from daemon.client import DaemonClient
from daemon.daemon_http import Json
from daemon.worlds.errors import WhatIfFailed

OVER = frozenset({"finished", "failed"})


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

    def wait_what_if(
        self,
        what_if_id: str,
        *,
        on_record: Callable[[Json], None] = lambda record: None,
        poll_s: float = 0.5,
    ) -> Json:
        """Follow a what-if to its end; the daemon ends every one, so this ends too.

        Raises:
            WhatIfFailed: it has no result.
        """
        while True:
            record = self.what_if(what_if_id)
            on_record(record)
            if record["state"] in OVER:
                break
            time.sleep(poll_s)
        if record["state"] == "failed":
            error = record["error"] or {"code": "unknown", "message": "no reason was recorded"}
            raise WhatIfFailed(what_if_id=what_if_id, error_code=error["code"], message=error["message"])
        return record
