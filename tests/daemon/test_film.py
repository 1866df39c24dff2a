"""Films come from a process of their own and are the same; the API's process never has the codecs."""

import subprocess
import sys

import numpy as np
import pytest

from daemon.film import film_of
from daemon.video import encode_video


def some_frames(count):
    return np.random.default_rng(1).integers(0, 256, size=(count, 32, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 4])
def test_a_film_is_the_one_that_the_codec_makes_here(count):
    frames = some_frames(count)
    assert film_of(frames, frames_per_s=5.0) == encode_video(frames, frames_per_s=5.0)


def test_frames_that_do_not_lie_one_after_the_other_are_filmed_as_they_are_seen():
    frames = some_frames(6)[::2]
    assert film_of(frames, frames_per_s=2.5) == encode_video(frames.copy(), frames_per_s=2.5)


def test_frames_that_cannot_be_encoded_are_an_error_and_not_an_empty_film():
    with pytest.raises(subprocess.CalledProcessError):
        film_of(np.zeros((2, 31, 31, 3), np.uint8), frames_per_s=5.0)


def test_the_api_loads_no_codecs():
    script = "import daemon.app, sys; sys.stdout.write(str('av' in sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found == "False"
