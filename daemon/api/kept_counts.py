"""Pages of grouped success counts that are given again until an episode or a verdict changes a count.

`kept_answers` forgets at every write, and a worker at work writes every second; counts change with episodes
alone, and adding thousands of them up is the dearest question that a dashboard asks.
"""

import threading
from collections import OrderedDict
from typing import Final, TypeAlias

from sqlalchemy.orm import Session

from storage import success_counts, success_marks
from storage.success_counts import Counted, CountQuery

MOST_GROUPS: Final = 2000  # of all pages together, about half a kilobyte each

Question: TypeAlias = tuple[tuple[str, ...], str | None, str | None, int]
Page: TypeAlias = tuple[list[Counted], str | None]


class KeptCounts:
    """The pages of one process. Any thread may ask.

    The mark is read in the transaction that adds up, so a page is never told as newer than it is. Of pages
    that do not fit, the ones asked for longest ago go first.
    """

    def __init__(self, *, most_groups: int = MOST_GROUPS) -> None:
        self._most_groups = most_groups
        self._lock = threading.Lock()
        self._mark = -1
        self._pages: OrderedDict[Question, Page] = OrderedDict()

    def grouped(self, session: Session, asked: CountQuery, *, cursor: str | None, limit: int) -> Page:
        """What `success_counts.grouped` says, with its errors; nobody may change the list."""
        if asked.since is not None or asked.until is not None:  # counted from episodes, by their times
            return success_counts.grouped(session, asked, cursor=cursor, limit=limit)
        question = (tuple(asked.by), asked.lineage, cursor, limit)
        mark = success_marks.changes(session)
        with self._lock:
            if mark == self._mark and (page := self._pages.get(question)) is not None:
                self._pages.move_to_end(question)
                return page
        page = success_counts.grouped(session, asked, cursor=cursor, limit=limit)
        with self._lock:
            self._keep(mark, question, page)
        return page

    def _keep(self, mark: int, question: Question, page: Page) -> None:
        if mark != self._mark:  # also an older one, of a transaction that began before: nothing gets wrong
            self._pages.clear()
            self._mark = mark
        self._pages[question] = page
        while sum(len(groups) for groups, _ in self._pages.values()) > self._most_groups:
            self._pages.popitem(last=False)
