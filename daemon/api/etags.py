"""Answers that say which version they are, and are not sent again to somebody who has it."""

import hashlib
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

Answering = Callable[[Request], Coroutine[Any, Any, Response]]


class TaggedRoute(APIRoute):
    """A route whose good GET answers have an `ETag`, the digest of their body, and honour `If-None-Match`."""

    def get_route_handler(self) -> Answering:
        answering = super().get_route_handler()

        async def tagged(request: Request) -> Response:
            answer = await answering(request)
            if request.method != "GET" or answer.status_code != HTTPStatus.OK:
                return answer
            tag = f'"{hashlib.sha256(bytes(answer.body)).hexdigest()[:32]}"'
            answer.headers["ETag"] = tag
            answer.headers.setdefault("Cache-Control", "no-cache")  # keep it, and ask whether it still holds
            return _not_modified(answer) if knows(request.headers.get("If-None-Match", ""), tag) else answer

        return tagged


def knows(said: str, tag: str) -> bool:
    """Whether an `If-None-Match` names a tag; weak ones count, as RFC 9110 asks of GET."""
    known = [one.strip().removeprefix("W/") for one in said.split(",")]
    return tag in known or known == ["*"]


def _not_modified(answer: Response) -> Response:
    kept = {name: answer.headers[name] for name in ("ETag", "Cache-Control")}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)
