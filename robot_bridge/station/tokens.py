"""Who may call a station: bearer tokens with scopes, in a file that holds no secret.

    {"tokens": [{"name": "daemon", "scopes": ["drive", "observe"], "sha256": "…", "created_at": "…"}]}

A secret is shown once, when it is made. The file is 0600 and is read again when it has changed, so that a
revoked token ends at once. Which call needs which scope is in `doors`.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from robot_bridge.errors import RobotBridgeError
from robot_bridge.station.durable import PRIVATE, replace_file

log = logging.getLogger(__name__)

Scope: TypeAlias = Literal["observe", "drive", "label", "estop", "operate"]

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
SECRET_PREFIX: Final = "gst_"  # noqa: S105 - marks a secret, is none
SECRET_BYTES: Final = 32
NAME: Final = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z._-]{0,99}")


class TokenFileInvalid(RobotBridgeError):
    code = "token_file_invalid"
    sentence = "token file {path} cannot be used: {reason}. Mend it, or make a new one: no secret is in it."


class TokenInvalid(RobotBridgeError):
    code = "token_invalid"
    sentence = "token {name!r} must have {expected}, found {found}. Nothing was changed."


class TokenExists(RobotBridgeError):
    code = "token_exists"
    sentence = "token file {path} has a token {name!r} already. Revoke it first, or take another name."


class TokenUnknown(RobotBridgeError):
    code = "token_unknown"
    sentence = "token file {path} has no token {name!r}, only {known}. Nothing was changed."


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token: what may be known of it. Its secret is nowhere."""

    name: str
    scopes: frozenset[Scope]
    created_at: datetime


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{NAME.pattern}$")
    scopes: frozenset[Scope]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: AwareDatetime

    def token(self) -> Token:
        return Token(name=self.name, scopes=self.scopes, created_at=self.created_at)


class _Tree(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[_Row, ...] = ()


class TokenFile:
    """One file of tokens. All methods may be called from any thread, and several programs may change it."""

    def __init__(self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = path
        self._now = now
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._rows: tuple[_Row, ...] = ()

    def create(self, name: str, scopes: Collection[str]) -> str:
        """Add a token and give its secret: the only time that anybody sees it.

        Raises:
            TokenInvalid: the name is no name, or a scope is none of `SCOPES`.
            TokenExists: the name is taken.
            TokenFileInvalid: the file does not read back.
        """
        if not NAME.fullmatch(name):
            raise TokenInvalid(name=name, expected="a name of letters, digits and ._-", found="another one")
        if not scopes or not set(scopes) <= set(SCOPES):
            raise TokenInvalid(name=name, expected=f"scopes of {_listed(SCOPES)}", found=_listed(scopes))
        secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        row = _Row.model_validate(
            {"name": name, "scopes": set(scopes), "sha256": _sha256(secret), "created_at": self._now()}
        )
        with self._changing() as rows:
            if any(other.name == name for other in rows):
                raise TokenExists(path=self.path, name=name)
            self._write((*rows, row))
        return secret

    def revoke(self, name: str) -> None:
        """Forget a token; whoever has its secret is nobody from the next call on.

        Raises:
            TokenUnknown: there is none of that name.
            TokenFileInvalid: the file does not read back.
        """
        with self._changing() as rows:
            left = tuple(row for row in rows if row.name != name)
            if len(left) == len(rows):
                raise TokenUnknown(path=self.path, name=name, known=_listed(row.name for row in rows))
            self._write(left)

    def tokens(self) -> list[Token]:
        """All tokens, in the order they were made; none when there is no file.

        Raises:
            TokenFileInvalid: the file does not read back.
        """
        return [row.token() for row in self._read()]

    def check(self, secret: str, *, fresh: bool = True) -> Token | None:
        """Whose secret this is, or None. With `fresh` False, the file is looked at only for a stranger.

        A file that does not read back gives nobody anything any more, except the emergency stop to those who
        had it.
        """
        found = None if fresh else self._known(secret)
        if found is None:
            with self._lock:
                self._refresh()
            found = self._known(secret)
        return found

    def _known(self, secret: str) -> Token | None:
        digest, found = _sha256(secret), None
        for row in self._rows:  # all of them, each in constant time
            if hmac.compare_digest(row.sha256, digest):
                found = row.token()
        return found

    def _refresh(self) -> None:
        seen = self._signature()
        if seen == self._seen:
            return
        try:
            self._rows = self._read()
        except TokenFileInvalid as error:
            log.error("token file not read path=%s code=%s", self.path, error.code)
            stop: frozenset[Scope] = frozenset({"estop"})
            self._rows = tuple(row.model_copy(update={"scopes": row.scopes & stop}) for row in self._rows)
        self._seen = seen

    def _signature(self) -> tuple[int, int, int]:
        try:
            found = self.path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_ino, found.st_size, found.st_mtime_ns)

    def _read(self) -> tuple[_Row, ...]:
        try:
            mode = self.path.stat().st_mode
            content = self.path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as cause:
            raise TokenFileInvalid(path=self.path, reason=cause.strerror or "it cannot be read") from cause
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise TokenFileInvalid(path=self.path, reason="others may write to it; its mode must be 0600")
        try:
            return _Tree.model_validate_json(content).tokens
        except ValidationError:  # its text holds what is in the file: not for a message
            raise TokenFileInvalid(path=self.path, reason="it does not hold a list of tokens") from None

    @contextmanager
    def _changing(self) -> Iterator[tuple[_Row, ...]]:
        """The rows, while no other program changes them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_name(f".{self.path.name}.lock")
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield self._read()
        finally:
            os.close(handle)

    def _write(self, rows: tuple[_Row, ...]) -> None:
        content = _Tree(tokens=rows).model_dump_json(indent=2)
        replace_file(self.path, content.encode() + b"\n", mode=PRIVATE)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
