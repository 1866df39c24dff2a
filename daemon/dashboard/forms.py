"""What forms send, and the proof that a page of ours made them.

A browser sends its cookie with every form, whoever wrote the page. So a form holds its session's word, which
other sites cannot read. A program that shows a token itself needs none.
"""

from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from daemon.api.errors import FormRefused
from daemon.api.services import services_of
from daemon.api.sessions import session_name
from daemon.errors import RequestInvalid
from daemon.spec import dotted

MOST_FIELDS = 50
FROM_ELSEWHERE = {b"cross-site", b"same-site"}

Fields = dict[str, str]
Body = TypeVar("Body", bound=BaseModel)


async def fields_of(request: Request) -> Fields:
    """The fields of a form, by name; on the event loop, as it never waits for long.

    Raises:
        FormRefused: no page of ours made it.
        RequestInvalid: it is no form.
    """
    body = await request.body()
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise RequestInvalid(faults={"body": f"expected a form, {error}"}) from None
    if any("\x00" in value for value in fields.values()):
        raise RequestInvalid(faults={"body": "a form has no NUL in it"})
    require_ours(request, fields)
    return fields


def field(fields: Fields, name: str) -> str:
    """One field, without the space around it.

    Raises:
        RequestInvalid: it is missing.
    """
    if name not in fields:
        raise RequestInvalid(faults={name: "expected this field"})
    return fields[name].strip()


def body_of(kind: type[Body], **said: object) -> Body:
    """What a form says, as the body that the API takes for it.

    Raises:
        RequestInvalid: it is none.
    """
    try:
        return kind(**said)
    except ValidationError as refused:
        faults = {dotted(fault["loc"]): str(fault["msg"]) for fault in refused.errors()}
        raise RequestInvalid(faults=faults) from None


def require_ours(request: Request, fields: Fields) -> None:
    """Raises:
    FormRefused: no page of ours made this form.
    """
    headers: Any = request.scope["headers"]
    sent = dict(headers)
    if b"authorization" in sent:
        return  # no other page can make a browser send it
    if sent.get(b"sec-fetch-site") in FROM_ELSEWHERE:
        raise FormRefused(why="it came from another site")
    services = services_of(request)
    session = session_name(headers, services.settings.port)
    if not services.sessions.knows_word(fields.get("word", ""), session):
        raise FormRefused(why="it is older than your session, or no page of this daemon made it")


Form = Annotated[Fields, Depends(fields_of)]
