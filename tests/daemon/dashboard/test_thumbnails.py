"""Episodes at a glance: the right pictures, in their order, small."""

import io

import numpy as np
import pytest
from PIL import Image

from daemon.dashboard.thumbnails import SIDE, thumbnail
from robot_bridge.errors import FramesCorrupt
from robot_bridge.frames import FrameBlob, encode_jpeg
from storage.tables import EpisodeRow
from tests.daemon.conftest import build_episode

GREYS = (10, 60, 110, 160, 210)


def grey_film(*levels, height=64, width=64):
    return FrameBlob.of_images(np.stack([np.full((height, width, 3), grey, np.uint8) for grey in levels]))


def looked_at(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)))


@pytest.mark.parametrize(
    ("levels", "shown"),
    [(GREYS, (10, 110, 210)), (GREYS[:2], (10, 10, 60)), (GREYS[:1], (10, 10, 10))],
)
def test_the_first_the_middle_and_the_last_picture_stand_in_a_row(levels, shown):
    row = looked_at(thumbnail(grey_film(*levels)))
    assert row.shape == (SIDE, 3 * SIDE, 3)
    middles = [row[SIDE // 2, place * SIDE + SIDE // 2, 0] for place in range(3)]
    assert np.allclose(middles, shown, atol=3)


def test_pictures_keep_their_shape():
    row = looked_at(thumbnail(grey_film(*GREYS, height=60, width=120)))
    assert row.shape == (SIDE, 3 * 2 * SIDE, 3)


def test_a_page_of_them_is_far_lighter_than_the_pictures_themselves():
    chance = np.random.default_rng(0)
    film = FrameBlob.of_images(chance.integers(0, 255, (9, 256, 256, 3), dtype=np.uint8))
    assert len(thumbnail(film)) * 10 < sum(len(film.jpeg(index)) for index in (0, 4, 8))


def test_a_picture_that_is_none_is_named():
    broken = encode_jpeg(np.zeros((64, 64, 3), np.uint8))[:200]
    with pytest.raises(FramesCorrupt, match="picture"):
        thumbnail(FrameBlob.of_jpegs([broken], width=64, height=64))


@pytest.mark.usefixtures("laboratory")
def test_the_list_shows_them_and_an_episode_without_files_has_none(browser, database, now):
    built = build_episode(10, steps=6)
    path = f"/episodes/{built.manifest.episode_id}/thumbnail.jpg"
    assert browser.page("/episodes").all("img", src=path)
    answer = browser.get(path)
    assert (answer.content, answer.headers["content-type"]) == (thumbnail(built.frames), "image/jpeg")
    with database.write() as session:
        session.get(EpisodeRow, built.manifest.episode_id).retired_at = now
    assert browser.get(path).status_code == 410
    assert not browser.page("/episodes").all("img", src=path)
    assert browser.get("/episodes/nobody/thumbnail.jpg").status_code == 404
