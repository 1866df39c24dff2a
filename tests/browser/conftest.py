"""A real browser, and a full daemon to look at; who has no browser skips these tests and is told why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.chromium import Look, chromium, log_in, missing, open_page
from tests.browser.full_daemon import FullDaemon, full_daemon

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium; of a module, because its event loop is in the way of other tests."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullDaemon]:
    with full_daemon(tmp_path_factory.mktemp("full")) as served:
        yield served


@pytest.fixture(scope="module")
def session(browser: Browser, daemon: FullDaemon) -> Any:
    page = open_page(browser, daemon.url)
    state = log_in(page, daemon.token)
    page.context.close()
    return state


@pytest.fixture
def look_at(browser: Browser, daemon: FullDaemon, session: Any) -> Iterator[Any]:
    """Give somebody who is logged in a page of their own, with this look."""
    opened = []

    def one(look: Look) -> Page:
        opened.append(open_page(browser, daemon.url, look=look, session=session))
        return opened[-1]

    yield one
    for page in opened:
        page.context.close()
