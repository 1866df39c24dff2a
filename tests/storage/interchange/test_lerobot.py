"""LeRobotDataset v3: what goes out comes back, and what lies on disk is what LeRobot's own reader expects."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import EpisodeConflict
from storage.interchange import video
from storage.interchange.errors import (
    DatasetChanged,
    DatasetInvalid,
    DatasetUndeclared,
    DatasetUnsealed,
    EpisodeUnfit,
    TargetNotEmpty,
)
from storage.interchange.exchange import Intake, Store, bring_in, send_out
from storage.interchange.lerobot_read import find_lerobot
from storage.interchange.lerobot_write import LeRobotWriter
from storage.interchange.seal import unseal
from storage.interchange.writer import Counted
from tests.storage.interchange.laboratory import (
    a_store,
    an_episode,
    assert_same_but_for_pictures,
    filled,
    ids_of,
    keep,
    picture_error,
    records_of,
    smooth_pictures,
    wanted_of,
)

MANY = 20
VIDEO = "observation.images.primary"


def export(store: Store, folder: Path, now: datetime, **limits: int) -> Counted:
    return send_out(
        store,
        wanted_of(store),
        folder=folder,
        make=lambda where: LeRobotWriter(where, **limits),
        now=now,
    )


def take_in(store: Store, folder: Path, now: datetime, *, convention: str | None = None) -> Intake:
    found = find_lerobot(folder, unseal(folder, expected="lerobot"), convention=convention)
    return bring_in(store, found, folder=folder, now=now)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """Twenty episodes and their export, written over several files."""
    folder = tmp_path_factory.mktemp("lerobot")
    now = datetime.fromisoformat("2026-01-01T12:00:00+00:00")
    store = filled(folder / "lab", MANY, now=now)
    export(store, folder / "out", now, data_bytes=8_000, video_bytes=2_000)
    return store, folder / "out"


@pytest.fixture
def few(tmp_path: Path, now: datetime) -> tuple[Store, Path]:
    """Three episodes and their export."""
    store = filled(tmp_path / "lab", 3, now=now)
    export(store, tmp_path / "out", now)
    return store, tmp_path / "out"


def foreign(folder: Path) -> Path:
    """The same dataset as others would hand it over: without our notes."""
    shutil.rmtree(folder / "_gymnastd")
    (folder / "manifest.json").unlink()
    return folder


def test_episodes_come_back_out_of_several_files_with_everything_that_was_known_of_them(
    many: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    store, folder = many
    other = a_store(tmp_path / "other")
    report = take_in(other, folder, now)
    before, after = records_of(store), records_of(other)
    assert report == Intake(
        episodes=MANY, frames=sum(r.episode.manifest.T + 1 for r in before.values()), added=MANY
    )
    assert after.keys() == before.keys()
    for each, record in before.items():
        assert_same_but_for_pictures(record, after[each])
        assert picture_error(record, after[each]) < video.LEVELS
        assert after[each].episode.manifest.metadata["source_sha256"] == record.episode.digest


def test_a_second_import_adds_nothing_and_neither_does_one_into_the_store_it_came_from(
    few: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    store, folder = few
    other = a_store(tmp_path / "other")
    assert take_in(other, folder, now).added == 3
    assert take_in(other, folder, now).added == 0
    assert take_in(store, folder, now).added == 0


def test_the_last_picture_is_the_very_one_that_was_recorded(
    few: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    """It has no row and so no video frame; its JPEG goes along."""
    store, folder = few
    other = a_store(tmp_path / "other")
    take_in(other, folder, now)
    for each, record in records_of(store).items():
        last = record.episode.manifest.T
        assert records_of(other)[each].episode.frames.jpeg(last) == record.episode.frames.jpeg(last)


# ---- the layout, held against the facts of the format by code that shares nothing with the writer


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [
        row for path in sorted(folder.glob("data/*/*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def episodes_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


def test_info_counts_what_is_there_and_names_every_feature(many: tuple[Store, Path]) -> None:
    _, folder = many
    info = json.loads((folder / "meta/info.json").read_text())
    rows = rows_of(folder)
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (MANY, len(rows), 6)
    assert (info["chunks_size"], info["data_files_size_in_mb"], info["video_files_size_in_mb"]) == (
        1000,
        100,
        200,
    )
    assert info["fps"] == 5
    assert info["splits"] == {"train": f"0:{MANY}"}
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    shapes = {name: (each["dtype"], each["shape"]) for name, each in info["features"].items()}
    assert shapes == {
        "action": ("float32", [7]),
        "observation.state": ("float32", [7]),
        VIDEO: ("video", [32, 32, 3]),
        "timestamp": ("float32", [1]),
        **{name: ("int64", [1]) for name in ("frame_index", "episode_index", "index", "task_index")},
    }
    assert all("names" in each for each in info["features"].values())
    assert len(info["features"]["action"]["names"]) == 7
    assert info["features"][VIDEO]["info"] == {
        "video.height": 32,
        "video.width": 32,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": 5,
        "video.channels": 3,
        "has_audio": False,
    }


def test_rows_count_up_and_vectors_have_a_fixed_size(many: tuple[Store, Path]) -> None:
    _, folder = many
    files = sorted(folder.glob("data/*/*.parquet"))
    assert len(files) > 1
    for path in files:
        schema = pq.read_schema(path)
        for name in ("action", "observation.state"):
            assert schema.field(name).type == pa.list_(pa.float32(), 7)
        assert schema.field("timestamp").type == pa.float32()
        assert not [name for name in schema.names if "image" in name]
    rows = rows_of(folder)
    assert [row["index"] for row in rows] == list(range(len(rows)))
    for row in rows:
        assert row["timestamp"] == pytest.approx(row["frame_index"] / 5)


def test_every_episode_finds_its_rows_and_its_task(many: tuple[Store, Path]) -> None:
    store, folder = many
    rows = rows_of(folder)
    tasks = pq.read_table(folder / "meta/tasks.parquet")
    pandas = json.loads(tasks.schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]
    names = dict(zip(tasks["task_index"].to_pylist(), tasks["task"].to_pylist(), strict=True))
    episodes = episodes_of(folder)
    assert [each["episode_index"] for each in episodes] == list(range(MANY))
    assert episodes[0]["dataset_from_index"] == 0
    for each, episode_id in zip(episodes, ids_of(store), strict=True):
        own = rows[each["dataset_from_index"] : each["dataset_to_index"]]
        assert {row["episode_index"] for row in own} == {each["episode_index"]}
        assert [row["frame_index"] for row in own] == list(range(each["length"]))
        assert [names[task] for task in {row["task_index"] for row in own}] == each["tasks"]
        file = (
            folder / f"data/chunk-{each['data/chunk_index']:03d}/file-{each['data/file_index']:03d}.parquet"
        )
        assert each["episode_index"] in pq.read_table(file)["episode_index"].to_pylist()
        record = records_of(store)[episode_id] if each["episode_index"] == 7 else None
        if record is not None:
            np.testing.assert_array_equal([row["action"] for row in own], record.episode.steps.raw_action)
            np.testing.assert_array_equal(
                [r["observation.state"] for r in own], record.episode.steps.state[:-1]
            )


def test_the_video_shows_observation_t_at_from_timestamp_plus_t_fifths(many: tuple[Store, Path]) -> None:
    store, folder = many
    records = records_of(store)
    decoded: dict[Path, dict[float, np.ndarray]] = {}
    files = set()
    for each, episode_id in zip(episodes_of(folder), ids_of(store), strict=True):
        key = f"videos/{VIDEO}"
        path = (
            folder / f"{key}/chunk-{each[f'{key}/chunk_index']:03d}/file-{each[f'{key}/file_index']:03d}.mp4"
        )
        files.add(path)
        if path not in decoded:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
                assert stream.average_rate == 5
                decoded[path] = {
                    round(float(frame.time), 3): frame.to_ndarray(format="rgb24")
                    for frame in container.decode(stream)
                }
        start, stop = each[f"{key}/from_timestamp"], each[f"{key}/to_timestamp"]
        assert stop - start == pytest.approx(each["length"] / 5)
        for t in range(each["length"]):
            shown = decoded[path][round(start + t / 5, 3)].astype(float)
            seen = records[episode_id].episode.frames.decode(t)
            assert np.abs(shown - seen).mean() < video.LEVELS
    assert len(files) > 1


def test_no_picture_is_more_than_one_from_a_key_frame(few: tuple[Store, Path]) -> None:
    with av.open(str(few[1] / f"videos/{VIDEO}/chunk-000/file-000.mp4")) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert len(keys) == 9
    assert all(this or following for this, following in pairwise(keys))


def test_videos_are_joined_without_a_change_of_any_picture(tmp_path: Path) -> None:
    lengths, paths = (3, 1, 4), []
    for number, length in enumerate(lengths):
        paths.append(tmp_path / f"{number}.mp4")
        with video.VideoWriter(paths[-1], size=(32, 32), fps=5, crf=23, keyframes=2) as writer:
            for picture in smooth_pictures(length, seed=number):
                writer.add(picture)
    joiner = video.VideoJoiner(tmp_path / "all.mp4", fps=5)
    for path in paths:
        joiner.add(path)
    joiner.close()
    began = 0
    for path, length in zip(paths, lengths, strict=True):
        apart = video.read_pictures(path, start_s=0.0, count=length, fps=5)
        joined = video.read_pictures(tmp_path / "all.mp4", start_s=began / 5, count=length, fps=5)
        np.testing.assert_array_equal(joined, apart)
        began += length
    with pytest.raises(DatasetInvalid, match="9 pictures"):
        video.read_pictures(tmp_path / "all.mp4", start_s=0.0, count=9, fps=5)


def test_statistics_are_those_of_the_rows_and_pictures(many: tuple[Store, Path]) -> None:
    store, folder = many
    statistics = json.loads((folder / "meta/stats.json").read_text())
    rows = rows_of(folder)
    for name in ("action", "observation.state"):
        values = np.array([row[name] for row in rows], np.float64)
        own = statistics[name]
        assert own["count"] == [len(rows)]
        for key, found in (
            ("min", values.min(axis=0)),
            ("max", values.max(axis=0)),
            ("mean", values.mean(axis=0)),
            ("std", values.std(axis=0)),
        ):
            np.testing.assert_allclose(own[key], found, rtol=1e-6, atol=1e-12)
    shown = [
        record.episode.frames.decode_all()[:-1].reshape(-1, 3) / 255 for record in records_of(store).values()
    ]
    pixels = np.concatenate(shown)
    for key, found in (
        ("min", pixels.min(axis=0)),
        ("mean", pixels.mean(axis=0)),
        ("std", pixels.std(axis=0)),
    ):
        np.testing.assert_allclose(np.array(statistics[VIDEO][key]), found[:, None, None], rtol=1e-6)
    assert statistics[VIDEO]["count"] == [len(rows)]
    assert set(statistics) == {
        *("action", "observation.state", VIDEO, "timestamp"),
        *("frame_index", "episode_index", "index", "task_index"),
    }


def test_the_manifest_declares_the_conventions_and_names_every_file(few: tuple[Store, Path]) -> None:
    _, folder = few
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["conventions"]["name"] == "bridge_v2"
    assert "gripper 0 closed .. 1 open" in manifest["conventions"]["action"]
    assert manifest["notes"]["frames"] == "h264, yuv420p, crf 23"
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == here - {"manifest.json"}


# ---- datasets of others


def test_a_dataset_of_others_comes_in_without_its_last_actions(
    few: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    """A row is one action; nobody knows what the last one led to."""
    store, folder = few
    other = a_store(tmp_path / "other")
    assert take_in(other, foreign(folder), now, convention="bridge_v2").added == 3
    by_length = {r.episode.manifest.T: r.episode for r in records_of(other).values()}
    for record in records_of(store).values():
        steps, found = record.episode.steps, by_length[record.episode.manifest.T - 1]
        np.testing.assert_array_equal(found.steps.raw_action, steps.raw_action[:-1])
        np.testing.assert_array_equal(found.steps.state, steps.state[:-1])
        assert found.manifest.instruction == record.episode.manifest.instruction
        assert found.manifest.valid_for.policy_eval is False
        assert found.steps.qpos is None
    assert take_in(other, folder, now, convention="bridge_v2").added == 0


def test_a_dataset_of_others_must_be_said_to_be_in_our_convention(
    few: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    folder = foreign(few[1])
    with pytest.raises(DatasetUndeclared, match="--convention, one of bridge_v2"):
        take_in(a_store(tmp_path / "other"), folder, now)


Spoil = Callable[[Path], object]


def change_info(**changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "meta/info.json"
        tree = json.loads(path.read_text())
        path.write_text(json.dumps({**tree, **changes}))

    return spoil


def change_features(**features: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "meta/info.json"
        tree = json.loads(path.read_text())
        tree["features"] |= features
        path.write_text(json.dumps(tree))

    return spoil


def change_rows(
    change: Callable[[pa.Table], pa.Table], file: str = "data/chunk-000/file-000.parquet"
) -> Spoil:
    def spoil(folder: Path) -> None:
        pq.write_table(change(pq.read_table(folder / file)), folder / file)

    return spoil


def truncate(name: str, kept: float) -> Spoil:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * kept)])

    return spoil


def with_action(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        values = change(np.array(table["action"].to_pylist(), np.float32))
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        return table.set_column(table.schema.get_field_index("action"), "action", column)

    return changed


def one_nan(actions: np.ndarray) -> np.ndarray:
    actions[1, 3] = np.nan
    return actions


def slower(table: pa.Table) -> pa.Table:
    column = pa.array(table["timestamp"].to_numpy() * 2)
    return table.set_column(table.schema.get_field_index("timestamp"), "timestamp", column)


def rewrite_video(folder: Path) -> None:
    """The same file with a picture less than there are rows."""
    path = folder / f"videos/{VIDEO}/chunk-000/file-000.mp4"
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with video.VideoWriter(path, size=(32, 32), fps=5, crf=23, keyframes=2) as writer:
        for picture in pictures[:-1]:
            writer.add(picture)


def faster_video(folder: Path) -> None:
    with video.VideoWriter(
        folder / f"videos/{VIDEO}/chunk-000/file-000.mp4", size=(32, 32), fps=20, crf=23, keyframes=2
    ) as writer:
        for _ in range(20):
            writer.add(np.zeros((32, 32, 3), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "where", "expected"),
    [
        (change_info(codebase_version="v2.1"), "info.json", "version v3.0, found v2.1"),
        (change_info(fps=10), "info.json", "fps 5, found fps 10"),
        (change_info(data_path="{nobody}.parquet"), "info.json", "paths of chunk_index"),
        (change_info(video_path="../../{video_key}.mp4"), "info.json", "paths in the folder"),
        (change_info(features=None), "info.json", "a head of LeRobot v3"),
        (change_features(action={"dtype": "float32", "shape": [6]}), "info.json", r"action float32 \[7\]"),
        (lambda folder: (folder / "meta/info.json").unlink(), "info.json", "a head of LeRobot v3"),
        (lambda folder: (folder / "meta/tasks.parquet").unlink(), "tasks.parquet", "a whole parquet file"),
        (truncate("data/chunk-000/file-000.parquet", 0.7), "file-000.parquet", "a whole parquet file"),
        (truncate("meta/episodes/chunk-000/file-000.parquet", 0.5), "file-000.parquet", "a whole parquet"),
        (truncate(f"videos/{VIDEO}/chunk-000/file-000.mp4", 0.7), "file-000.mp4", "expected"),
        (change_rows(lambda table: table.drop_columns(["action"])), "file-000.parquet", "a column action"),
        (change_rows(with_action(lambda a: a[:, :6])), "file-000.parquet", "action of type"),
        (change_rows(with_action(one_nan)), "file-000.parquet", "finite numbers in action"),
        (change_rows(slower), "file-000.parquet", "timestamps 1/5 s apart"),
        (change_rows(lambda table: table.slice(1)), "file-000.parquet", "rows of episode 0, found"),
        (rewrite_video, "file-000.mp4", "pictures from .* s on, found"),
        (faster_video, "file-000.mp4", "5 frames per second, found 20"),
        (
            change_rows(lambda t: t.drop_columns(["length"]), "meta/episodes/chunk-000/file-000.parquet"),
            "file-000.parquet",
            "a column length",
        ),
    ],
)
def test_a_dataset_that_breaks_the_format_is_refused_with_the_file_and_the_rule(
    few: tuple[Store, Path], tmp_path: Path, now: datetime, spoil: Spoil, where: str, expected: str
) -> None:
    folder = foreign(few[1])
    spoil(folder)
    with pytest.raises(DatasetInvalid, match=expected) as caught:
        take_in(a_store(tmp_path / "other"), folder, now, convention="bridge_v2")
    assert where in str(caught.value)


# ---- exports that were broken off or changed


def test_an_export_without_its_manifest_is_known_to_be_broken_off(
    few: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    (few[1] / "manifest.json").unlink()
    with pytest.raises(DatasetUnsealed, match="broken off"):
        take_in(a_store(tmp_path / "other"), few[1], now)


@pytest.mark.parametrize("name", ["meta/info.json", "data/chunk-000/file-000.parquet", "meta/stats.json"])
def test_a_file_that_changed_after_the_export_is_found_before_anything_comes_in(
    few: tuple[Store, Path], tmp_path: Path, now: datetime, name: str
) -> None:
    with (few[1] / name).open("ab") as file:
        file.write(b" ")
    other = a_store(tmp_path / "other")
    with pytest.raises(DatasetChanged, match=name):
        take_in(other, few[1], now)
    assert ids_of(other) == []


def test_numbers_that_are_not_those_of_the_notes_are_refused(
    few: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    """Both files are those of the manifest, yet they tell different stories."""
    folder = few[1]
    seal = unseal(folder, expected="lerobot")
    change_rows(with_action(lambda actions: actions + np.float32(0.01)))(folder)
    other = a_store(tmp_path / "other")
    with pytest.raises(DatasetInvalid, match=r"action \[.*\] in row 0, as _gymnastd says"):
        bring_in(other, find_lerobot(folder, seal), folder=folder, now=now)


def test_an_episode_that_breaks_leaves_those_before_it_in_and_a_second_try_goes_on(
    few: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    store, folder = few
    other, whole = a_store(tmp_path / "other"), tmp_path / "whole"
    shutil.copytree(folder, whole)
    seal = unseal(folder, expected="lerobot")
    (folder / "_gymnastd" / f"{ids_of(store)[2]}.last.jpg").unlink()
    with pytest.raises(DatasetInvalid, match=r"last\.jpg"):
        bring_in(other, find_lerobot(folder, seal), folder=folder, now=now)
    assert ids_of(other) == ids_of(store)[:2]
    assert take_in(other, whole, now) == Intake(episodes=3, frames=12, added=1)


def test_another_recording_under_a_known_id_is_refused(
    few: tuple[Store, Path], tmp_path: Path, now: datetime
) -> None:
    other = a_store(tmp_path / "other")
    keep(other, an_episode(0, steps=3), number=0, now=now)
    with pytest.raises(EpisodeConflict):
        take_in(other, few[1], now)


def test_an_export_needs_an_empty_folder(few: tuple[Store, Path], now: datetime) -> None:
    with pytest.raises(TargetNotEmpty):
        export(few[0], few[1], now)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"control_hz": 3.0}, "5 Hz, found 3.0 Hz"),
        ({"width": 48}, "32x32 pixels, found 48x32"),
    ],
)
def test_an_episode_that_does_not_fit_is_named_and_leaves_no_sealed_export(
    tmp_path: Path, now: datetime, changes: dict[str, Any], expected: str
) -> None:
    store = filled(tmp_path / "lab", 1, now=now)
    misfit = an_episode(1, **changes)
    keep(store, misfit, number=1, now=now)
    with pytest.raises(EpisodeUnfit, match=expected) as caught:
        export(store, tmp_path / "out", now)
    assert misfit.manifest.episode_id in str(caught.value)
    with pytest.raises(DatasetUnsealed):
        unseal(tmp_path / "out", expected="lerobot")


def test_pictures_of_an_odd_size_are_refused(tmp_path: Path, now: datetime) -> None:
    store = filled(tmp_path / "lab", 1, now=now, width=33)
    with pytest.raises(EpisodeUnfit, match="even sides, found 33x32"):
        export(store, tmp_path / "out", now)
