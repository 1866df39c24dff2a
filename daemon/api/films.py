"""Films as answers: whole, or the part that a player asks for. A browser cannot seek without parts.

The film of an address never changes, so `If-Range` need not be looked at.
"""

import re
from typing import Annotated, Any, Final

from fastapi import Header, Response

MP4: Final = "video/mp4"
PARTS_TOO: dict[int | str, dict[str, Any]] = {206: {"description": "the part that was asked for"}}
ONE_PART: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)

PartAsked = Annotated[
    str | None, Header(alias="Range", max_length=500, description="`bytes=first-last`: only this part")
]


def film_answer(film: bytes, *, tag: str, asked: str | None) -> Response:
    """A film, or one part of it; several parts, and one that there is not, are answered with the whole film.

    Args:
        tag: names this film among all that were ever at its address.
        asked: the header Range, if there was one.

    Source: RFC 9110, section 14.2: a server may ignore the header.
    """
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{tag}"'}
    part = _part(asked or "", size=len(film))
    if part is None:
        return Response(film, media_type=MP4, headers=headers)
    first, end = part
    headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(film)}"
    return Response(film[first:end], status_code=206, media_type=MP4, headers=headers)


def _part(asked: str, *, size: int) -> tuple[int, int] | None:
    """The first byte of a part and the one after its last; None where there is no such part."""
    match = ONE_PART.fullmatch(asked)
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        first, end = max(0, size - int(match[2])), size
    else:
        first, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    return (first, end) if first < end else None
