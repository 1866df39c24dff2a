"""WorldGym clips: row i acts at frame i, the last row is dropped, the same content is imported once."""

import io
import shutil
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import av
import numpy as np
import pytest

import storage
from robot_bridge.conventions import to_world_model_action
from storage import episodes, replay
from storage.blobs import BlobStore
from storage.db import Database
from storage.interchange.errors import ClipInvalid
from storage.interchange.worldgym_clips import (
    TASK_ID,
    ImportReport,
    clip_id,
    import_folder,
    read_clip,
)
from storage.replay import EpisodeQuery
from storage.tables import EpisodeRow

REAL = Path(storage.__file__).parents[2] / "shared" / "data" / "bridge_v2_sample"
SIDE = 32  # pixels of a generated clip


def write_video(path: Path, frames: int, *, side: int = SIDE, faststart: bool = False) -> None:
    """A video whose picture t has the brightness 20 + 8 t, so that each picture tells its place."""
    options = {"movflags": "faststart"} if faststart else {}  # where the index lies: in front, or at the end
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("h264", rate=20)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "10"}
        for t in range(frames):
            picture = np.full((side, side, 3), 20 + 8 * t, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def some_actions(frames: int, *, seed: int = 0) -> np.ndarray:
    """Actions in metres and radians [frames - 1, 7], inside every clip range."""
    random = np.random.default_rng(seed)
    actions = random.uniform(-0.04, 0.04, size=(frames - 1, 7)).astype(np.float32)
    actions[:, 6] = random.integers(0, 2, size=frames - 1)
    return actions


def rows_of(actions: np.ndarray) -> np.ndarray:
    """The array of a clip, float32 [frames, 10]: the actions, then the zero dummy."""
    dummy = np.zeros((1, 10), np.float32)
    dummy[0, 6] = -1.0
    return np.concatenate([to_world_model_action(actions), dummy])


def write_clip(folder: Path, name: str, *, frames: int = 4, seed: int = 0) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    mp4, npz = folder / f"{name}.mp4", folder / f"{name}.npz"
    write_video(mp4, frames)
    np.savez(npz, arr_0=rows_of(some_actions(frames, seed=seed)))
    return mp4, npz


@pytest.fixture
def clip(tmp_path: Path) -> tuple[Path, Path]:
    return write_clip(tmp_path / "clips" / "train", "000000001")


def spoil(npz: Path, change: Callable[[np.ndarray], object]) -> None:
    rows = np.load(npz)["arr_0"].copy()
    changed = change(rows)
    np.savez(npz, arr_0=rows if changed is None else changed)


def test_frames_minus_one_actions_and_as_many_pictures_as_frames(clip: tuple[Path, Path]) -> None:
    episode = read_clip(*clip)
    assert episode.manifest.T == len(episode.steps.executed_action) == 3
    assert len(episode.frames) == len(episode.steps.state) == 4
    assert (episode.frames.width, episode.frames.height) == (SIDE, SIDE)


def test_row_i_is_the_action_executed_at_frame_i(clip: tuple[Path, Path]) -> None:
    """In metres and radians; picture t shows the world before action t."""
    episode = read_clip(*clip)
    np.testing.assert_allclose(episode.steps.raw_action, some_actions(4), atol=1e-6)
    np.testing.assert_array_equal(episode.steps.executed_action, episode.steps.raw_action)
    brightness = episode.frames.decode_all().mean(axis=(1, 2, 3))
    np.testing.assert_allclose(brightness, [20, 28, 36, 44], atol=3)


def test_the_gripper_is_open_at_minus_one_and_closed_at_plus_one(clip: tuple[Path, Path]) -> None:
    def set_gripper(rows: np.ndarray) -> None:
        rows[:, 6] = [-1, 1, -1, -1]

    spoil(clip[1], set_gripper)
    np.testing.assert_array_equal(read_clip(*clip).steps.raw_action[:, 6], [1.0, 0.0, 1.0])


def test_what_a_clip_does_not_know_is_zero_and_said_so(clip: tuple[Path, Path]) -> None:
    manifest, steps = read_clip(*clip).manifest, read_clip(*clip).steps
    assert manifest.metadata == {"proprio": "absent", "last_row": "zero"}
    assert not steps.state.any()
    assert not steps.qpos.any()
    assert not steps.target_pose.any()
    assert (manifest.task_id, manifest.instruction, manifest.labels) == (TASK_ID, "", ())
    assert (manifest.mode, manifest.valid_for.policy_eval) == ("imported", False)
    assert manifest.valid_for.world_model


def test_the_clock_is_5_hz_whatever_the_video_says(clip: tuple[Path, Path]) -> None:
    np.testing.assert_allclose(read_clip(*clip).steps.t_obs, [0.0, 0.2, 0.4, 0.6])


def test_a_recording_that_was_cut_loses_its_last_action_and_says_so(clip: tuple[Path, Path]) -> None:
    """Real clips of full length end in an action whose effect was cut off."""

    def cut(rows: np.ndarray) -> None:
        rows[-1] = rows[0]

    spoil(clip[1], cut)
    episode = read_clip(*clip)
    assert episode.manifest.metadata["last_row"] == "cut"
    np.testing.assert_allclose(episode.steps.raw_action, some_actions(4), atol=1e-6)


def test_the_same_clip_is_the_same_episode_and_another_is_not(
    tmp_path: Path, clip: tuple[Path, Path]
) -> None:
    copies = [tmp_path / "copy.mp4", tmp_path / "copy.npz"]
    for source, target in zip(clip, copies, strict=True):
        shutil.copyfile(source, target)
    assert read_clip(*copies).digest == read_clip(*clip).digest
    assert clip_id(*copies) == clip_id(*clip)
    spoil(copies[1], lambda rows: rows * np.float32([0.5] * 6 + [1] * 4))
    assert clip_id(*copies) != clip_id(*clip)


def set_value(row: int, column: int, value: float) -> Callable[[np.ndarray], None]:
    def change(rows: np.ndarray) -> None:
        rows[row, column] = value

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (set_value(1, 0, np.nan), "finite numbers"),
        (set_value(3, 5, np.inf), "finite numbers"),
        (set_value(1, 2, 1.75), "xyz within"),
        (set_value(1, 2, -1.75), "xyz within"),
        (set_value(0, 4, 1.4), "rotation within"),
        (set_value(2, 6, 0.0), "a gripper of -1"),
        (set_value(2, 6, 0.5), "a gripper of -1"),
        (set_value(2, 6, 2.0), "a gripper of -1"),
        (set_value(2, 9, 0.001), "zeros in the last three"),
        (lambda rows: rows.astype(np.float64), r"float32 \[frames, 10\]"),
        (lambda rows: rows[:, :7], r"float32 \[frames, 10\]"),
        (lambda rows: rows[None], r"float32 \[frames, 10\]"),
        (lambda rows: rows.reshape(-1), r"float32 \[frames, 10\]"),
        (lambda rows: rows[:1], "at least 2 frames"),
        (lambda rows: rows[:0], "at least 2 frames"),
        (lambda rows: rows[:-1], "4 rows, one per frame"),
        (lambda rows: np.concatenate([rows, rows[:1]]), "4 rows, one per frame"),
    ],
)
def test_an_array_that_breaks_the_format_is_refused_with_the_rule_it_breaks(
    clip: tuple[Path, Path], change: Callable[[np.ndarray], object], expected: str
) -> None:
    spoil(clip[1], change)
    with pytest.raises(ClipInvalid, match=expected) as caught:
        read_clip(*clip)
    assert str(clip[1]) in str(caught.value)


def test_a_refusal_names_the_row(clip: tuple[Path, Path]) -> None:
    spoil(clip[1], set_value(2, 0, 9.0))
    with pytest.raises(ClipInvalid, match=r"found \[9\.0, .* in row 2"):
        read_clip(*clip)


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, arr_0=np.array([{"run": "me"}], dtype=object))
    return buffer.getvalue()


def named_otherwise() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, actions=np.zeros((4, 10), np.float32))
    return buffer.getvalue()


def one_too_many() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, arr_0=np.zeros((4, 10), np.float32), arr_1=np.zeros(1))
    return buffer.getvalue()


def plain_npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 10), np.float32))
    return buffer.getvalue()


def bomb() -> bytes:
    """An array whose header asks for terabytes that the file does not hold."""
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 10)}
    np.lib.format.write_array_header_1_0(header, shape)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("arr_0.npy", header.getvalue())
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"no archive at all",
        pickled(),
        named_otherwise(),
        one_too_many(),
        plain_npy(),
        bomb(),
    ],
    ids=["empty", "zip-head", "text", "pickled", "other-name", "two-arrays", "npy", "bomb"],
)
def test_a_file_that_is_no_such_archive_is_refused(clip: tuple[Path, Path], content: bytes) -> None:
    clip[1].write_bytes(content)
    with pytest.raises(ClipInvalid):
        read_clip(*clip)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("which", [0, 1])
def test_a_truncated_file_is_refused(clip: tuple[Path, Path], which: int, kept: float) -> None:
    content = clip[which].read_bytes()
    clip[which].write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ClipInvalid) as caught:
        read_clip(*clip)
    assert clip[which].stem in str(caught.value)


@pytest.mark.parametrize("kept", [0.8, 0.95, 0.999])
def test_a_video_whose_index_is_whole_but_whose_pictures_are_cut_off_is_refused(
    clip: tuple[Path, Path], kept: float
) -> None:
    write_video(clip[0], 4, faststart=True)
    content = clip[0].read_bytes()
    clip[0].write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ClipInvalid):
        read_clip(*clip)


@pytest.mark.parametrize("content", [b"", b"not a video", bytes(5000)])
def test_a_file_that_is_no_video_is_refused(clip: tuple[Path, Path], content: bytes) -> None:
    clip[0].write_bytes(content)
    with pytest.raises(ClipInvalid, match="a whole video"):
        read_clip(*clip)


@pytest.mark.parametrize("which", [0, 1])
def test_half_a_pair_is_refused(clip: tuple[Path, Path], which: int) -> None:
    clip[which].unlink()
    with pytest.raises(ClipInvalid, match="no such file"):
        read_clip(*clip)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips to train on, one to test with: 4, 5 and 3 frames."""
    root = tmp_path / "clips"
    write_clip(root / "train", "000000000", frames=4, seed=1)
    write_clip(root / "train", "000000001", frames=5, seed=2)
    write_clip(root / "test", "000000002", frames=3, seed=3)
    return root


def held_out(database: Database) -> dict[int, bool]:
    with database.read() as session:
        rows = replay.select(session, EpisodeQuery(origin="imported"))
    return {row.steps + 1: row.held_out for row in rows}


def test_a_folder_is_imported_and_its_test_clips_are_held_out(
    database: Database, blobs: BlobStore, folder: Path, now: datetime
) -> None:
    report = import_folder(database, blobs, folder, now=now)
    assert report == ImportReport(episodes=3, frames=12, added=3)
    assert held_out(database) == {4: False, 5: False, 3: True}


def test_a_second_import_adds_nothing(
    database: Database, blobs: BlobStore, folder: Path, now: datetime
) -> None:
    import_folder(database, blobs, folder, now=now)
    assert import_folder(database, blobs, folder, now=now) == ImportReport(episodes=3, frames=12, added=0)
    assert len(held_out(database)) == 3


def test_a_second_import_takes_only_what_is_new(
    database: Database, blobs: BlobStore, folder: Path, now: datetime
) -> None:
    import_folder(database, blobs, folder, now=now)
    write_clip(folder / "test", "000000009", frames=6, seed=9)
    assert import_folder(database, blobs, folder, now=now) == ImportReport(episodes=4, frames=18, added=1)


def test_one_clip_under_two_names_is_one_episode(
    database: Database, blobs: BlobStore, folder: Path, now: datetime
) -> None:
    for suffix in ("mp4", "npz"):
        shutil.copyfile(folder / "train" / f"000000000.{suffix}", folder / "train" / f"000000007.{suffix}")
    assert import_folder(database, blobs, folder, now=now) == ImportReport(episodes=4, frames=16, added=3)


def test_an_imported_clip_is_read_back_whole(
    database: Database, blobs: BlobStore, folder: Path, now: datetime
) -> None:
    import_folder(database, blobs, folder, now=now)
    original = read_clip(folder / "test" / "000000002.mp4", folder / "test" / "000000002.npz")
    with database.read() as session:
        found = episodes.load(session, blobs, original.manifest.episode_id)
    assert found.digest == original.digest


def test_a_broken_clip_stops_the_import_and_the_clips_before_it_stay(
    database: Database, blobs: BlobStore, folder: Path, now: datetime
) -> None:
    spoil(folder / "train" / "000000001.npz", set_value(0, 0, np.nan))
    with pytest.raises(ClipInvalid, match="000000001"):
        import_folder(database, blobs, folder, now=now)
    assert held_out(database) == {4: False}
    write_clip(folder / "train", "000000001", frames=5, seed=2)
    assert import_folder(database, blobs, folder, now=now).added == 2


def test_a_folder_without_clips_is_refused(
    database: Database, blobs: BlobStore, tmp_path: Path, now: datetime
) -> None:
    with pytest.raises(ClipInvalid, match=r"NAME\.mp4 in train/ or test/"):
        import_folder(database, blobs, tmp_path / "nowhere", now=now)


@pytest.mark.skipif(not REAL.is_dir(), reason="the ten BridgeData V2 clips are not beside the repository")
def test_ten_real_clips_come_in_and_a_second_import_adds_nothing(
    sqlite_database: Database, blobs: BlobStore, now: datetime
) -> None:
    frames = sum(len(np.load(npz)["arr_0"]) for npz in REAL.glob("*/*.npz"))
    report = import_folder(sqlite_database, blobs, REAL, now=now)
    assert report == ImportReport(episodes=10, frames=frames, added=10)
    assert import_folder(sqlite_database, blobs, REAL, now=now).added == 0
    with sqlite_database.read() as session:
        rows = replay.select(session, EpisodeQuery(origin="imported", held_out=True))
        assert [row.steps for row in rows] == [21]
        for row in session.query(EpisodeRow):
            assert row.steps == episodes.load(session, blobs, row.id).steps.count


@pytest.mark.skipif(not REAL.is_dir(), reason="the ten BridgeData V2 clips are not beside the repository")
@pytest.mark.parametrize("npz", sorted(REAL.glob("*/*.npz")), ids=lambda path: path.stem)
def test_the_actions_of_a_real_clip_turn_back_into_its_rows(npz: Path) -> None:
    rows = np.load(npz)["arr_0"]
    episode = read_clip(npz.with_suffix(".mp4"), npz)
    np.testing.assert_allclose(to_world_model_action(episode.steps.raw_action), rows[:-1], atol=1e-5)
    assert (episode.frames.width, episode.frames.height) == (256, 256)
    assert episode.manifest.metadata["last_row"] == ("cut" if rows[-1, :6].any() else "zero")
