"""Notes by keyboard: a key leads to the field, and while somebody types there no key judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.chromium import Look

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TEXT = "snags, frays, unusual noise: w"  # begins with, and has, every letter that is a key


@pytest.fixture
def page(look_at: Any, daemon: Any) -> Page:
    opened: Page = look_at(Look())
    opened.goto(daemon.episode)
    return opened


def rows(page: Page, of: str) -> Any:
    return page.get_by_role("region", name=of).locator("tbody tr")


def has_focus(page: Page) -> bool:
    return bool(page.get_by_label("What you saw").evaluate("(field) => field === document.activeElement"))


def test_a_note_is_written_by_keyboard_alone_and_judges_nothing(page, daemon) -> None:
    labels = rows(page, "Labels").all_inner_texts()
    page.keyboard.press("w")
    assert has_focus(page)
    page.keyboard.type(TEXT)
    assert page.get_by_label("What you saw").input_value() == TEXT, "the w that led here is not in it"
    page.keyboard.press("Enter")
    rows(page, "Notes").filter(has_text=TEXT).wait_for()
    assert page.url.endswith(daemon.episode), "no key led to another episode"
    assert rows(page, "Labels").all_inner_texts() == labels


def test_who_leaves_the_field_judges_by_keyboard_again(page) -> None:
    before = rows(page, "Labels").count()
    page.keyboard.press("w")
    page.keyboard.type("s")
    page.keyboard.press("Escape")
    assert not has_focus(page)
    page.keyboard.press("s")
    rows(page, "Labels").nth(before).wait_for()
    assert rows(page, "Labels").count() == before + 1
    assert rows(page, "Notes").filter(has_text="ann").count() <= 1, "what was not sent is no note"


def test_a_page_without_scripts_takes_a_note_too(browser, daemon, session) -> None:
    context = browser.new_context(base_url=daemon.url, storage_state=session, java_script_enabled=False)
    page = context.new_page()
    page.goto(daemon.episode)
    page.get_by_label("What you saw").fill("without a script")
    page.get_by_role("button", name="Keep the note").click()
    rows(page, "Notes").filter(has_text="without a script").wait_for()
    context.close()
