"""One question to an OpenAI-compatible endpoint: POST {url}/chat/completions, and its answers as text.

Every wait has a deadline, also that of an answer that drips in byte by byte. Nothing is tried again here: who
asks knows what a question costs.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from daemon.judges.errors import JudgeGarbled, JudgeQuestionRefused, JudgeRefused, JudgeUnreachable
from robot_bridge.deadline import Until, bounded_session

CONNECT_S = 10.0
MOST_BYTES = 4 * 1024 * 1024  # of an answer
PIECE = 16 * 1024
BUSY = frozenset({408, 409, 425, 429})  # not now
OF_ONE = frozenset({400, 413, 422})  # not this question, a filter for example
BEHIND = frozenset({502, 504})  # of a gateway: whoever is behind it may have worked, and may charge
UNCONNECTED = (ConnectTimeoutError, NewConnectionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The texts of all choices.

    Attributes:
        tokens: that the question and the answers had; None where the endpoint does not say.
    """

    texts: tuple[str, ...]
    tokens: tuple[int, int] | None


class ChatEndpoint:
    """Where questions are sent. Safe to use from several threads; each has its own connections.

    Args:
        key: sent as bearer token; never logged, never part of an error.
        answer_s: how long one answer may take, from the question to its last byte.
    """

    def __init__(self, url: str, *, key: str | None = None, answer_s: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._answer_s = answer_s
        self._own = threading.local()

    def ask(self, body: Mapping[str, Any]) -> Answers:
        """Send a question once.

        Raises:
            JudgeUnreachable: it is away or busy, or takes too long.
            JudgeRefused: it does not want our questions; JudgeQuestionRefused: not this one.
            JudgeGarbled: it answered with something else.
        """
        session, until = self._line()
        until.deadline = time.monotonic() + self._answer_s
        with self._reaching():
            answer = session.post(
                f"{self.url}/chat/completions",
                json=body,
                headers=self._headers,
                timeout=(CONNECT_S, self._answer_s),
                stream=True,
            )
            with answer:
                content = self._content(answer)
        self._require_success(answer, content)
        return self._read(content)

    def _require_success(self, answer: requests.Response, content: bytes) -> None:
        status = answer.status_code
        if status in BUSY or status >= 500:
            raise JudgeUnreachable(
                url=self.url,
                reason=f"status {status}",
                after_s=_after_s(answer),
                may_cost=status in BEHIND,
            )
        if status >= 400:
            refused = JudgeQuestionRefused if status in OF_ONE else JudgeRefused
            raise refused(url=self.url, status=status, said=content[:300].decode(errors="replace"))

    def _content(self, answer: requests.Response) -> bytes:
        """The body, if it is not too long."""
        parts: list[bytes] = []
        for part in answer.iter_content(PIECE):
            parts.append(part)
            if sum(map(len, parts)) > MOST_BYTES:
                raise JudgeGarbled(url=self.url, found=f"more than {MOST_BYTES} bytes")
        return b"".join(parts)

    def _read(self, content: bytes) -> Answers:
        try:
            document = json.loads(content)
            texts = tuple(_text(choice) for choice in document["choices"])
            tokens = _tokens(document.get("usage"))
        except (ValueError, KeyError, TypeError, AttributeError):
            found = f"{len(content)} bytes that begin {content[:60].decode(errors='replace')!r}"
            raise JudgeGarbled(url=self.url, found=found) from None
        return Answers(texts=texts, tokens=tokens)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Whatever the connection does becomes one error, without headers or addresses in it."""
        try:
            yield
        except requests.RequestException as broken:
            reason = type(broken).__name__
            raise JudgeUnreachable(url=self.url, reason=reason, may_cost=not _unsent(broken)) from None

    def _line(self) -> tuple[requests.Session, Until]:
        """This thread's session, and when its call must be over."""
        if not hasattr(self._own, "line"):
            self._own.line = bounded_session()
        line: tuple[requests.Session, Until] = self._own.line
        return line


def _unsent(broken: requests.RequestException) -> bool:
    """Whether the question surely never left: who hangs up or falls silent after it may charge for it."""
    cause = broken.args[0] if broken.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, UNCONNECTED)


def _tokens(usage: Mapping[str, Any] | None) -> tuple[int, int] | None:
    """Tokens of the question and of the answers, where both are told."""
    prompt, completion = ((usage or {}).get(f"{kind}_tokens") for kind in ("prompt", "completion"))
    if prompt is None or completion is None:
        return None
    return max(0, int(prompt)), max(0, int(completion))


def _text(choice: Mapping[str, Any]) -> str:
    """A choice's text; empty where the model said nothing."""
    content = choice["message"]["content"]
    if content is None:
        return ""
    if not isinstance(content, str):
        raise TypeError(content)
    return content


def _after_s(answer: requests.Response) -> float | None:
    """Seconds until it wants to be asked again, where it says so in seconds."""
    said = answer.headers.get("Retry-After", "")
    return float(said) if said.isascii() and said.isdigit() else None
