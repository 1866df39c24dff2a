"""Answers as comma-separated values: who wants them, and how they are written."""

import csv
import io
from collections.abc import Sequence
from typing import Any, Literal

from fastapi import Response
from pydantic import Field

CSV = "text/csv"
CSV_TOO: dict[int | str, dict[str, Any]] = {200: {"content": {CSV: {}}}}  # of a route's responses
Format = Literal["json", "csv"] | None
CSV_OR_JSON: Any = Field(default=None, description="csv also by Accept: text/csv")


def wants_csv(asked: Format, accept: str | None) -> bool:
    """Whether somebody asked for it, by the parameter or else by the header."""
    return asked == "csv" or (asked is None and CSV in (accept or ""))


def csv_answer(items: Sequence[dict[str, Any]], next_cursor: str | None) -> Response:
    """The items as text; the cursor of the next page is a header."""
    return Response(
        as_csv(items), media_type=CSV, headers={"Next-Cursor": next_cursor} if next_cursor else {}
    )


def as_csv(items: Sequence[dict[str, Any]]) -> str:
    """A header and one line per item; nothing at all where there is no item."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(items[0]) if items else [], lineterminator="\r\n")
    if items:
        writer.writeheader()
    writer.writerows(items)
    return text.getvalue()
