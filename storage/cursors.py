"""Cursors of pages that go on below a number."""

from storage.errors import CursorInvalid


def number_of(cursor: str, *, digits: int = 9) -> int:
    """The number that a cursor is.

    Raises:
        CursorInvalid: it is none, or has more digits than any that was given out.
    """
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= digits):
        raise CursorInvalid(cursor=cursor)
    return int(cursor)
