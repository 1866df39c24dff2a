"""Forms with a file in them: fields and files taken apart, under the same proof as all other forms.

How large such a body may be is the application's business; a few megabytes are taken apart here, on a thread.
"""

from dataclasses import dataclass
from email.message import MIMEPart
from email.parser import BytesParser
from email.policy import HTTP
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Request

from daemon.dashboard.forms import MOST_FIELDS, Fields, require_ours
from daemon.errors import RequestInvalid

FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a form sent; a file that nobody chose is empty."""

    fields: Fields
    files: dict[str, bytes]


async def upload_of(request: Request) -> Upload:
    """The fields and files of a form.

    Raises:
        FormRefused: no page of ours made it.
        RequestInvalid: it is no such form.
    """
    kind = request.headers.get("content-type", "")
    upload = await to_thread.run_sync(partial(taken_apart, await request.body(), kind=kind))
    require_ours(request, upload.fields)
    return upload


def taken_apart(body: bytes, *, kind: str) -> Upload:
    """The parts of a body by their names; `kind` is its content type, which has the boundary.

    Raises:
        RequestInvalid: it is no multipart form, a part has no name, or there are too many.
    """
    if kind.partition(";")[0].strip().lower() != FORM:
        raise RequestInvalid(faults={"body": f"expected {FORM}, found {kind[:100] or 'no type'}"})
    head = b"Content-Type: " + kind.encode("latin-1", "replace") + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    if not message.is_multipart() or message.defects:
        raise RequestInvalid(faults={"body": "expected a whole form, its parts do not end"})
    fields: Fields = {}
    files: dict[str, bytes] = {}
    for part in message.iter_parts():
        name, content = _named(part)
        if part.get_filename() is not None:
            files[name] = content
            continue
        try:
            fields[name] = content.decode()
        except UnicodeDecodeError:
            raise RequestInvalid(faults={name[:100]: "expected UTF-8"}) from None
        if "\x00" in fields[name]:
            raise RequestInvalid(faults={name[:100]: "a form has no NUL in it"})
    if len(fields) + len(files) > MOST_FIELDS:
        raise RequestInvalid(faults={"body": f"expected at most {MOST_FIELDS} fields"})
    return Upload(fields=fields, files=files)


def _named(part: MIMEPart) -> tuple[str, bytes]:
    name = part.get_param("name", header="content-disposition")
    content = part.get_payload(decode=True)
    if not isinstance(name, str) or not isinstance(content, bytes):
        raise RequestInvalid(faults={"body": "expected a name for every part, and nothing inside a part"})
    return name, content


UploadForm = Annotated[Upload, Depends(upload_of)]
