"""An episode at a glance: first, middle and last picture side by side, a few kilobytes instead of forty."""

import io

from PIL import Image

from robot_bridge.frames import FrameBlob

SIDE = 112  # pixels of each picture: what a card of the list has room for
SHOWN = 3
QUALITY = 70


def thumbnail(frames: FrameBlob) -> bytes:
    """A JPEG of `SHOWN` pictures in a row, each as high as `SIDE`; the last is the last frame.

    Raises:
        FramesCorrupt: one of the pictures is none.
    """
    picked = [round(place * (len(frames) - 1) / (SHOWN - 1)) for place in range(SHOWN)]
    width = max(1, round(SIDE * frames.width / frames.height))
    row = Image.new("RGB", (SHOWN * width, SIDE))
    for place, index in enumerate(picked):
        small = Image.fromarray(frames.decode(index)).resize((width, SIDE), Image.Resampling.BOX)
        row.paste(small, (place * width, 0))
    file = io.BytesIO()
    row.save(file, format="JPEG", quality=QUALITY)
    return file.getvalue()
