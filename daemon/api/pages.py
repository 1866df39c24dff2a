"""Query parameters that every list has."""

from typing import Annotated

from fastapi import Query

LONGEST_PAGE = 500

Limit = Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="how many items at most")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before")]
Number = Annotated[int | None, Query(ge=1, description="of this iteration only")]
