"""The login page: a token in, a cookie out. Files that pages need before anybody is known are here too."""

import re
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from daemon.api.errors import RateLimited
from daemon.api.rates import Buckets
from daemon.api.security import needs
from daemon.api.services import Services, services_of
from daemon.api.sessions import SESSION_S, cookie_name, session_name
from daemon.dashboard.forms import Form, field
from daemon.dashboard.page import SECURITY, PageRoute, render

open_router = APIRouter(route_class=PageRoute)
router = APIRouter(route_class=PageRoute)

OWN_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20]*")  # of this daemon: `//elsewhere` would be another host
KINDS = {"dashboard.css": "text/css", "dashboard.js": "text/javascript", "icon.svg": "image/svg+xml"}
WRONG = "This token is not in force here. `gymnastd token create` makes one on the daemon's machine."


@open_router.get("/login")
def login_page(request: Request, next: str = "/") -> Response:
    """Ask for a token, where tokens are asked for."""
    asks = services_of(request).callers.check_whether_to_ask()
    return render(request, "login.html", asks=asks, next=own_path(next), wrong="")


@open_router.post("/login")
async def log_in(request: Request, form: Form) -> Response:
    """Begin a session. Who guesses has to wait; the count of it belongs to the event loop."""
    services, failures = services_of(request), request.app.state.failures
    peer = request.client.host if request.client else "unknown"
    _require_patience(failures, peer)
    token, back = field(form, "token"), own_path(form.get("next", "/"))
    caller = await run_in_threadpool(services.callers.check, token)
    if caller is None or caller.token_id is None:
        failures.take(peer)
        return render(request, "login.html", status=401, asks=True, next=back, wrong=WRONG)
    answer = RedirectResponse(back, status_code=303)
    set_cookie(request, answer, name=services.sessions.open(caller.token_id))
    return answer


@router.post("/logout", dependencies=[needs("read")])
def log_out(request: Request, form: Form) -> Response:
    """End the session of this browser."""
    services = services_of(request)
    port = services.settings.port
    services.sessions.close(session_name(request.scope["headers"], port))
    answer = RedirectResponse("/login", status_code=303)
    answer.delete_cookie(cookie_name(port), path="/", httponly=True, samesite="strict")
    return answer


@open_router.get("/static/dashboard.css")
def stylesheet() -> Response:
    """How pages look."""
    return asset("dashboard.css")


@open_router.get("/static/dashboard.js")
def script() -> Response:
    """What keeps pages up to date; they can be used without it."""
    return asset("dashboard.js")


@open_router.get("/static/icon.svg")
def icon() -> Response:
    """The picture in the browser's tab."""
    return asset("icon.svg")


def own_path(path: str) -> str:
    """Where to go after the login: a page of this daemon, whatever a link says."""
    return path if OWN_PATH.fullmatch(path) else "/"


def set_cookie(request: Request, answer: Response, *, name: str) -> None:
    """Give the browser its session; no script reads it, and no other site makes a browser send it."""
    services: Services = services_of(request)
    answer.set_cookie(
        cookie_name(services.settings.port),
        name,
        max_age=int(SESSION_S),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def asset(name: str) -> Response:
    """A file of ours; it changes with the release alone, and is asked for again after an hour."""
    headers = {**SECURITY, "Cache-Control": "public, max-age=3600"}
    return Response(_content(name), media_type=KINDS[name], headers=headers)


@cache
def _content(name: str) -> bytes:
    return (files("daemon.dashboard") / "static" / name).read_bytes()


def _require_patience(failures: Buckets, peer: str) -> None:
    after_s = failures.wait_s(peer)
    if after_s:
        raise RateLimited(after_s=after_s, what="tokens that are none")
