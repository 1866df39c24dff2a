"""Calls to a daemon over HTTP: tokens, repetition after broken connections, problems as errors."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from daemon.errors import DaemonRefused, DaemonUnreachable, TokenUnusable
from robot_bridge.addresses import is_loopback

DEFAULT_URL = "http://127.0.0.1:8400"
ATTEMPTS = 3
TIMEOUT_S = 30.0
TOKEN = re.compile(r"[0-9A-Za-z._~+/=-]+")  # what a header can carry (RFC 6750, section 2.1)

Json = dict[str, Any]


class DaemonHttp:
    """One daemon's address, and how it is called. The token goes into a header of every call, nowhere else.

    Raises:
        TokenUnusable: a token cannot be sent there: the address is neither https nor this machine.

    Raises (any call):
        DaemonUnreachable: nothing answered, after `attempts` tries.
        DaemonRefused: it answered with a problem; `problem_code` says which.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        session: requests.Session | None = None,
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.url = url.rstrip("/")
        self._auth = None if token is None else _Bearer(self.url, token)
        self._session = session or requests.Session()
        self._timeout_s = timeout_s
        self._attempts = attempts

    def _json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        answer = self._answer(method, path, params=params, body=body, headers=headers)
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise DaemonUnreachable(url=self.url, reason="the answer is not a JSON object; is this gymnastd?")
        return document

    def _opened(self, path: str, *, params: Mapping[str, Any]) -> requests.Response:
        """An answer whose body is still to come; tried once."""
        url = self.url + path
        try:
            answer = self._session.get(
                url, params=params, stream=True, auth=self._auth, timeout=self._timeout_s
            )
        except (requests.ConnectionError, requests.Timeout) as broken:
            raise DaemonUnreachable(url=self.url, reason=type(broken).__name__) from None
        if answer.status_code >= 400:
            raise DaemonRefused(url=url, status=answer.status_code, problem=problem_of(answer))
        return answer

    def _answer(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        url = self.url + path
        reason = "not tried"
        for _ in range(self._attempts):
            try:
                answer = self._session.request(
                    method,
                    url,
                    params=params,
                    json=body,
                    headers=headers,
                    auth=self._auth,
                    timeout=self._timeout_s,
                )
            except (requests.ConnectionError, requests.Timeout) as broken:
                reason = type(broken).__name__
                continue
            if answer.status_code >= 400:
                raise DaemonRefused(url=url, status=answer.status_code, problem=problem_of(answer))
            return answer
        raise DaemonUnreachable(url=self.url, reason=reason)


class _Bearer(AuthBase):
    """Puts a token into a call; an own class, because requests would take a `.netrc` for stronger."""

    def __init__(self, url: str, token: str) -> None:
        address = urlsplit(url)
        if address.scheme != "https" and not is_loopback(address.hostname or ""):
            raise TokenUnusable(url=url, reason="everybody on the way could read it")
        if not TOKEN.fullmatch(token):
            raise TokenUnusable(url=url, reason="it has characters that no token has")
        self._token = token

    def __call__(self, call: requests.PreparedRequest) -> requests.PreparedRequest:
        call.headers["Authorization"] = f"Bearer {self._token}"
        return call


def problem_of(answer: requests.Response) -> Mapping[str, Any]:
    """Read a problem body; whatever else answered gets the start of its text as detail."""
    try:
        document = answer.json()
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {"detail": answer.text[:200]}
