"""The pictures in the documents: those that are named are there, whole, and together small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from daemon.dashboard.page import PAGES as BAR
from tests.architecture.documents import PAGES, ROOT

IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 3_000_000  # of all of them
OF_THE_DASHBOARD = {*(name.lower() for _, name in BAR), "iteration", "episode", "whatif", "rollouts", "login"}
WIDTHS = (390, 1440)


def pictures_of(page: str) -> list[Path]:
    """Files that a page shows as pictures, whichever way it says so."""
    named = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"", PAGES[page])
    return [(ROOT / page).parent / (one or other) for one, other in named]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_names_only_pictures_that_are_there_and_says_what_they_show(page: str) -> None:
    assert [path.name for path in pictures_of(page) if not path.is_file()] == []
    assert re.search(r"!\[\s*\]", PAGES[page]) is None


def test_the_pages_that_people_see_have_pictures() -> None:
    shown = {path.name.partition("-")[0] for path in pictures_of("docs/dashboard.md")}
    assert shown == OF_THE_DASHBOARD


def test_there_is_every_page_wide_and_on_a_phone_light_and_dark_and_no_other_picture() -> None:
    wanted = {
        f"{name}-{width}-{scheme}.jpg"
        for name in OF_THE_DASHBOARD
        for width in WIDTHS
        for scheme in ("light", "dark")
    }
    assert {path.name for path in IMAGES.iterdir()} == wanted


def test_pictures_are_whole_as_wide_as_they_say_and_together_small() -> None:
    for path in IMAGES.iterdir():
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "JPEG"
            assert picture.width == int(path.stem.split("-")[1])
    assert sum(path.stat().st_size for path in IMAGES.iterdir()) <= MOST_BYTES
