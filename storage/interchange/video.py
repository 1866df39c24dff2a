"""Pictures into an mp4 one by one, several mp4 into one, and pictures back out by their place in time."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from storage.interchange.errors import DatasetInvalid

U8: TypeAlias = NDArray[np.uint8]

PIXEL_FORMAT: Final = "yuv420p"
CODEC: Final = "libx264"
STEADY: Final = "mbtree=0"  # for x264, whose bytes change with what else is in memory where mbtree is on
ENCODER: Final = f"{CODEC} {STEADY}, PyAV {av.__version__}, libavcodec {av.library_versions['libavcodec']}"
LEVELS: Final = 3.0  # mean error per channel, of 255, that camera pictures keep below; a test holds it
OFF_S: Final = 0.01  # how far a picture may be from its time


class VideoWriter:
    """One mp4 of h264 4:2:0 with a key frame every `keyframes` pictures; `size` is W and H, both even."""

    def __init__(self, path: Path, *, size: tuple[int, int], fps: int, crf: int, keyframes: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container: Any = av.open(str(path), mode="w", options={"movflags": "faststart"})
        self._stream = self._container.add_stream(CODEC, rate=Fraction(fps))
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = PIXEL_FORMAT
        self._stream.options = {
            "crf": str(crf),
            "preset": "veryfast",
            "bf": "0",
            "g": str(keyframes),
            "x264-params": STEADY,
        }
        self._stream.thread_count = 1
        self.count = self.bytes = 0  # pictures taken, and what they came to so far

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, picture: U8) -> None:
        """The next picture, uint8 [H, W, 3] RGB."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._write(self._stream.encode(frame))
        self.count += 1

    def close(self) -> None:
        """Finish the file."""
        if self.count:
            self._write(self._stream.encode())
        self._container.close()

    def _write(self, packets: Any) -> None:
        self.bytes += sum(packet.size for packet in packets)
        self._container.mux(packets)


class VideoJoiner:
    """One mp4 of several that one encoder made with one setting, one after the other; nothing is encoded."""

    def __init__(self, path: Path, *, fps: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._joined: Any = av.open(str(path), mode="w", format="mp4", options={"movflags": "faststart"})
        self._stream: Any = None
        self._fps, self._at = fps, 0  # in ticks

    def add(self, path: Path) -> None:
        """Every picture of another one."""
        with av.open(str(path)) as container:
            source = container.streams.video[0]
            self._stream = self._stream or self._joined.add_stream_from_template(source)
            step = round(1 / (self._fps * source.time_base))
            for packet in container.demux(source):
                if packet.size:  # the last one is empty and ends the stream
                    packet.pts = packet.dts = self._at  # there are no pictures that come out of turn
                    packet.duration, packet.stream = step, self._stream
                    self._joined.mux(packet)
                    self._at += step

    def close(self) -> None:
        """Finish the file."""
        self._joined.close()


def read_pictures(path: Path, *, start_s: float, count: int, fps: int) -> U8:
    """`count` pictures [count, H, W, 3] RGB from `start_s` on, each at its own time.

    Raises:
        DatasetInvalid: no whole video, another rate, or a picture is missing.
    """
    try:
        with av.open(str(path)) as container:
            stream = _stream_of(path, container, fps=fps)
            container.seek(max(0, int((start_s - OFF_S) / stream.time_base)), stream=stream)
            timed = ((float(frame.time), frame) for frame in container.decode(stream))
            found = _in_time(timed, start_s=start_s, count=count, fps=fps)
    except (av.error.FFmpegError, OSError) as error:
        raise DatasetInvalid(path=path, expected="a whole video", found=str(error)) from error
    if len(found) != count:
        expected = f"{count} pictures from {start_s:.1f} s on"
        raise DatasetInvalid(path=path, expected=expected, found=f"{len(found)} of them")
    return np.stack(found)


def _stream_of(path: Path, container: Any, *, fps: int) -> Any:
    if not container.streams.video:
        raise DatasetInvalid(path=path, expected="a video stream", found="none")
    stream = container.streams.video[0]
    if stream.average_rate != fps:
        found = f"{stream.average_rate} frames per second"
        raise DatasetInvalid(path=path, expected=f"{fps} frames per second", found=found)
    return stream


def _in_time(timed: Iterator[tuple[float, Any]], *, start_s: float, count: int, fps: int) -> list[U8]:
    """Up to `count` pictures that come when they should; the first one that does not ends it."""
    found: list[U8] = []
    for instant, frame in timed:
        late = instant - (start_s + len(found) / fps)
        if late > OFF_S:
            break
        if late >= -OFF_S:
            found.append(frame.to_ndarray(format="rgb24"))
        if len(found) == count:
            break
    return found
