"""Clips out of the store: what a WorldGym world model is trained on, and what the notes save of the rest."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import av
import numpy as np
import pytest

from robot_bridge.conventions import from_world_model_action
from storage.interchange.errors import DatasetInvalid, DatasetUnsealed, EpisodeUnfit
from storage.interchange.exchange import Store, bring_in, send_out
from storage.interchange.seal import unseal
from storage.interchange.worldgym_clips import import_folder, read_clip
from storage.interchange.worldgym_exchange import WorldGymWriter, find_worldgym
from tests.storage.interchange.laboratory import a_store, filled, ids_of, records_of, wanted_of

FEW = 5


@pytest.fixture
def exported(tmp_path: Path, now: datetime) -> tuple[Store, Path]:
    """Five episodes, of which the first and the last are held out."""
    store, folder = filled(tmp_path / "lab", FEW, now=now), tmp_path / "out"
    send_out(store, wanted_of(store), folder=folder, make=WorldGymWriter, now=now)
    return store, folder


def test_held_out_episodes_are_in_test_and_the_others_in_train(exported: tuple[Store, Path]) -> None:
    pairs = sorted(path.relative_to(exported[1]).as_posix() for path in exported[1].glob("t*/*"))
    numbers = {"test": (0, 4), "train": (1, 2, 3)}
    assert pairs == [
        f"{split}/{number:09d}.{suffix}"
        for split, own in numbers.items()
        for number in own
        for suffix in ("mp4", "npz")
    ]


def test_row_i_is_what_moved_the_robot_at_frame_i_and_the_last_row_is_zero(
    exported: tuple[Store, Path],
) -> None:
    for number, record in enumerate(records_of(exported[0]).values()):
        (npz,) = exported[1].glob(f"t*/{number:09d}.npz")
        rows = np.load(npz)["arr_0"]
        assert rows.dtype == np.float32
        assert rows.shape == (record.episode.manifest.T + 1, 10)
        moved = record.episode.steps.executed_action
        np.testing.assert_allclose(from_world_model_action(rows[:-1]), moved, atol=1e-6)
        np.testing.assert_allclose(rows[:-1, 0], moved[:, 0] * 35, rtol=1e-6)
        assert rows[-1].tolist() == [0] * 6 + [-1] + [0] * 3


def test_the_video_has_a_picture_for_every_row_at_20_per_second(exported: tuple[Store, Path]) -> None:
    for mp4 in exported[1].glob("t*/*.mp4"):
        with av.open(str(mp4)) as container:
            assert container.streams.video[0].average_rate == 20
            pictures = sum(1 for _ in container.decode(video=0))
        assert pictures == len(np.load(mp4.with_suffix(".npz"))["arr_0"])


def test_the_importer_of_clips_of_others_reads_them_too(
    exported: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    other = a_store(tmp_path / "other")
    assert import_folder(other.database, other.blobs, exported[1], now=now).added == FEW
    record = next(iter(records_of(exported[0]).values()))
    mp4 = exported[1] / "test/000000000.mp4"
    clip = read_clip(mp4, mp4.with_suffix(".npz"))
    np.testing.assert_allclose(clip.steps.raw_action, record.episode.steps.executed_action, atol=1e-6)


def test_rows_and_pictures_that_are_not_those_of_the_notes_are_refused(
    exported: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    folder, other = exported[1], a_store(tmp_path / "other")
    seal = unseal(folder, expected="worldgym-clips")
    npz = folder / "test/000000000.npz"
    rows = np.load(npz)["arr_0"]
    np.savez(npz, arr_0=rows * np.float32([0.5] * 6 + [1] * 4))
    with pytest.raises(DatasetInvalid, match=r"action .* in row 0, as _gymnastd says"):
        bring_in(other, find_worldgym(folder, seal), folder=folder, now=now)
    np.savez(npz, arr_0=rows)
    (folder / "train/000000001.mp4").replace(folder / "test/000000000.mp4")
    with pytest.raises(DatasetInvalid, match=r"3 pictures, one per row, found 4 pictures"):
        bring_in(other, find_worldgym(folder, seal), folder=folder, now=now)
    (folder / "test/000000000.mp4").unlink()
    with pytest.raises(DatasetInvalid, match="no such file"):
        bring_in(other, find_worldgym(folder, seal), folder=folder, now=now)
    assert ids_of(other) == []


def test_clips_without_a_seal_are_not_taken_for_ours(exported: tuple[Store, Path]) -> None:
    with pytest.raises(DatasetUnsealed):
        next(find_worldgym(exported[1], None))


def test_pictures_of_an_odd_size_are_refused(tmp_path: Path, now: datetime) -> None:
    store = filled(tmp_path / "lab", 1, now=now, height=31)
    with pytest.raises(EpisodeUnfit, match="even sides, found 32x31"):
        send_out(store, wanted_of(store), folder=tmp_path / "out", make=WorldGymWriter, now=now)
