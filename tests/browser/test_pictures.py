"""The command that takes the documents' pictures: one of every page, of the size that its name says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from benchmarks.chromium import Look, log_in, open_page
from benchmarks.dashboard_pictures import LOOKS, take_all
from tests.architecture.test_pictures import OF_THE_DASHBOARD, WIDTHS
from tests.browser.full_daemon import full_daemon

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_page_is_photographed_light_and_dark(browser: Browser, tmp_path: Path) -> None:
    looks = tuple(Look(width=390, height=400, scheme=scheme) for scheme in ("light", "dark"))
    (tmp_path / "data").mkdir()
    with full_daemon(tmp_path / "data") as daemon:
        session = log_in(open_page(browser, daemon.url), daemon.token)
        taken = take_all(browser, daemon.url, session=session, out=tmp_path / "images", looks=looks)
    assert taken == 2 * len(OF_THE_DASHBOARD)
    for name in OF_THE_DASHBOARD:
        light, dark = (
            np.asarray(Image.open(tmp_path / "images" / f"{name}-390-{scheme}.jpg"))
            for scheme in ("light", "dark")
        )
        assert light.shape == dark.shape == (400, 390, 3)
        assert np.median(light) > 200
        assert np.median(dark) < 60


def test_the_documents_have_wide_pictures_and_those_of_a_phone_light_and_dark() -> None:
    assert {(look.width, look.scheme) for look in LOOKS} == {
        (width, scheme) for width in WIDTHS for scheme in ("light", "dark")
    }
