"""AutoEval's pickles of anybody's policies: in once, with their labels' source; nothing in them is run."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from robot_bridge.autoeval.dataset import RunRef
from robot_bridge.autoeval.tasks import task_of
from robot_bridge.autoeval_mg import bridge_state_of_mg
from storage import labels
from storage.blobs import BlobStore
from storage.db import Database
from storage.errors import EpisodeConflict
from storage.interchange.autoeval_read import find_autoeval, known_task, time_of
from storage.interchange.errors import DatasetInvalid
from storage.interchange.exchange import Store, bring_in, take_out
from storage.tables import EpisodeRow
from tests.robot_bridge.autoeval.records import a_record, pickled_record, put_run


@pytest.fixture
def store(sqlite_database: Database, blobs: BlobStore) -> Store:
    return Store(sqlite_database, blobs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs: one of two trajectories, one of a task that AutoEval's public cells do not have."""
    root = tmp_path / "published" / "eval_data"
    first = put_run(root, "41", "somebody's policy")
    (first / "traj_0.pkl").write_bytes(pickled_record(a_record(steps=4)))
    (first / "traj_1.pkl").write_bytes(pickled_record(a_record(steps=3, seed=5, success=False)))
    other = put_run(root, "42", "another")
    record = a_record(steps=3, seed=9, language_command="Fold the cloth", experienced_motor_failure=True)
    (other / "traj_0.pkl").write_bytes(pickled_record(record))
    return root.parent


def brought(store: Store, folder: Path, now: datetime):
    return bring_in(store, find_autoeval(folder, None), folder=folder, now=now)


def rows(store: Store) -> list[EpisodeRow]:
    with store.database.read() as session:
        return sorted(session.query(EpisodeRow), key=lambda row: (row.task_id, -row.steps))


def test_every_trajectory_becomes_an_episode_and_twice_adds_nothing(store, folder, now):
    first = brought(store, folder, now)
    assert (first.episodes, first.added) == (3, 3)
    again = brought(store, folder, now)
    assert (again.episodes, again.added, again.frames) == (3, 0, first.frames)
    found = rows(store)
    assert [(row.task_id, row.steps, row.origin) for row in found] == [
        ("fold_the_cloth", 2, "imported"),
        ("open_drawer", 3, "imported"),
        ("open_drawer", 2, "imported"),
    ]
    assert not any(row.valid_for_policy_eval for row in found)
    assert [row.valid_for_world_model for row in found] == [False, True, True], "a motor failed in the first"


def test_actions_stand_between_the_observations_that_were_published(store, folder, now):
    brought(store, folder, now)
    record, row = a_record(steps=4), rows(store)[1]
    episode = take_out(store, row.id).episode
    np.testing.assert_array_equal(episode.steps.raw_action, np.stack(record["action"])[1:])
    states = np.stack([bridge_state_of_mg(one) for one in record["proprio"]])
    np.testing.assert_allclose(episode.steps.state, states, atol=1e-6)
    shown = episode.frames.decode_all().astype(int)
    assert np.abs(shown - np.stack(record["obs"]["image_primary"])).mean() < 3


def test_the_label_is_the_classifiers_and_says_so(store, folder, now):
    brought(store, folder, now)
    with store.database.read() as session:
        found = [labels.effective_label(session, row.id) for row in rows(store)[1:]]
    assert [(one.success, one.source, one.judge) for one in found if one] == [
        (True, "classifier", "autoeval"),
        (False, "classifier", "autoeval"),
    ]


def test_an_import_that_was_broken_off_goes_on(store, folder, now):
    found = find_autoeval(folder, None)
    bring_in(store, [next(found)], folder=folder, now=now)
    report = brought(store, folder, now)
    assert (report.episodes, report.added) == (3, 2)


def test_another_recording_under_the_same_name_is_refused(store, folder, now):
    brought(store, folder, now)
    (folder / "eval_data" / "41" / "traj_0.pkl").write_bytes(pickled_record(a_record(steps=5)))
    with pytest.raises(EpisodeConflict):
        brought(store, folder, now)


@pytest.mark.parametrize(
    "content",
    [b"cos\nsystem\n(S'true'\ntR.", b"", pickled_record(a_record(steps=1))],
    ids=["evil", "empty", "short"],
)
def test_what_is_no_recording_is_refused_and_those_before_it_stay(store, folder, now, content):
    (folder / "eval_data" / "41" / "traj_1.pkl").write_bytes(content)
    with pytest.raises(DatasetInvalid):
        brought(store, folder, now)
    assert len(rows(store)) == 1


def test_a_folder_without_runs_is_told(store, tmp_path, now):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetInvalid, match="as AutoEval publishes runs"):
        brought(store, tmp_path / "empty", now)
    with pytest.raises(DatasetInvalid):
        brought(store, tmp_path / "nowhere", now)


def test_a_known_sentence_is_its_task_and_another_has_no_workspace():
    assert known_task(" Open the drawer. ") == task_of("open_drawer")
    assert known_task("fold it").box_high == (10.0, 10.0, 10.0)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("2025-03-01T10:00:00", datetime(2025, 3, 1, 10, tzinfo=UTC)),
        ("2025-03-01T10:00:00+02:00", datetime(2025, 3, 1, 8, tzinfo=UTC)),
        ("yesterday", datetime(1970, 1, 1, tzinfo=UTC)),
        ("", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_run_is_dated_by_its_own_word_where_that_can_be_read(said, wanted):
    assert time_of(RunRef(eval_id="1", description="", time=said)) == wanted
