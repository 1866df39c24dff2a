"""What can go wrong with access tokens. No sentence here holds a secret.

StorageError
├── AccessTokenInvalid      a name or a scope that no token has
└── AccessTokenExists       two tokens in force with one name
"""

from collections.abc import Iterable

from storage.errors import StorageError


class AccessTokenInvalid(StorageError):
    code = "access_token_invalid"

    def __init__(self, *, name: str, expected: str, found: str) -> None:
        super().__init__(
            f"access token {name[:80]!r} must have {expected}, found {found}. Nothing was stored."
        )


class AccessTokenExists(StorageError):
    code = "access_token_exists"

    def __init__(self, *, name: str) -> None:
        super().__init__(
            f"there is an access token {name!r} in force already. Revoke it first, or take another name."
        )


def listed(names: Iterable[str]) -> str:
    """Names in order, for a sentence."""
    return ", ".join(sorted(names)) or "none"
