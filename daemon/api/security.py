"""Which call needs which scope. Who calls is found out before, in `doors`.

Every router is included with `guarded()`, but that of health. Without a word of its own, a route that only
reads needs `read` and any other needs `operate`; one that says `dependencies=[needs("label")]` needs that
instead. `admin` is for what changes who may do what, and for settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Request, Security, params
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from daemon.api.callers import Caller
from daemon.api.errors import Forbidden

Scope = Literal["read", "operate", "label", "admin"]

READING = frozenset({"GET", "HEAD"})
# what nobody needs a token for: that the process lives, what its calls are, and the page that asks for one
OPEN_PATHS = frozenset(
    {"/healthz", "/readyz", "/openapi.json"}
    | {"/login", "/static/dashboard.css", "/static/dashboard.js", "/static/icon.svg"}
)

TELLS_MORE = "/readyz"  # the open path that says more to those with the scope `read`

bearer = HTTPBearer(auto_error=False, description="a token of `gymnastd token create`")


class Mark:
    """Stands among a route's dependencies, to be read by whoever serves the route."""

    __slots__ = ()

    def __call__(self) -> None:
        """Does nothing: the framework calls whatever stands there."""


@dataclass(frozen=True, slots=True)
class Needs(Mark):
    """The scope of a route; `guard` reads it."""

    scope: Scope


def needs(scope: Scope) -> Any:
    """For a route's `dependencies`: the scope that it needs instead of its method's."""
    return Depends(Needs(scope))


def scope_of(method: str, dependencies: Sequence[params.Depends]) -> Scope:
    """The scope that a route needs: the one that it says, else its method's."""
    said = [each.dependency.scope for each in dependencies if isinstance(each.dependency, Needs)]
    if said:
        return said[-1]
    return "read" if method in READING else "operate"


async def guard(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
) -> None:
    """Let the caller go on, if its scopes hold what the route needs; on the event loop, as it never waits.

    Raises:
        Forbidden: they do not.
    """
    caller: Caller = request.state.caller
    needed = scope_of(request.method, request.scope["route"].dependencies)
    if needed not in caller.scopes:
        raise Forbidden(needed=needed, name=caller.name, scopes=caller.scopes)


def guarded() -> list[Any]:
    """The dependencies that every router is included with."""
    return [Depends(guard)]


async def actor_of(request: Request) -> str:
    """Who is to be named in audit events: the token's name, or `rest` where nobody is asked for one."""
    caller: Caller = request.state.caller
    return caller.name


Actor = Annotated[str, Depends(actor_of)]
