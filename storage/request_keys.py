"""Idempotency keys: a request that is repeated under its key finds what the first one made.

Iterations keep their keys themselves; every other request that adds something can keep its key here.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from storage.canonical import json_digest
from storage.db import serialise
from storage.errors import RequestKeyReused
from storage.event_tables import RequestKeyRow


def once(
    session: Session,
    key: str | None,
    *,
    scope: str,
    request: Mapping[str, Any],
    make: Callable[[], str],
    now: datetime,
) -> tuple[str, bool]:
    """Do what is asked for, unless the same was done under this key; without a key, do it.

    Args:
        make: does it, in this transaction, and gives the id of what it made.

    Returns:
        The id of what was made, now or before, and whether it was now.

    Raises:
        RequestKeyReused: the key was used for another request.
        NotJson: the request holds something that JSON cannot.
    """
    if key is None:
        return make(), True
    before = made_before(session, key, scope=scope, request=request)
    if before is not None:
        return before, False
    made = make()
    keep(session, key, scope=scope, request=request, made=made, now=now)
    return made, True


def made_before(session: Session, key: str, *, scope: str, request: Mapping[str, Any]) -> str | None:
    """What the first request under this key made; None when the key is new. Others with it wait.

    Args:
        scope: what is asked for; the same key in another scope is another key.
        request: everything that the outcome depends on.

    Raises:
        RequestKeyReused: the key was used for another request.
        NotJson: the request holds something that JSON cannot.
    """
    serialise(session, f"request_key:{scope}:{key}")
    row = session.get(RequestKeyRow, (scope, key))
    if row is None:
        return None
    if row.digest != json_digest(request, what="the request"):
        raise RequestKeyReused(key=key, scope=scope)
    return row.made


def keep(
    session: Session, key: str, *, scope: str, request: Mapping[str, Any], made: str, now: datetime
) -> None:
    """Remember what a request made; in the transaction that makes it.

    Raises:
        NotJson: the request holds something that JSON cannot.
    """
    digest = json_digest(request, what="the request")
    session.add(RequestKeyRow(scope=scope, key=key, digest=digest, made=made, used_at=now))
    session.flush()
