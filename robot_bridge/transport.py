"""HTTP to one station: deadlines, retries that cannot do anything twice, and problems raised as our errors.

Every call of robot-station/v1 can be repeated without harm, so a lost answer is asked for again. A refusal is
never retried here: whoever asked decides. A token goes into the Authorization header of a call and nowhere
else: no URL, no message and no log line holds it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import requests
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from robot_bridge.addresses import is_loopback
from robot_bridge.errors import (
    BadRequest,
    RobotBridgeError,
    StationMisbehaved,
    StationRefused,
    StationUnreachable,
    VersionMismatch,
)
from robot_bridge.protocol import (
    AUTHORIZATION_HEADER,
    PROBLEM_TYPE,
    PROTOCOL_HEADER,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    Problem,
)
from robot_bridge.spans import span

CONNECT_TIMEOUT_S: Final = 3.05
WORD: Final = re.compile(r"v1|[a-z_]{1,20}")  # in a path; whatever else is there is an id
TOKEN: Final = re.compile(r"[\x21-\x7e]{1,500}")
FIRST_PAUSE_S: Final = 0.1  # before the second try; doubles with every further one
RETRY_AFTER: Final = "retry_after_s"  # the part of an error that says when to ask again
LOST: Final = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


class TokenUnprotected(RobotBridgeError):
    code = "token_unprotected"
    sentence = (
        "a token is not sent to {url}: {reason}. Use an https:// address, or the station's own machine."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a call is made at most, and how the time between two tries is spent."""

    tries: int = 4
    pause: Callable[[float], None] = time.sleep


class Transport:
    """One station's base URL and the session that talks to it. Not thread safe, like `requests.Session`."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        verify: str | bool = True,
        session: requests.Session | None = None,
        retries: Retries | None = None,
    ) -> None:
        """`verify` is a file of certificates to trust, True for those of the system.

        Raises:
            TokenUnprotected: the token would go over the network in clear, or is none.
            BadRequest: the address has a password in it.
        """
        self.base_url = base_url.rstrip("/")
        self._headers = {
            PROTOCOL_HEADER: f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}",
            **_authorization(base_url, token),
        }
        self._verify = None if verify is True else verify
        self._retries = retries or Retries()
        self._session = session or requests.Session()
        self._session.trust_env = False  # a proxy has no business between a daemon and its robot

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: str | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float,
    ) -> requests.Response:
        """Make a call until it is answered, at most `retries.tries` times.

        Raises:
            StationUnreachable: nobody answered.
            StationMisbehaved: the answer is neither a success nor a problem.
            RobotBridgeError: what the station refused, as the class it raised itself.
        """
        facts = {
            "http.request.method": method,
            "url.path": path.partition("?")[0],
            "server.address": urlsplit(self.base_url).hostname or "",
        }
        sent = {**self._headers, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        with span(f"station {method} {template_of(path)}", facts, kind=SpanKind.CLIENT) as told:
            answer = self._answered(method, path, body=body, headers=sent, timeout_s=timeout_s)
            told.set_attribute("http.response.status_code", answer.status_code)
            return self._checked(answer, f"{method} {path}")

    def _answered(
        self, method: str, path: str, *, body: str | None, headers: dict[str, str], timeout_s: float
    ) -> requests.Response:
        reason = ""
        for _ in self._tries():
            try:
                answer = self._session.request(
                    method,
                    self.base_url + path,
                    data=None if body is None else body.encode(),
                    headers=headers,
                    timeout=(min(CONNECT_TIMEOUT_S, timeout_s), timeout_s),
                    allow_redirects=False,
                    verify=self._verify,
                )
            except LOST as error:
                reason = type(error).__name__
                continue
            reason = _incomplete(answer)
            if not reason:
                return answer
        raise StationUnreachable(
            url=self.base_url, call=f"{method} {path}", tries=self._retries.tries, reason=reason
        )

    def _tries(self) -> Iterator[int]:
        for attempt in range(self._retries.tries):
            if attempt:
                self._retries.pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
            yield attempt

    def _checked(self, answer: requests.Response, call: str) -> requests.Response:
        if _is_problem(answer):
            raise self._refusal(answer, call)
        if not HTTPStatus.OK <= answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
            found, expected = f"HTTP {answer.status_code}", "success or a problem"
            raise StationMisbehaved(url=self.base_url, call=call, found=found, expected=expected)
        return answer

    def _refusal(self, answer: requests.Response, call: str) -> RobotBridgeError:
        try:
            problem = Problem.model_validate_json(answer.content)
        except ValidationError:
            return StationMisbehaved(
                url=self.base_url, call=call, found="an unreadable problem", expected="RFC 9457"
            )
        retry_after = answer.headers.get("Retry-After", "")
        if retry_after.isdecimal() and RETRY_AFTER not in problem.parts:
            parts = {**problem.parts, RETRY_AFTER: int(retry_after)}
            problem = problem.model_copy(update={"parts": parts})
        return error_of_problem(problem)


def template_of(path: str) -> str:
    """What calls of the same kind have in common: a path without its query, ids as `{id}`."""
    parts = path.partition("?")[0].split("/")
    return "/".join(part if not part or WORD.fullmatch(part) else "{id}" for part in parts)


def error_of_problem(problem: Problem) -> RobotBridgeError:
    """The error a station raised; one that this version does not know becomes a plain StationRefused."""
    known = {cls.code: cls for cls in _descendants(RobotBridgeError)}
    error_class = known.get(problem.code)
    if error_class is None:
        return StationRefused(detail=f"{problem.code}: {problem.detail}")
    try:
        return error_class(**problem.parts)
    except (KeyError, ValueError, TypeError):
        return StationRefused(detail=f"{problem.code}: {problem.detail}")


def _authorization(base_url: str, token: str | None) -> dict[str, str]:
    address = urlsplit(base_url)
    if address.username is not None or address.password is not None:
        reason = "a password in it ends up in logs; give the token by itself"
        raise BadRequest(thing=f"the station's address at {address.hostname}", reason=reason)
    if token is None:
        return {}
    if not TOKEN.fullmatch(token):
        raise TokenUnprotected(url=base_url, reason="it has characters that no token has")
    if address.scheme != "https" and not is_loopback(address.hostname or ""):
        raise TokenUnprotected(url=base_url, reason="everybody on the way could read it")
    return {AUTHORIZATION_HEADER: f"Bearer {token}"}


def require_same_major(found: int) -> None:
    """Raises:
    VersionMismatch: the station speaks another major version.
    """
    if found != PROTOCOL_MAJOR:
        raise VersionMismatch(found=f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}", expected=f"{found}.x")


def _incomplete(answer: requests.Response) -> str:
    """Why this cannot be all that the station said, or "" when it can.

    An answer that was cut within its headers parses as one with fewer headers and no body: only the length
    that is missing gives it away.
    """
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR and not _is_problem(answer):
        return f"HTTP {answer.status_code}"
    has_length = "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers
    return "" if has_length or answer.status_code == HTTPStatus.NO_CONTENT else "an answer without a length"


def _is_problem(answer: requests.Response) -> bool:
    return answer.headers.get("Content-Type", "").split(";")[0].strip() == PROBLEM_TYPE


def _descendants(root: type[RobotBridgeError]) -> Iterator[type[RobotBridgeError]]:
    yield root
    for child in root.__subclasses__():
        yield from _descendants(child)
