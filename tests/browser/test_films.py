"""Films and curves are one: where the film is, the line in every curve stands, and the other way round."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.chromium import LOOK_EVERY_MS, PATIENCE_MS, Look
from tests.browser.full_daemon import ROLLOUTS, STEPS

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Where each line stands within its curve, from 0 at the left to 1 at the right.
PLACES = """(around) => [...around.querySelectorAll("[data-cursor]")].map((line) =>
  (line.getAttribute("x1") - line.dataset.from) / (line.dataset.to - line.dataset.from))"""
# Where on the screen this share of a curve is.
POINT = """(line, share) => {
  const svg = line.ownerSVGElement, box = svg.getBoundingClientRect();
  const x = Number(line.dataset.from) + share * (line.dataset.to - line.dataset.from);
  return x / svg.viewBox.baseVal.width * box.width;
}"""


@pytest.fixture
def page(look_at) -> Page:
    return look_at(Look())


def until(page: Page, ask: Callable[[], Any], wanted: Any) -> None:
    """Wait until the answer is what is wanted; a page that watches itself would need `unsafe-eval`."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while (found := ask()) != wanted:
        assert time.monotonic() < deadline, f"expected {wanted}, found {found}"
        page.wait_for_timeout(LOOK_EVERY_MS)


def ready(film: Locator) -> float:
    """Wait until a film can be moved in; gives its length in seconds."""
    film.scroll_into_view_if_needed()
    until(film.page, lambda: film.evaluate("(film) => film.readyState > 0 && film.seekable.length > 0"), True)
    return float(film.evaluate("(film) => film.duration"))


def seek(film: Locator, share: float) -> None:
    film.evaluate("(film, share) => { film.currentTime = share * film.duration; }", share)


def test_seeking_in_an_episode_moves_every_line_and_says_which_step_it_is(page, daemon) -> None:
    page.goto(daemon.episode)
    film, caption = page.locator("video"), page.locator("[data-step]")
    length = ready(film)
    assert length == pytest.approx((STEPS + 1) / 5.0, abs=0.3)
    assert caption.inner_text() == f"{STEPS} steps"
    main = page.locator("main")
    for share, step in ((0.5, 20), (0.25, 10), (0.95, 38)):
        seek(film, share)
        until(page, caption.inner_text, f"step {step} of {STEPS}")
        places = main.evaluate(PLACES)
        assert len(places) == page.locator("svg.chart").count() > 10
        assert places == pytest.approx([share] * len(places), abs=0.01)


def test_a_click_on_any_curve_takes_the_film_there(page, daemon) -> None:
    page.goto(daemon.episode)
    film, caption = page.locator("video"), page.locator("[data-step]")
    length = ready(film)
    for place, share, step in ((0, 0.75, 30), (5, 0.25, 10)):
        click(page.locator("svg.chart").nth(place), share)
        until(page, caption.inner_text, f"step {step} of {STEPS}")
        assert film.evaluate("(film) => film.currentTime") == pytest.approx(share * length, abs=0.1)
        places = page.locator("main").evaluate(PLACES)
        assert places == pytest.approx([share] * len(places), abs=0.02)


def test_a_click_beside_a_curve_takes_the_film_to_its_end_and_not_beyond(page, daemon) -> None:
    page.goto(daemon.episode)
    film = page.locator("video")
    length = ready(film)
    seek(film, 0.5)
    page.locator("svg.chart").first.click(position={"x": 2, "y": 40})  # where the numbers stand
    until(page, lambda: film.evaluate("(film) => film.currentTime"), 0)
    assert film.evaluate("(film) => film.duration") == length


def test_each_rollout_of_a_what_if_follows_its_own_film(page, daemon) -> None:
    page.goto(daemon.what_if)
    rollouts = page.locator("[data-film]")
    assert rollouts.count() == ROLLOUTS
    second = rollouts.nth(1)
    ready(second.locator("video"))
    seek(second.locator("video"), 0.5)
    until(page, second.locator("[data-step]").inner_text, f"step {STEPS // 2} of {STEPS}")
    assert second.evaluate(PLACES) == pytest.approx([0.5], abs=0.01)
    assert page.locator("main").evaluate(PLACES).count(0) == ROLLOUTS - 1
    click(second.locator("svg.chart"), 0.25)
    until(page, second.locator("[data-step]").inner_text, f"step {STEPS // 4} of {STEPS}")
    assert rollouts.first.locator("[data-step]").inner_text() == f"{STEPS} steps"


def click(curve: Locator, share: float) -> None:
    """Click where this share of a curve is, from 0 at its left to 1 at its right."""
    curve.scroll_into_view_if_needed()
    x = curve.locator("[data-cursor]").evaluate(POINT, share)
    curve.click(position={"x": x, "y": 100})
