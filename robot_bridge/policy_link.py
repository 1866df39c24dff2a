"""A policy behind HTTP, as a robot calls it: one deadline for a whole call, and nothing believed unchecked.

The two calls are those of `robot_bridge.callback`. A connection that was lost is tried again within the
deadline, which does no harm: the server answers the same (session, t) with the same actions. What a policy
decides, and when it is asked, is not here (see `dispenser`).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from pydantic import ValidationError

from robot_bridge.callback import PolicyActAnswer, PolicyActRequest, PolicyReadyAnswer, PolicyResetRequest
from robot_bridge.deadline import bounded_session, left_until
from robot_bridge.errors import (
    BadObservation,
    BadRequest,
    EndpointRefused,
    PolicyError,
    PolicyFailed,
    PolicyUnreachable,
    UnknownSession,
)
from robot_bridge.protocol import AUTHORIZATION_HEADER, PROBLEM_TYPE, Answer, Command, Problem

TIMEOUT_S: Final = 2.0
TRIES: Final = 3  # of a call whose connection is lost; the deadline may allow fewer
PAUSE_S: Final = 0.02  # before the second try; doubles
ANSWER_MAX_BYTES: Final = 64 * 1024  # 64 actions of seven numbers are 10 kB
REASON_MAX: Final = 300  # characters of a server's own words that are passed on
RESET_CALL: Final = "/v1/policy/reset"
ACT_CALL: Final = "/v1/policy/act"
SCHEMES: Final = {"http", "https"}
TOKEN: Final = re.compile(r"[\x21-\x7e]+")

AnswerT = TypeVar("AnswerT", bound=Answer)


class HttpPolicyLink:
    """A `callback.PolicyLink` to `endpoint`, the part of the URL before /v1. Safe to call from any thread.

    Args:
        token: sent as bearer token; it is in no error and in no log.
        timeout_s: the longest a call lasts, tries and a trickling answer included (looking up a name aside).
        verify: for https, whether to check the certificate, or a file of authorities to check it with.

    Raises:
        EndpointRefused: not an http(s) URL of a host, or one with a password in it.
        BadRequest: the token holds a space or a character that no header can carry.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        token: str | None = None,
        timeout_s: float = TIMEOUT_S,
        verify: bool | str = True,
    ) -> None:
        self.endpoint = checked_endpoint(endpoint)
        if token is not None and not TOKEN.fullmatch(token):
            raise BadRequest(thing="the policy's token", reason="it is empty, or no header can carry it")
        self._token = token
        self._timeout_s = timeout_s
        self._verify = verify
        self._threads = threading.local()
        self._opened: list[requests.Session] = []
        self._opening = threading.Lock()

    def reset(self, request: PolicyResetRequest) -> PolicyReadyAnswer:
        """See `callback.PolicyLink.reset`."""
        answer = self._post(RESET_CALL, request, PolicyReadyAnswer)
        self._require_same(RESET_CALL, {"session": (request.session, answer.session)})
        return answer

    def act(self, request: PolicyActRequest) -> PolicyActAnswer:
        """See `callback.PolicyLink.act`."""
        answer = self._post(ACT_CALL, request, PolicyActAnswer)
        asked = {"session": (request.session, answer.session), "t": (request.t, answer.t)}
        self._require_same(ACT_CALL, asked)
        return answer

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        with self._opening:
            opened, self._opened = self._opened, []
            self._threads = threading.local()
        for session in opened:
            session.close()

    def _post(self, call: str, command: Command, kind: type[AnswerT]) -> AnswerT:
        body = command.model_dump_json().encode()
        session_id = str(getattr(command, "session", ""))
        status, headers, content = self._answered(call, body)
        if headers.get("Content-Type", "").split(";")[0].strip() == PROBLEM_TYPE:
            raise self._refusal(content, session_id)
        if status != HTTPStatus.OK:
            raise self._failed(f"{call} was answered with HTTP {status}")
        try:
            return kind.model_validate_json(content)
        except ValidationError as cause:
            fault = cause.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, fault["loc"])) or "the body"
            raise self._failed(f"{call} was answered with no {kind.__name__}: {where}") from None

    def _answered(self, call: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the first whole answer."""
        deadline = time.monotonic() + self._timeout_s
        reason, pause_s = "", PAUSE_S
        for attempt in range(TRIES):
            if attempt:
                time.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))
                pause_s *= 2
            try:
                return self._once(call, body, deadline)
            except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
                reason = "no whole answer came"
                break
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                reason = _cause_of(error)
            if time.monotonic() >= deadline:
                break
        raise PolicyUnreachable(url=self.endpoint, call=call, waited_s=self._timeout_s, reason=reason)

    def _once(self, call: str, body: bytes, deadline: float) -> tuple[int, Mapping[str, str], bytes]:
        session = self._session(deadline)
        prepared = self._prepared(call, session)
        prepared.prepare_body(body, None)
        with session.send(
            prepared,
            timeout=left_until(deadline),
            allow_redirects=False,
            stream=True,
            verify=self._verify,
        ) as answer:
            content = b""
            while part := answer.raw.read(ANSWER_MAX_BYTES, decode_content=False):
                content += part
                if len(content) > ANSWER_MAX_BYTES:
                    raise self._failed(f"{call} was answered with more than {ANSWER_MAX_BYTES} bytes")
            framed = "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers
            if not framed:  # an answer cut within its headers parses as one with fewer headers
                raise requests.ConnectionError("an answer without a length")
            left_until(deadline)
            return answer.status_code, answer.headers, content

    def _session(self, deadline: float) -> requests.Session:
        """This thread's session, told until when it may wait."""
        session: requests.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session, until = bounded_session()
            session.trust_env = False  # neither a proxy nor a .netrc has business here
            session.headers.update({"Content-Type": "application/json", "Accept-Encoding": "identity"})
            if self._token is not None:
                session.headers[AUTHORIZATION_HEADER] = f"Bearer {self._token}"
            self._threads.session, self._threads.until, self._threads.prepared = session, until, {}
            with self._opening:
                self._opened.append(session)
        self._threads.until.deadline = deadline
        return session

    def _prepared(self, call: str, session: requests.Session) -> requests.PreparedRequest:
        """The request without its body: the rest is the same every time, and costs as much as sending it."""
        ready: dict[str, requests.PreparedRequest] = self._threads.prepared
        if call not in ready:
            ready[call] = session.prepare_request(requests.Request("POST", self.endpoint + call))
        return ready[call].copy()

    def _refusal(self, content: bytes, session_id: str) -> Exception:
        try:
            problem = Problem.model_validate_json(content)
        except ValidationError:
            return self._failed("it refused with a problem that cannot be read")
        if problem.code == UnknownSession.code:
            return UnknownSession(session=session_id)
        if problem.code == BadObservation.code and {"thing", "expected", "found"} <= set(problem.parts):
            return BadObservation(**{name: self._said(part) for name, part in problem.parts.items()})
        return self._failed(f"{problem.code}: {problem.detail}")

    def _require_same(self, call: str, asked: Mapping[str, tuple[object, object]]) -> None:
        for name, (expected, found) in asked.items():
            if expected != found:
                raise self._failed(f"{call} for {name} {expected} was answered for {name} {found}")

    def _failed(self, reason: str) -> PolicyError:
        return PolicyFailed(url=self.endpoint, reason=self._said(reason))

    def _said(self, words: object) -> str:
        """A server's words, cut short, and without the token should it have repeated it."""
        said = str(words)
        return (said.replace(self._token, "…") if self._token else said)[:REASON_MAX]


def checked_endpoint(endpoint: str) -> str:
    """The endpoint without a slash at its end.

    Raises:
        EndpointRefused: not an http(s) URL of a host, one with a password in it, or with a query.
    """
    expected = "http(s)://host[:port][/path] without user, password, query or fragment"
    try:
        parts = urlsplit(endpoint)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise EndpointRefused(found="one that cannot be read", expected=expected) from None
    if "@" in parts.netloc:
        raise EndpointRefused(found=f"one with credentials at {parts.hostname}", expected=expected)
    if parts.scheme not in SCHEMES or not parts.hostname or not port_is_fine:
        raise EndpointRefused(found=repr(endpoint[:REASON_MAX]), expected=expected)
    if parts.query or parts.fragment:
        raise EndpointRefused(found=f"one with a query or fragment at {parts.hostname}", expected=expected)
    return endpoint.rstrip("/")


def _cause_of(error: BaseException) -> str:
    """The name of what went wrong underneath: a library's own words may repeat headers."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return type(error).__name__
