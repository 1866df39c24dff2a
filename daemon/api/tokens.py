"""Access tokens over REST, for the scope `admin`: listed, made, revoked. Secrets are shown once, when made.

The first token and the last one are made and revoked by command, on the daemon's machine: with them the doors
are closed and opened.
"""

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from daemon.access import end_token, make_token, token_record
from daemon.api.callers import Caller
from daemon.api.errors import Forbidden, LastToken, MakerUnknown, Unauthorized
from daemon.api.security import Actor, Scope, needs
from daemon.api.services import Services, Wired
from storage import access_tokens

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/tokens", tags=["tokens"])

TokenName = Annotated[str, Path(max_length=100, description="whose token it is")]


class NewToken(BaseModel):
    """A token to be made: whose it is, what it may, and when it ends; without an end, never."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=100, description="letters, digits and ._-; audit events name it")
    scopes: list[Scope] = Field(min_length=1, max_length=10)
    expires_at: AwareDatetime | None = None


class TokenRecord(BaseModel):
    """A token that is in force, or was. Its `id` stands in it; its secret is nowhere."""

    id: str
    name: str
    scopes: list[str]
    state: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class MadeToken(TokenRecord):
    """A token that was made; `token` is what is sent as a bearer, told in this answer and never again."""

    token: str


class Tokens(BaseModel):
    items: list[TokenRecord]


@router.get("", response_model=Tokens, dependencies=[needs("admin")])
def list_tokens(services: Wired) -> dict[str, Any]:
    """Give all tokens that ever were, in the order they were made."""
    with services.database.read() as session:
        rows = access_tokens.list_tokens(session)
    return {"items": [token_record(row, now=services.now()) for row in rows]}


@router.post("", status_code=201, response_model=MadeToken, dependencies=[needs("admin")])
def create_token(
    wish: NewToken, request: Request, response: Response, services: Wired, actor: Actor
) -> dict[str, Any]:
    """Make a token with no scope that its maker lacks. Asked again, 409: a lost one is revoked, not shown."""
    require_may_make(services, request.state.caller, scopes=wish.scopes)
    now = services.now()
    with services.database.write() as session:
        row, token = make_token(
            session, actor, name=wish.name, scopes=wish.scopes, expires_at=wish.expires_at, now=now
        )
    response.headers["Cache-Control"] = "no-store"
    log.info("token made name=%s scopes=%s by=%s", row.name, ",".join(row.scopes), actor)
    return {**token_record(row, now=now), "token": token}


@router.delete("/{name}", status_code=204, dependencies=[needs("admin")])
def revoke_token(name: TokenName, services: Wired, actor: Actor) -> None:
    """End a token; every process of the daemon refuses it within seconds. 409: it is the last one."""
    with services.database.write() as session:
        end_token(session, actor, name=name, now=services.now())
        if not access_tokens.any_in_force(session):
            raise LastToken(name=name)
    log.info("token revoked name=%s by=%s", name, actor)


def require_may_make(services: Services, maker: Caller, *, scopes: Iterable[str]) -> None:
    """Let nobody give what they have not got; the maker's token is looked up, not remembered.

    Raises:
        MakerUnknown: nobody was asked for a token, so whoever it is could keep what is open now.
        Unauthorized: the maker's token was revoked or is over.
        Forbidden: a scope that the maker lacks.
    """
    if maker.token_id is None:
        raise MakerUnknown
    caller = services.callers.of_token(maker.token_id)
    if caller is None:
        raise Unauthorized(found="one that is not in force")
    if beyond := set(scopes) - caller.scopes:
        raise Forbidden(needed=", ".join(sorted(beyond)), name=caller.name, scopes=caller.scopes)
