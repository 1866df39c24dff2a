"""An episode's film, encoded in a process of its own: the codecs' 20 MB never enter the API's process.

A codec that crashes takes one answer with it and nothing else.
"""

import json
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray

TIMEOUT_S = 120.0  # an hour of film at 5 Hz takes about 20 s


def film_of(frames: NDArray[np.uint8], *, frames_per_s: float) -> bytes:
    """Encode frames [N, H, W, 3] as `video.encode_video` does."""
    header = json.dumps({"shape": frames.shape, "frames_per_s": frames_per_s}).encode() + b"\n"
    done = subprocess.run(
        [sys.executable, "-m", "daemon.video"],
        input=header + np.ascontiguousarray(frames).tobytes(),
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=True,
    )
    return done.stdout
