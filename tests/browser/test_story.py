"""A night at the dashboard: a real browser, a daemon with its worker, a simulated robot."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.chromium import log_in, open_page, see_pictures
from benchmarks.dashboard_pictures import fresh_token
from daemon.lab import fresh_lab, servers
from robot_bridge.client import StationClient
from storage.phase_runs import PHASES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EPISODES = 2
SPEC: dict[str, Any] = {
    "seed": 3,
    "steps": 15,
    "tasks": ["open_drawer"],
    "collect": {"episodes_per_task": EPISODES, "held_out_every": 2},
    "world_model": {"updates": 2, "batch": 4},
    "judge": {"updates": 2},
    "policy": {"updates": 1, "groups": 4, "group_size": 2, "epochs": 1},
}
AT_MOST_MS = 600_000  # for the iteration, on a machine that has other things to do
BARS = """() => [...document.querySelectorAll("#iteration progress")].map((bar) => bar.value)"""


def test_somebody_starts_an_iteration_watches_it_looks_at_it_judges_for_themselves_and_stops_the_robot(
    browser: Browser, tmp_path: Path
) -> None:
    lab = fresh_lab(tmp_path)
    token = fresh_token(lab)
    with servers(lab, 5) as (station_url, daemon_url):
        page = open_page(browser, daemon_url)
        is_sent_to_the_login_page(page)
        log_in(page, token)
        starts_an_iteration_from_the_form(page)
        watches_it_finish_without_loading_the_page_again(page)
        sees_real_frames_beside_imagined_ones(page)
        relabels_an_episode_by_keyboard_and_the_success_rate_follows(page)
        presses_the_emergency_stop(page)
        with closing(StationClient(station_url)) as station:
            assert station.status().state == "ESTOPPED"
        page.reload()
        assert page.locator("#stations").get_by_role("alert").is_visible(), "it stays stopped"
        page.context.close()
    assert token not in (lab / "serve.log").read_text()


def is_sent_to_the_login_page(page: Page) -> None:
    page.goto("/")
    assert page.url.endswith("/login")


def starts_an_iteration_from_the_form(page: Page) -> None:
    page.get_by_text("Its spec, as the last iteration had it").click()
    page.get_by_label("Spec, JSON").fill(json.dumps(SPEC))
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("heading", name="Iteration 1").wait_for()


def watches_it_finish_without_loading_the_page_again(page: Page) -> None:
    """The page that is open shows the end; what told it is the stream of events."""
    streams: list[Request] = []
    page.on("request", lambda sent: streams.append(sent) if sent.resource_type == "eventsource" else None)
    page.reload()  # from here on nobody touches it
    page.evaluate("window.nobodyHasLoadedMeAgain = true")
    page.locator("#iteration", has_text="is finished").wait_for(timeout=AT_MOST_MS)
    assert page.evaluate("window.nobodyHasLoadedMeAgain") is True
    assert page.evaluate(BARS) == [1.0] * len(PHASES)
    assert [sent.url.rsplit("/", 3)[1:] for sent in streams][:1] == [["v1", "events", "stream"]]


def sees_real_frames_beside_imagined_ones(page: Page) -> None:
    page.get_by_role("link", name="Imagination").click()
    page.get_by_role("heading", name="Imagination of iteration 1").wait_for()
    for origin in ("Real frames", "Imagined frames"):
        strip = page.get_by_alt_text(origin).first
        strip.scroll_into_view_if_needed()
        see_pictures(page)
        assert strip.evaluate("(image) => image.naturalWidth") > 64


def relabels_an_episode_by_keyboard_and_the_success_rate_follows(page: Page) -> None:
    page.goto("/episodes?iteration=1")
    episode = page.locator('main a[href^="/episodes/"]').first.get_attribute("href")
    assert episode is not None
    counts = {}
    for key, says in (("s", "success"), ("f", "failure"), ("s", "success")):
        press(page, episode, key=key, says=says)
        assert says in counting(page)
        counts[says] = success(page)
    assert counts["success"] - counts["failure"] == 1
    press(page, episode, key="u", says="unknown")
    assert "success" in counting(page), "who cannot tell overrules nobody"
    assert success(page) == counts["success"]


def press(page: Page, episode: str, *, key: str, says: str) -> None:
    """Press a key on an episode's page, and wait until the newest label is what it says."""
    page.goto(episode)
    before = labels(page).count()
    page.keyboard.press(key)
    labels(page).nth(before).wait_for()
    assert labels(page).filter(has_text=says).filter(has_text="human").count() >= 1


def labels(page: Page) -> Any:
    return page.get_by_role("region", name="Labels").locator("tbody tr")


def counting(page: Page) -> str:
    """The label that counts."""
    return labels(page).filter(has_text="counts").inner_text()


def success(page: Page) -> int:
    """Successes of the only task, as the page Progress says them beside its episodes."""
    page.goto("/progress")
    (told,) = page.get_by_role("region", name="Every rate").locator("tbody td:nth-child(4)").all_inner_texts()
    successes, episodes = map(int, told.split(" of "))
    assert episodes == EPISODES
    return successes


def presses_the_emergency_stop(page: Page) -> None:
    page.get_by_role("button", name="Emergency stop").click()
    page.locator("#stations").get_by_text("is stopped").wait_for()
    assert "clear-estop" in page.locator("#stations").get_by_role("alert").inner_text()
