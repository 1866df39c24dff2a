"""Every page in a real browser: for whoever does not see or point well, on a phone, over a thin line."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from benchmarks.chromium import Look, see_pictures

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

VENDOR = Path(__file__).parent / "vendor"
AXE = VENDOR / "axe.min.js"
REFUSED = {"serious", "critical"}  # of axe's four grades
MOST_BYTES = 200_000  # of one page, films left out
PHONE = 390  # CSS pixels
CAME_BY_STREAM = {"media", "eventsource"}


def see(page: Page, path: str) -> None:
    """Go to a page and down to its end, window by window, so that everything in it comes."""
    page.goto(path)
    assert urlsplit(page.url).path == path, "it is not another page that is looked at, such as the login"
    height, window = page.evaluate("[document.documentElement.scrollHeight, innerHeight]")
    for top in range(0, height, window):
        page.evaluate("(top) => window.scrollTo(0, top)", top)
        see_pictures(page)


def violations(page: Page) -> list[str]:
    """What axe refuses: the rule, and where."""
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['impact']}: {one['id']}: {', '.join(str(node['target']) for node in one['nodes'][:3])}"
        for one in found["violations"]
        if one["impact"] in REFUSED
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_fault_for_people_who_see_or_point_badly(look_at, daemon, scheme) -> None:
    page, found = look_at(Look(scheme=scheme)), {}
    for path in daemon.paths:
        see(page, path)
        page.evaluate(AXE.read_text() + "; 0")  # from outside of the page: its own rules allow no script
        found[path] = violations(page)
    assert found == {path: [] for path in daemon.paths}


def test_axe_would_find_what_is_wrong(look_at) -> None:
    page = look_at(Look())
    page.set_content("<html><body><img src='x.png'><input><p style='color: #eee'>faint</p></body></html>")
    page.evaluate(AXE.read_text() + "; 0")
    rules = {found.split(": ")[1] for found in violations(page)}
    assert {"image-alt", "label", "color-contrast", "html-has-lang"} <= rules


def test_no_page_scrolls_sideways_on_a_phone(look_at, daemon) -> None:
    page, widths = look_at(Look(width=PHONE, height=844)), {}
    for path in daemon.paths:
        see(page, path)
        widths[path] = page.evaluate("document.documentElement.scrollWidth")
    assert widths == dict.fromkeys(daemon.paths, PHONE)


def test_no_page_weighs_more_than_a_thin_line_carries(look_at, daemon) -> None:
    weights = {}
    for path in daemon.paths:
        page = look_at(Look())  # whose browser has seen nothing yet
        came: list[Response] = []
        page.on("response", lambda answer, came=came: came.append(answer))
        see(page, path)
        weights[path] = sum(map(weight, came))
    assert {path: size for path, size in weights.items() if not 1_000 < size <= MOST_BYTES} == {}
    assert weights["/episodes"] > 3 * weights["/login"], "the pictures are counted"


def weight(response: Response) -> int:
    """Bytes of one answer as they came, its head among them."""
    if response.request.resource_type in CAME_BY_STREAM:
        return 0
    response.finished()
    sizes = response.request.sizes()
    return int(sizes["responseHeadersSize"] + sizes["responseBodySize"])


def test_pages_say_nothing_to_the_console_and_miss_no_file(look_at, daemon) -> None:
    page, complaints = look_at(Look()), []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for path in daemon.paths:
        if path != "/iterations/99":  # whose status is an error, as it should be
            see(page, path)
    assert complaints == []


def test_axe_is_the_file_that_its_note_names() -> None:
    note = (VENDOR / "ORIGIN.txt").read_text()
    sha256 = re.search(r"^sha256 +(\w{64})  axe\.min\.js$", note, re.MULTILINE)
    version = re.search(r"^version +(\S+)$", note, re.MULTILINE)
    text = AXE.read_bytes()
    assert sha256 is not None
    assert version is not None
    assert hashlib.sha256(text).hexdigest() == sha256[1]
    assert f"axe v{version[1]}".encode() in text[:100]
    assert "Mozilla Public License" in (VENDOR / "LICENSE").read_text()
