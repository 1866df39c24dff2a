import io

import av
import numpy as np

from daemon.video import encode_video
from tests.storage.interchange.laboratory import rubbish


def a_film(count: int = 8) -> np.ndarray:
    """A bright square that walks right, 16 pixels per frame, over grey."""
    frames = np.full((count, 128, 160, 3), 90, np.uint8)
    for index in range(count):
        frames[index, 40:72, 16 * index : 16 * index + 32] = (230, 40, 40)
    return frames


def decoded(film: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(film)) as container:
        return list(container.decode(video=0))


def test_every_frame_comes_back_in_order_and_nearly_as_it_was():
    frames = a_film()
    back = [frame.to_ndarray(format="rgb24") for frame in decoded(encode_video(frames, frames_per_s=5.0))]
    assert len(back) == len(frames)
    for given, got in zip(frames, back, strict=True):
        assert np.abs(given.astype(int) - got.astype(int)).mean() < 4.0


def test_the_film_runs_at_the_speed_of_the_robot():
    times = [float(frame.time) for frame in decoded(encode_video(a_film(), frames_per_s=5.0))]
    np.testing.assert_allclose(np.diff(times), 0.2, atol=1e-6)


def test_browsers_can_play_it_before_it_is_loaded_whole():
    film = encode_video(a_film(), frames_per_s=5.0)
    assert film.index(b"moov") < film.index(b"mdat")
    with av.open(io.BytesIO(film)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (160, 128)


def test_a_single_frame_is_a_film():
    assert len(decoded(encode_video(a_film(1), frames_per_s=5.0))) == 1


def test_a_film_is_the_same_bytes_every_time_because_players_fetch_it_in_parts():
    """With x264's mbtree about three in ten differed, by what else was in memory."""
    random, kept, frames = np.random.default_rng(0), list[np.ndarray](), a_film()[:, :96, :96]
    films = set()
    for _ in range(60):
        kept[:] = rubbish(random)
        films.add(encode_video(frames, frames_per_s=5.0))
    assert len(films) == 1
