"""How every page is made and sent: templates, what the frame around a page knows, errors as pages, headers.

A page has no script and no style in itself and fetches nothing from elsewhere, and browsers are told so.
"""

from collections.abc import Callable, Coroutine
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from daemon.api.callers import Caller
from daemon.api.doors import wants_page
from daemon.api.problems import STATUS
from daemon.api.services import services_of
from daemon.api.sessions import session_name
from daemon.dashboard import words
from daemon.errors import DaemonError, RequestInvalid
from daemon.spec import dotted
from robot_bridge.errors import RobotBridgeError
from storage.errors import StorageError

Answering = Callable[[Request], Coroutine[Any, Any, Response]]
OURS = (DaemonError, StorageError, RobotBridgeError)

PAGES = (
    ("/", "Now"),
    ("/progress", "Progress"),
    ("/iterations", "Iterations"),
    ("/episodes", "Episodes"),
    ("/imagination", "Imagination"),
    ("/trust", "Trust"),
    ("/settings", "Settings"),
)
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
PRIVATE = {"Cache-Control": "no-store"}


@cache
def environment() -> Environment:
    """The templates, with everything that comes from a lab escaped."""
    found = Environment(
        loader=PackageLoader("daemon.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(words.FILTERS)
    return found


def render(request: Request, template: str, *, status: int = 200, **shown: Any) -> HTMLResponse:
    """A page with the frame that all pages have."""
    services = services_of(request)
    caller: Caller = request.state.caller
    session = session_name(request.scope["headers"], services.settings.port)
    frame = {
        "pages": PAGES,
        "path": request.url.path,
        "caller": caller,
        "logged_in": caller.token_id is not None,
        "may": caller.scopes,
        "word": services.sessions.word(session),
        "now": services.now(),
    }
    return HTMLResponse(environment().get_template(template).render({**frame, **shown}), status_code=status)


class PageRoute(APIRoute):
    """A route of the dashboard: what goes wrong in it becomes a page too, for whoever asked for a page."""

    def get_route_handler(self) -> Answering:
        answering = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                answer = await answering(request)
            except (*OURS, RequestValidationError) as refused:
                if not wants_page(request.scope):
                    raise
                answer = error_page(request, refused)
            return secured(answer)

        return page


def secured(answer: Response) -> Response:
    """The answer with the headers that keep other sites out of it."""
    for name, value in {**SECURITY, **PRIVATE}.items():
        answer.headers.setdefault(name, value)
    return answer


def error_page(request: Request, refused: Exception) -> Response:
    """What was refused, and what to do about it."""
    if isinstance(refused, RequestValidationError):
        faults = {dotted(fault["loc"]): str(fault["msg"]) for fault in refused.errors()}
        refused = RequestInvalid(faults=faults)
    code = str(getattr(refused, "code", "daemon_error"))
    status = STATUS.get(code, 500)
    title = "Not stopped" if code == "stations_not_stopped" else HTTPStatus(status).phrase
    return render(request, "error.html", status=status, title=title, sentence=str(refused), code=code)
