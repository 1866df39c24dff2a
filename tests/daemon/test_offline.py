"""Finetuning at the command line: on imported clips, measured on those held out, kept as a candidate only."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from daemon.checkpoint_record import kept_record
from daemon.cli import app
from daemon.errors import NothingCollected, PageNotFound
from daemon.imports import import_clips
from daemon.offline import error_lines, finetune_offline
from daemon.phases.checkpoints import current
from daemon.phases.material import window_of
from daemon.progress_bar import Bars
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database
from storage import checkpoints, iterations, replay
from storage.adoption import CANDIDATE
from storage.interchange.errors import ClipInvalid
from storage.replay import EpisodeQuery
from tests.daemon.phases.conftest import tiny_installation, wall_clock
from tests.daemon.pretrain.test_pretrain import a_clip

REAL_CLIPS = Path(__file__).parents[3] / "shared" / "data" / "bridge_v2_sample"


def write_clip(folder: Path, name: str, *, frames: int, seed: int) -> None:
    """A clip in the WorldGym format: a bright square that moves as the actions say."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = np.zeros((frames, 10), dtype=np.float32)
    rows[:-1, :3] = rng.uniform(-1, 1, (frames - 1, 3))
    rows[:, 6] = -1.0
    rows[-1, :6] = 0.0
    with av.open(str(folder / f"{name}.mp4"), "w") as film:
        stream = film.add_stream("h264", rate=20)
        stream.width = stream.height = 256
        stream.pix_fmt = "yuv420p"
        at = np.array([128.0, 128.0])
        for row in rows:
            image = np.full((256, 256, 3), 60, np.uint8)
            x, y = at.astype(int)
            image[y : y + 24, x : x + 24] = 220
            film.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            at = np.clip(at + 12 * row[:2], 0, 230)
        film.mux(stream.encode())
    np.savez(folder / f"{name}.npz", rows)


@pytest.fixture
def clips_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    write_clip(folder / "train", "000000000", frames=14, seed=1)
    write_clip(folder / "train", "000000001", frames=16, seed=2)
    write_clip(folder / "test", "000000002", frames=13, seed=3)
    return folder


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return tiny_installation(tmp_path, monkeypatch)


def test_importing_twice_adds_nothing(settings: Settings, clips_folder: Path) -> None:
    first, second = (import_clips(settings, clips_folder) for _ in range(2))
    assert (first.episodes, first.frames, first.added) == (3, 43, 3)
    assert (second.episodes, second.frames, second.added) == (3, 43, 0)


def test_an_empty_folder_is_no_import(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ClipInvalid, match="train/ or test/"):
        import_clips(settings, tmp_path)


def test_finetuning_measures_the_held_out_clip_and_keeps_a_candidate(
    settings: Settings, clips_folder: Path
) -> None:
    import_clips(settings, clips_folder)
    lines: list[str] = []
    film = settings.data_dir / "film.jpg"
    row = finetune_offline(
        settings,
        EpisodeQuery(origin="imported"),
        updates=3,
        bars=Bars(say=lines.append, shown=False),
        film=film,
    )
    with Image.open(film) as picture:
        assert picture.size[1] == 3 * 2 * 64, "real, imagined before, imagined after"
    assert lines[0] == "2 episodes to train on, 1 held out"
    assert any(re.match(r"held-out error at 1 step: [\d.]+ before, [\d.]+ after", line) for line in lines)
    assert any(line.startswith("held-out error at 10 steps") for line in lines)
    measured = row.card["held_out_error"]
    assert measured["before"] != measured["after"]
    database, blobs = open_database(settings), open_blobs(settings)
    with database.read() as session:
        rows, _ = checkpoints.list_checkpoints(session, kind="world_model")
        made, parent = rows
        held_out = {row.id for row in replay.select(session, replay.EpisodeQuery(held_out=True))}
        learned_from = set(checkpoints.episode_ids(session, made.id))
    assert (made.id, made.card[CANDIDATE]) == (row.id, True)
    assert made.parent_id == parent.id
    assert len(learned_from) == 2
    assert learned_from.isdisjoint(held_out)
    assert (
        current(database, blobs, "world_model", lineage="main", preset="nano", now=wall_clock()).id
        == parent.id
    )
    database.dispose()


def test_the_command_can_answer_with_the_checkpoint_alone(
    settings: Settings, clips_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_clips(settings, clips_folder)
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(settings.data_dir))
    done = CliRunner().invoke(app, ["finetune-world-model", "--updates", "2", "--json"])
    assert done.exit_code == 0, done.output or done.exception
    made = json.loads(done.stdout)
    assert (made["kind"], made["lineage"], made["retired_at"]) == ("world_model", "main", None)
    assert made["card"]["held_out_error"]["after"] > 0
    assert datetime.fromisoformat(made["created_at"]).utcoffset() == timedelta(0)
    assert "2 episodes to train on, 1 held out" in done.stderr
    assert f"id {made['id']}" in done.stderr
    assert made == kept_record(settings, made["id"]) | {"created_at": made["created_at"]}


def test_without_episodes_of_that_origin_it_says_so(settings: Settings, clips_folder: Path) -> None:
    import_clips(settings, clips_folder)
    with pytest.raises(NothingCollected, match="training episodes of origin collect"):
        finetune_offline(settings, EpisodeQuery(origin="collect"), updates=1, bars=Bars(shown=False))


def test_without_held_out_episodes_nothing_is_trained(settings: Settings, clips_folder: Path) -> None:
    for path in (clips_folder / "test").iterdir():
        path.unlink()
    import_clips(settings, clips_folder)
    with pytest.raises(NothingCollected, match="held-out episodes of origin imported"):
        finetune_offline(settings, EpisodeQuery(origin="imported"), updates=1, bars=Bars(shown=False))


def test_a_lineage_finetunes_its_own_world_model_on_what_nobody_or_it_has_collected(
    settings: Settings, clips_folder: Path
) -> None:
    import_clips(settings, clips_folder)
    with pytest.raises(PageNotFound, match="lineage arm-b"):
        finetune_offline(
            settings, EpisodeQuery(origin="imported"), lineage="arm-b", updates=1, bars=Bars(shown=False)
        )
    database = open_database(settings)
    with database.write() as session:
        spec = {"lineage": "arm-b"}
        iterations.request_iteration(session, spec=spec, idempotency_key=None, now=wall_clock())
    query = EpisodeQuery(origin="imported", lineage="arm-b")
    with pytest.raises(NothingCollected, match="of origin imported and lineage arm-b"):
        finetune_offline(settings, query, lineage="arm-b", updates=1, bars=Bars(shown=False))
    shared = replace(query, unowned=True)
    finetune_offline(settings, shared, lineage="arm-b", updates=1, bars=Bars(shown=False))
    with database.read() as session:
        rows, _ = checkpoints.list_checkpoints(session, kind="world_model")
    assert rows[0].lineage == "arm-b"
    database.dispose()


@pytest.mark.parametrize(
    ("lengths", "window"),
    [([20, 3], 4), ([20, 12], 6), ([20] * 10 + [1], 6), ([3] * 9 + [1], 4), ([3] * 8 + [1] * 2, 2)],
)
def test_windows_are_as_long_as_nine_of_ten_clips_or_the_models_memory(
    lengths: list[int], window: int
) -> None:
    from daemon.learning.world_model.model import nano_world_model

    model = nano_world_model(seed=0, in_channels=4, dim=16, layers=1, heads=2, max_frames=6)
    clips = [a_clip(number, steps=steps) for number, steps in enumerate(lengths, start=1)]
    assert window_of(model, clips) == window


@pytest.mark.parametrize(("steps", "window"), [(40, 6), (18, 4), (17, 3), (3, 2)])
def test_with_several_actions_a_frame_fewer_frames_fit_into_a_clip(steps: int, window: int) -> None:
    from daemon.learning.world_model.model import nano_world_model

    model = nano_world_model(seed=0, in_channels=4, dim=16, layers=1, heads=2, max_frames=6, stride=6)
    assert window_of(model, [a_clip(1, steps=steps)]) == window


def test_error_lines_tell_the_change_in_percent() -> None:
    latents = {"latents_before": 0.4, "latents_after": 0.3}
    record = {
        "by_horizon": {
            "1": {"before": 0.02, "after": 0.01, **latents},
            "10": {"before": 0.04, "after": 0.05, **latents},
        }
    }
    assert error_lines(record) == [
        "held-out error at 1 step: 0.02000 before, 0.01000 after (-50 %)",
        "held-out latent error at 1 step: 0.40000 before, 0.30000 after (-25 %)",
        "held-out error at 10 steps: 0.04000 before, 0.05000 after (+25 %)",
        "held-out latent error at 10 steps: 0.40000 before, 0.30000 after (-25 %)",
    ]


@pytest.mark.slow
@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="the ten real Bridge clips do not lie beside the project")
@pytest.mark.timeout(900)
def test_finetuning_on_real_bridge_clips_lowers_the_held_out_error(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    report = import_clips(settings, REAL_CLIPS)
    assert (report.episodes, report.frames) == (10, 355)
    made = finetune_offline(settings, EpisodeQuery(origin="imported"), updates=120, bars=Bars(shown=False))
    record = made.card["held_out_error"]
    for error in record["by_horizon"].values():
        assert error["after"] < error["before"]
    assert record["by_horizon"]["10"]["latents_after"] < 0.75 * record["by_horizon"]["10"]["latents_before"]
