"""Frames in, an mp4 that every browser plays out, the same bytes every time. No store, no HTTP.

As a process (`python -m daemon.video`) it reads a line of JSON and raw frames, see `film`, and writes the mp4
to its output.
"""

import json
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from storage.interchange.video import STEADY


def encode_video(frames: NDArray[np.uint8], *, frames_per_s: float) -> bytes:
    """Encode frames [N, H, W, 3] as h264 (yuv420p, so H and W are even) with the index in front."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"  # a file, because moving the index to the front reads it back
        _write(path, frames, rate=Fraction(frames_per_s).limit_denominator(1000))
        return path.read_bytes()


def _write(path: Path, frames: NDArray[np.uint8], rate: Fraction) -> None:
    height, width = frames.shape[1:3]
    with av.open(str(path), mode="w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast", "x264-params": STEADY}
        stream.thread_count = 1
        for frame in frames:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
            )
        container.mux(stream.encode())


def main() -> None:
    """Encode what standard input holds to standard output."""
    header = json.loads(sys.stdin.buffer.readline())
    frames = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(header["shape"])
    sys.stdout.buffer.write(encode_video(frames, frames_per_s=header["frames_per_s"]))


if __name__ == "__main__":
    main()
