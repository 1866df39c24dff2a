"""One text per JSON value, so that equal values have equal digests on every machine and database."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from storage.errors import NotJson


def canonical_json(value: Mapping[str, Any], *, what: str) -> str:
    """The value as JSON with sorted keys and no spaces.

    Args:
        what: what the value is, for the error's sentence.

    Raises:
        NotJson: it holds NaN, infinity, a NUL character, or something JSON has no word for.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise NotJson(what=what, reason=str(error)) from error
    if "\\u0000" in text:  # PostgreSQL keeps no NUL in JSON
        raise NotJson(what=what, reason="it holds a NUL character")
    return text


def as_json(value: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """The value as it will be read back: tuples are lists, keys are strings.

    Raises:
        NotJson: as canonical_json.
    """
    found: dict[str, Any] = json.loads(canonical_json(value, what=what))
    return found


def json_digest(value: Mapping[str, Any], *, what: str) -> str:
    """sha256 in hexadecimal of the canonical text.

    Raises:
        NotJson: as canonical_json.
    """
    return text_digest(canonical_json(value, what=what))


def text_digest(text: str) -> str:
    """sha256 in hexadecimal of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
