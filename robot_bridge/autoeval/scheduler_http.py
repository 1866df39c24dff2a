"""HTTP to AutoEval's scheduler, which is public and not ours: bounded in time, in size and in trust.

A call has a deadline for all of it, an answer a largest size; no redirect and no address inside an answer is
ever followed, and nothing of this machine's own (proxies, .netrc) is sent along. What the calls mean is in
`scheduler`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import requests

from robot_bridge.autoeval.errors import SchedulerMisbehaved, SchedulerUnreachable

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_MAX_BYTES: Final = 8 * 1024 * 1024  # a page of 50 jobs with their logs is some hundred kilobytes
CHUNK_BYTES: Final = 64 * 1024
FIRST_PAUSE_S: Final = 0.5  # before the second try; doubles with every further one


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a call may take by `clock`, how often one is made, and how the time between is spent."""

    call_s: float = 20.0
    tries: int = 3
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def attempts(self) -> Iterator[int]:
        """Numbers of the tries, with the pauses between them."""
        for attempt in range(self.tries):
            if attempt:
                self.pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
            yield attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer of the scheduler itself: its status and the JSON it holds."""

    status: int
    json: Any

    @property
    def detail(self) -> str:
        """What it says about a refusal, printable and short."""
        found = self.json.get("detail") if isinstance(self.json, dict) else None
        return printable(found if isinstance(found, str) else json.dumps(found), 300)


class AnswerLost(Exception):
    """No answer of the scheduler arrived: whether the call had an effect is unknown."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class SchedulerHttp:
    """The base URL of one scheduler and the session that talks to it. Not thread safe."""

    def __init__(self, base_url: str, *, session: requests.Session, patience: Patience) -> None:
        self._base_url = base_url.rstrip("/")
        self.url = without_login(self._base_url)
        self._session = session
        self._session.trust_env = False
        self.patience = patience

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Reply:
        """Read something; a lost answer is asked for again.

        Raises:
            SchedulerUnreachable: no answer within the tries.
            SchedulerMisbehaved: an answer that is too large, redirects or is no JSON.
        """
        reason = ""
        for _ in self.patience.attempts():
            try:
                return self.once("GET", path, params=params)
            except AnswerLost as lost:
                reason = lost.reason
        raise self.unreachable(f"GET {path}", reason)

    def once(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Reply:
        """Make a call exactly once.

        Raises:
            AnswerLost: nothing, or nothing of the scheduler's own, came back; the call may have had effect.
            SchedulerMisbehaved: an answer that is too large, redirects or is no JSON.
        """
        call, deadline = f"{method} {path}", self.patience.clock() + self.patience.call_s
        try:
            with self._session.request(
                method,
                self._base_url + path,
                params=dict(params or {}),
                json=None if body is None else dict(body),
                timeout=(min(CONNECT_TIMEOUT_S, self.patience.call_s), self.patience.call_s),
                allow_redirects=False,
                stream=True,
            ) as answer:
                return self._reply(answer.status_code, self._read(answer, call, deadline), call)
        except requests.RequestException as error:
            raise AnswerLost(type(error).__name__) from error

    def unreachable(self, call: str, reason: str) -> SchedulerUnreachable:
        """The error of a call that was not answered."""
        return SchedulerUnreachable(url=self.url, call=call, tries=self.patience.tries, reason=reason)

    def misbehaved(self, call: str, *, expected: str, found: str) -> SchedulerMisbehaved:
        """The error of an answer that is not AutoEval's."""
        return SchedulerMisbehaved(url=self.url, call=call, expected=expected, found=printable(found, 200))

    def _read(self, answer: requests.Response, call: str, deadline: float) -> bytes:
        body = bytearray()
        for chunk in answer.iter_content(CHUNK_BYTES):
            body += chunk
            if len(body) > ANSWER_MAX_BYTES:
                raise self.misbehaved(call, expected=f"at most {ANSWER_MAX_BYTES} bytes", found="more")
            if self.patience.clock() > deadline:
                raise AnswerLost(f"not whole after {self.patience.call_s} s")
        return bytes(body)

    def _reply(self, status: int, body: bytes, call: str) -> Reply:
        """What a tunnel says in the scheduler's place is HTML: then the scheduler said nothing."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise AnswerLost(f"HTTP {status}")
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            raise self.misbehaved(call, expected="an answer", found=f"a redirect (HTTP {status})")
        try:
            return Reply(status=status, json=json.loads(body))
        except (ValueError, RecursionError) as cause:
            if status >= HTTPStatus.BAD_REQUEST:
                raise AnswerLost(f"HTTP {status} that is no JSON") from cause
            raise self.misbehaved(call, expected="JSON", found=f"{len(body)} other bytes") from cause


def printable(text: str, limit: int) -> str:
    """Somebody else's text, safe for logs and terminals: line breaks and printable characters only, cut."""
    return "".join(each if each.isprintable() or each == "\n" else " " for each in text[:limit])


def without_login(url: str) -> str:
    """The URL without user and password, fit to be shown."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
