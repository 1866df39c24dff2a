"""Pictures that people send: two formats, a few sizes, and nothing of a file but its pixels."""

import base64
import io
import random

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from daemon.worlds.errors import PictureUnusable
from daemon.worlds.pictures import MOST_BYTES, MOST_SIDE, picture_of_bytes, picture_of_text, pixels_of

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray = PIXELS, *, as_a: str = "PNG", mode: str | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(buffer, format=as_a, **options)
    return buffer.getvalue()


def test_a_png_keeps_every_pixel():
    picture = picture_of_text(base64.b64encode(encoded()).decode())
    assert (picture.width, picture.height) == (64, 48)
    assert np.array_equal(pixels_of(picture.png), PIXELS)


def test_a_jpeg_is_read_too():
    smooth = np.full((48, 64, 3), (200, 30, 90), np.uint8)
    picture = picture_of_bytes(encoded(smooth, as_a="JPEG", quality=95))
    assert np.abs(pixels_of(picture.png).astype(int) - smooth).max() < 12


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_other_kinds_of_pixels_become_colours(mode):
    assert pixels_of(picture_of_bytes(encoded(mode=mode)).png).shape == (48, 64, 3)


def test_what_else_was_in_the_file_is_gone():
    noted = PngImagePlugin.PngInfo()
    noted.add_text("author", "somebody at home")
    assert b"somebody" in encoded(pnginfo=noted)
    assert b"somebody" not in picture_of_bytes(encoded(pnginfo=noted)).png


def test_equal_pixels_are_equal_bytes():
    assert picture_of_bytes(encoded()).png == picture_of_bytes(encoded(compress_level=0)).png


@pytest.mark.parametrize("as_a", ["GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_another_format_is_refused(as_a):
    with pytest.raises(PictureUnusable, match="expected a whole PNG or JPEG"):
        picture_of_bytes(encoded(as_a=as_a))


@pytest.mark.parametrize("text", ["", "a", "no base64!", "ä" * 8, "data:image/png;base64,AAAA"])
def test_what_is_no_base64_is_refused(text):
    with pytest.raises(PictureUnusable):
        picture_of_text(text)


@pytest.mark.parametrize("as_a", ["PNG", "JPEG"])
def test_whatever_is_cut_off_or_altered_is_read_or_refused_and_nothing_else(as_a):
    whole, chance = encoded(as_a=as_a), random.Random(1)
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        with pytest.raises(PictureUnusable):
            picture_of_bytes(whole[:length])
    for _ in range(200):
        altered = bytearray(whole)
        for _ in range(chance.randrange(1, 8)):
            altered[chance.randrange(len(altered))] = chance.randrange(256)
        try:
            picture = picture_of_bytes(bytes(altered))
        except PictureUnusable:
            continue
        assert max(picture.width, picture.height) <= MOST_SIDE


def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded():
    header = encoded(np.zeros((1, 1, 3), np.uint8))
    for side in (MOST_SIDE + 1, 10_000, 20_000, 2**31 - 1):
        bomb = header[:16] + side.to_bytes(4, "big") * 2 + header[24:]
        with pytest.raises(PictureUnusable):
            picture_of_bytes(bomb)
    wide = encoded(np.zeros((1, MOST_SIDE + 1, 3), np.uint8))
    with pytest.raises(PictureUnusable, match=f"sides of 1 to {MOST_SIDE} pixels, found {MOST_SIDE + 1} x 1"):
        picture_of_bytes(wide)


def test_more_bytes_than_a_picture_has_are_not_looked_at():
    with pytest.raises(PictureUnusable, match=f"at most {MOST_BYTES} bytes"):
        picture_of_bytes(encoded() + bytes(MOST_BYTES))
