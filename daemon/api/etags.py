"""ETags: answers that are not sent again to somebody who has them, and changes that name what they change."""

import hashlib
from http import HTTPStatus
from typing import Annotated

from fastapi import Header, Request, Response
from fastapi.routing import APIRoute

from daemon.api.kept_answers import Answering, KeptAnswers, is_kept
from daemon.scheduling.errors import PreconditionFailed, PreconditionRequired

IfMatch = Annotated[
    str | None, Header(max_length=200, description="the ETag of what was read, so that no change is lost")
]


class TaggedRoute(APIRoute):
    """A route whose good GET answers have an `ETag`, the digest of their body, and honour `If-None-Match`.

    An answer that has its own tag keeps it. Those of a route that `keeps()` are kept with their tags.
    """

    def get_route_handler(self) -> Answering:
        answering = super().get_route_handler()

        async def tagged(request: Request) -> Response:
            answer = await answering(request)
            if _is_good(request, answer):
                if "ETag" not in answer.headers:
                    answer.headers["ETag"] = f'"{hashlib.sha256(bytes(answer.body)).hexdigest()[:32]}"'
                answer.headers.setdefault("Cache-Control", "no-cache")  # keep it, and ask if it still holds
            return answer

        async def remembered(request: Request) -> Response:
            answers: KeptAnswers = request.app.state.services.answers
            return await answers.answer(request, tagged)

        answer_to = remembered if is_kept(self.dependencies) else tagged

        async def answered(request: Request) -> Response:
            answer = await answer_to(request)
            known = _is_good(request, answer) and knows(
                request.headers.get("If-None-Match", ""), answer.headers["ETag"]
            )
            return _not_modified(answer) if known else answer

        return answered


def _is_good(request: Request, answer: Response) -> bool:
    return request.method == "GET" and answer.status_code == HTTPStatus.OK


def knows(said: str, tag: str) -> bool:
    """Whether an `If-None-Match` names a tag; weak ones count, as RFC 9110 asks of GET."""
    known = [one.strip().removeprefix("W/") for one in said.split(",")]
    return tag in known or known == ["*"]


def _not_modified(answer: Response) -> Response:
    kept = {name: answer.headers[name] for name in ("ETag", "Cache-Control")}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)


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
