"""Parameters that several resources have, with their bounds."""

from typing import Annotated

from fastapi import Path, Query

from daemon.spec_types import Lineage

LONGEST_PAGE = 500
LARGEST_NUMBER = 2**31 - 1  # what an INTEGER column holds

OfLineage = Annotated[Lineage | None, Query(description="of this lineage only")]
Limit = Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="how many items at most")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before")]
OfIteration = Annotated[int | None, Query(ge=1, le=LARGEST_NUMBER, description="of this iteration only")]
Number = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="the iteration's number")]
