"""Debian's chromium, driven by playwright: for the browser tests and for the pictures in the documents.

Playwright's own browsers are not used: they are fetched from elsewhere when one is first started.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from playwright.sync_api import StorageState as Session

CHROMIUM: Final = Path("/usr/bin/chromium")
FLAGS: Final = (
    "--no-sandbox",  # as root there is none; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # containers have 64 MB of it
)
START_MS: Final = 180_000  # a machine that trains on all its cores starts it in a minute
PATIENCE_MS: Final = 120_000  # with a page of such a machine
LOOK_EVERY_MS: Final = 50
WINDOW_IS_SEEN: Final = """[...document.images].every((image) => {
  const box = image.getBoundingClientRect();
  return image.complete || box.bottom < 0 || box.top > innerHeight;
})"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How somebody looks at a page: the window in CSS pixels, and light or dark."""

    width: int = 1440
    height: int = 900
    scheme: Literal["light", "dark"] = "light"


PLAIN: Final = Look()


def missing() -> str | None:
    """What is not here and would be needed, and how to get it; None where nothing is missing."""
    if importlib.util.find_spec("playwright") is None:
        return "no playwright here: it is in the extra `dev`"
    if not CHROMIUM.exists():
        return f"no {CHROMIUM} here: it is Debian's package chromium"
    return None


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window, for the length of a with block; `missing` must have nothing to say.

    While it is there, the thread that asked for it runs an event loop: nothing else may begin one in it.
    """
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - an extra, asked for by `missing`

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=START_MS)
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Browser, url: str, *, look: Look = PLAIN, session: Session | None = None) -> Page:
    """An empty page in a context of its own, with the daemon's address before every path.

    Args:
        session: what `log_in` gave; None is somebody whom nobody knows.
    """
    context = browser.new_context(
        base_url=url,
        color_scheme=look.scheme,
        viewport={"width": look.width, "height": look.height},
        storage_state=session,
    )
    context.set_default_timeout(PATIENCE_MS)
    return context.new_page()


def log_in(page: Page, token: str) -> Session:
    """Show a token at the login page; gives the session, for other contexts that are to have it."""
    page.goto("/login")
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Now", exact=True).wait_for()
    return page.context.storage_state()


def see_pictures(page: Page) -> None:
    """Wait until every picture in the window has come, or has failed to; others may be fetched when seen.

    It asks again and again, as a condition that the page itself watches would need `unsafe-eval`.
    """
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(WINDOW_IS_SEEN):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{page.url}: its pictures did not come within {PATIENCE_MS} ms")
        page.wait_for_timeout(LOOK_EVERY_MS)
