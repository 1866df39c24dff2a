"""ETags of things that people change, and what a change has to say of the version it changes."""

from typing import Annotated

from fastapi import Header

from daemon.scheduling.errors import PreconditionFailed, PreconditionRequired

IfMatch = Annotated[
    str | None, Header(max_length=200, description="the ETag of what was read, so that no change is lost")
]


def etag(version: int) -> str:
    """The ETag of a version."""
    return f'"{version}"'


def check_match(if_match: str | None, version: int, *, what: str, required: bool = True) -> None:
    """Let a change pass that names the newest version.

    Raises:
        PreconditionRequired: it names none, and has to.
        PreconditionFailed: it names another.
    """
    if if_match is None:
        if required:
            raise PreconditionRequired(what=what)
        return
    named = [tag.strip() for tag in if_match.split(",")]
    if etag(version) not in named and "*" not in named:
        raise PreconditionFailed(what=what, sent=if_match, current=etag(version))
