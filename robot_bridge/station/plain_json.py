"""JSON bodies that can be read in one way only, and written again.

A field that comes twice in one object is refused: the language leaves open which of the two counts, and the
arm would move by a guess. So is half of a surrogate pair, which no manifest and no journal can hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

from fastapi import HTTPException
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from robot_bridge.plain_objects import FieldTwice, once

HALF_MAYBE: Final = re.compile(r"\\u[dD][89a-fA-F]")  # how one would be written


class PlainJsonRoute(APIRoute):
    """A route whose body is plain; give it to an APIRouter as `route_class`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def read_once(request: Request) -> Response:
            return await answer(_PlainRequest(request.scope, request.receive))

        return read_once


class _PlainRequest(Request):
    async def json(self) -> Any:
        """Raises:
        HTTPException: it is not plain; leaves as bad_request.
        """
        try:
            text = (await self.body()).decode()
            tree = json.loads(text, object_pairs_hook=once)
            if HALF_MAYBE.search(text) is not None:
                json.dumps(tree, ensure_ascii=False).encode()
        except FieldTwice as cause:
            reason = f"field {cause.field[:60]!a} came more than once in one object"
            raise HTTPException(HTTPStatus.BAD_REQUEST, detail=reason) from cause
        except UnicodeError as cause:
            reason = "it is not UTF-8, or holds half of a surrogate pair"
            raise HTTPException(HTTPStatus.BAD_REQUEST, detail=reason) from cause
        return tree
