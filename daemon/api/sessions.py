"""Sessions of browsers: whoever showed a token at the login page is known by a cookie from then on.

The cookie holds a random name; which token it stands for is kept here, in memory, so that a copy of the
database opens nothing and a daemon that starts again asks everybody once more. The token itself is looked at
in every call: a session ends when its token does.

A cookie is sent by the browser, whoever wrote the page that made it call. Therefore it opens what only reads,
and pages that ask for the form's own word (`word`), which no other site can know.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie

SESSION_S = 12 * 3600.0  # a working day; then the token is asked for again
MOST_SESSIONS = 1000  # of more, the oldest end
NAME_BYTES = 32
NOBODY = ""  # who has no session has a word all the same, for the login form and for open doors


class Sessions:
    """The sessions of one process. All methods may be called from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(NAME_BYTES)
        self._open: dict[str, tuple[str, float]] = {}  # by sha256 of the name: a token's id, and when it ends

    def open(self, token_id: str) -> str:
        """Begin a session for a token; gives the name that goes into the cookie."""
        name = secrets.token_urlsafe(NAME_BYTES)
        self._open[_digest(name)] = (token_id, self._clock() + SESSION_S)
        for oldest in list(self._open)[:-MOST_SESSIONS]:
            self._open.pop(oldest, None)
        return name

    def token_of(self, name: str) -> str | None:
        """The id of the token that a session stands for; None when there is no such session."""
        token_id, ends_at = self._open.get(_digest(name), ("", 0.0))
        return token_id if token_id and self._clock() < ends_at else None

    def close(self, name: str) -> None:
        """End a session; one that is over already is no error."""
        self._open.pop(_digest(name), None)

    def word(self, name: str = NOBODY) -> str:
        """What the forms of a session's pages send back, to prove that a page of ours made them."""
        return hmac.new(self._key, name.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def knows_word(self, said: str, name: str = NOBODY) -> bool:
        """Whether a form sent its session's word."""
        return hmac.compare_digest(self.word(name).encode(), said.encode("utf-8", "surrogatepass"))


def cookie_name(port: int) -> str:
    """The cookie of the daemon on this port: browsers give one machine's cookies to all of its ports."""
    return f"gymnastd_{port}"


def session_name(headers: Iterable[tuple[bytes, bytes]], port: int) -> str:
    """The name in a request's cookie, or NOBODY."""
    for key, value in headers:
        if key == b"cookie":
            try:
                found = SimpleCookie(value.decode("latin-1")).get(cookie_name(port))
            except CookieError:
                continue
            if found is not None:
                return found.value
    return NOBODY


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
