"""How fast training windows come out of the replay store: mapped caches beside decoding the JPEG blobs.

    python -m benchmarks.replay_sampling

Episodes are stored as they are from a station, JPEGs in a blob. A batch is 16 windows of 16 frames: decoded
from the blobs, copied from the mapped cache of decoded 256 x 256 pictures, and drawn from the mapped cache of
nano latents as finetuning draws them. Frames per second are of processor time. Then the caches are damaged,
and must be made again from the blobs, byte for byte.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from daemon.learning.batch import Clip, window_starts, windows
from daemon.learning.world_model.latents import LatentClip, LatentClips
from daemon.learning.world_model.model import nano_world_model
from daemon.learning.world_model.windows import Pool, WindowSource
from daemon.phases.clips import shrunk
from robot_bridge.frames import FrameBlob, encode_frames
from storage.array_cache import ArrayCache
from storage.blobs import BlobStore

WINDOWS, FRAMES = 16, 16
STEPS = 40
SIDE = 256


def pictures(seed: int) -> NDArray[np.uint8]:
    """An episode of a textured square that moves over a gradient, uint8 [T + 1, 256, 256, 3]."""
    rng = np.random.default_rng(seed)
    ground = np.add.outer(np.arange(SIDE), np.arange(SIDE))[..., None] // 3 + np.array([10, 40, 70])
    square = rng.integers(0, 256, (48, 48, 3))
    frames = np.repeat(ground[None], STEPS + 1, axis=0)
    for at, frame in enumerate(frames):
        frame[40 + at : 88 + at, 60 + 2 * at : 108 + 2 * at] = square
    return np.clip(frames + rng.normal(0, 3, frames.shape), 0, 255).astype(np.uint8)


def rate(draw: Callable[[], object], *, rounds: int) -> float:
    """Frames per processor second; one round goes before, so that files are mapped."""
    draw()
    began = time.process_time()
    for _ in range(rounds):
        draw()
    return rounds * WINDOWS * FRAMES / (time.process_time() - began)


def decoding(blobs: list[FrameBlob], generator: torch.Generator) -> Callable[[], object]:
    lengths = [len(blob) for blob in blobs]

    def draw() -> NDArray[np.uint8]:
        starts = window_starts(lengths, batch=WINDOWS, frames=FRAMES, generator=generator).tolist()
        return np.stack([np.stack([blobs[i].decode(at + f) for f in range(FRAMES)]) for i, at in starts])

    return draw


def mapped_pictures(decoded: list[NDArray[np.uint8]], generator: torch.Generator) -> Callable[[], object]:
    clips = [
        Clip(
            frames=torch.from_numpy(frames),
            actions=torch.zeros(STEPS, 7),
            instruction="open the drawer",
            episode_id=str(number),
        )
        for number, frames in enumerate(decoded)
    ]
    buffer = torch.empty(WINDOWS, FRAMES, 3, SIDE, SIDE, dtype=torch.uint8)
    return partial(windows, clips, batch=WINDOWS, frames=FRAMES, generator=generator, out=buffer)


def mapped_latents(latents: list[NDArray[np.float16]]) -> Callable[[], object]:
    clips = tuple(
        LatentClip(latents=torch.from_numpy(own), actions=torch.zeros(STEPS, 10), episode_id=str(number))
        for number, own in enumerate(latents)
    )
    pool = Pool(name="fresh", clips=LatentClips(clips))
    return WindowSource([pool], batch=WINDOWS, frames=FRAMES, seed=0).draw


def damaged_and_made_again(
    cache: ArrayCache, kind: str, keys: list[str], make: Callable[[str], object]
) -> int:
    """Cut one file short, flip a byte of another and remove a third; how many come back as they were."""
    files = [cache.root / kind / f"{key}.npy" for key in keys[:3]]
    before = [file.read_bytes() for file in files]
    files[0].write_bytes(before[0][:-1000])
    files[1].write_bytes(before[1][:500] + bytes([before[1][500] ^ 1]) + before[1][501:])
    files[2].unlink()
    fresh = ArrayCache(cache.root)
    for key in keys[:3]:
        fresh.get(kind, key, partial(make, key))  # type: ignore[arg-type]
    return sum(file.read_bytes() == content for file, content in zip(files, before, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    world_model = nano_world_model(seed=0)
    with tempfile.TemporaryDirectory(prefix="gymnastd-") as folder:
        store, cache = BlobStore(Path(folder) / "blobs"), ArrayCache(Path(folder) / "cache")
        keys = [store.put(encode_frames(pictures(seed))) for seed in range(arguments.episodes)]

        def decoded(key: str) -> NDArray[np.uint8]:
            return shrunk(FrameBlob(store.read(key)), SIDE)

        def encoded(key: str) -> NDArray[np.float16]:
            small = torch.from_numpy(shrunk(FrameBlob(store.read(key)), world_model.image_size))
            latents: NDArray[np.float16] = world_model.encode(small).half().numpy()
            return latents

        frames = [cache.get("frames-256", key, partial(decoded, key)) for key in keys]
        latents = [cache.get("latents-nano", key, partial(encoded, key)) for key in keys]
        blobs = [FrameBlob(store.read(key)) for key in keys]
        base = rate(decoding(blobs, generator), rounds=2)
        print(f"{WINDOWS} windows x {FRAMES} frames, {arguments.episodes} episodes, one thread")
        print(f"{'JPEG blobs, 256 x 256':36} {base:10,.0f} frames/CPU s")
        for name, draw in (
            ("mapped pictures, 256 x 256 uint8", mapped_pictures(frames, generator)),
            ("mapped nano latents", mapped_latents(latents)),
        ):
            found = rate(draw, rounds=arguments.rounds)
            print(f"{name:36} {found:10,.0f} frames/CPU s {found / base:8.1f} x")
        for kind, make in (("frames-256", decoded), ("latents-nano", encoded)):
            whole = damaged_and_made_again(cache, kind, keys, make)
            print(f"{kind}: {whole} of 3 damaged files made again, byte for byte")


if __name__ == "__main__":
    main()
