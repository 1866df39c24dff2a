"""Calls of robot-station/v1 as models: one goes out, one comes in. What the calls are is in `client`."""

from __future__ import annotations

from typing import Final, TypeVar

import requests
from pydantic import ValidationError

from robot_bridge.errors import StationMisbehaved
from robot_bridge.protocol import Answer, Command
from robot_bridge.transport import Transport

READ_TIMEOUT_S: Final = 10.0
MOTION_TIMEOUT_S: Final = 60.0  # a reset of a real arm, or sixty-four steps

AnswerT = TypeVar("AnswerT", bound=Answer)


class StationCalls:
    """One station behind a transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    def close(self) -> None:
        """Close the connections; a lease is left to run out."""
        self._transport.close()

    def _get(self, path: str, kind: type[AnswerT], *, timeout_s: float = READ_TIMEOUT_S) -> AnswerT:
        answer = self._transport.call("GET", path, timeout_s=timeout_s)
        return read_answer(answer, kind, call=f"GET {path}", url=self.base_url)

    def _post(
        self, path: str, command: Command, kind: type[AnswerT], *, headers: dict[str, str] | None = None
    ) -> AnswerT:
        answer = self._send(path, command, headers=headers, timeout_s=MOTION_TIMEOUT_S)
        return read_answer(answer, kind, call=f"POST {path}", url=self.base_url)

    def _send(
        self, path: str, command: Command, *, headers: dict[str, str] | None = None, timeout_s: float
    ) -> requests.Response:
        body = command.model_dump_json()
        return self._transport.call("POST", path, body=body, headers=headers, timeout_s=timeout_s)


def read_answer(answer: requests.Response, kind: type[AnswerT], *, call: str, url: str) -> AnswerT:
    """The model in an answer.

    Raises:
        StationMisbehaved: there is another thing in it.
    """
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as cause:
        raise StationMisbehaved(url=url, call=call, found="another body", expected=kind.__name__) from cause
