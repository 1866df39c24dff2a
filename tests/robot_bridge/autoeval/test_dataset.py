"""The dataset on a hub and in a folder: nothing is fetched twice, kept, followed or told that need not be."""

from __future__ import annotations

import json
import logging
import shutil
import time
import types
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

from robot_bridge.autoeval.dataset import FolderDataset, HubDataset
from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.serve import running_emulator
from robot_bridge.autoeval.errors import DatasetUnavailable
from tests.robot_bridge.autoeval.fake_scheduler import FakeScheduler, Raw, running
from tests.robot_bridge.autoeval.records import a_record, pickled_record, put_run


class Hub:
    """The emulator's hub; `root` is the folder whose runs it shows."""

    def __init__(self, url: str, root: Path, cache: Path) -> None:
        self.url, self.root, self.cache = url, root, cache

    def dataset(self, **changes: object) -> HubDataset:
        return HubDataset(**{"cache": self.cache, "endpoint": self.url, **changes})


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("emulator")
    with running_emulator(root, quirks=Quirks(poll_s=60.0, hub_page=3)) as url:
        yield url, root / "tmp"


@pytest.fixture
def hub(emulator: tuple[str, Path], tmp_path: Path) -> Hub:
    url, root = emulator
    for left_by_the_test_before in root.iterdir():
        shutil.rmtree(left_by_the_test_before)
    return Hub(url, root, tmp_path / "cache")


def test_a_hub_without_any_run_has_none_of_ours(hub: Hub) -> None:
    assert hub.dataset().find_run("dyna:ours") is None


def test_a_run_is_found_and_its_trajectories_are_read_from_the_hub(hub: Hub) -> None:
    put_run(hub.root, "41", "dyna:other")
    folder = put_run(hub.root, "42", "dyna:ours")
    record = a_record(steps=2)
    for index in (0, 1, 2):
        (folder / f"traj_{index}.pkl").write_bytes(pickled_record(record))
    dataset = hub.dataset()
    run = dataset.find_run("dyna:ours")
    assert run is not None
    assert dataset.indices(run) == (0, 1, 2)
    first = next(dataset.stream(run))
    np.testing.assert_array_equal(first.images, np.stack(record["obs"]["image_primary"]))
    assert first.success is True


def test_runs_behind_the_first_page_of_a_listing_are_seen_too(hub: Hub) -> None:
    for number in range(7):
        put_run(hub.root, str(number), f"dyna:{number}")
    dataset = hub.dataset()
    assert all(dataset.find_run(f"dyna:{number}") is not None for number in range(7))


def test_what_is_known_of_a_run_is_asked_for_once_also_by_the_next_process(hub: Hub) -> None:
    folder = put_run(hub.root, "42", "dyna:ours")
    assert hub.dataset().find_run("dyna:ours") is not None
    (folder / "metadata.json").write_text('{"eval_name": "changed", "time": ""}')
    assert hub.dataset().find_run("dyna:ours") is not None
    assert hub.dataset(cache=hub.cache / "another").find_run("dyna:ours") is None


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"eval_id": "42"}]', '{"a": 1}'])
def test_a_memory_that_does_not_read_back_is_made_again(hub: Hub, content: str) -> None:
    put_run(hub.root, "42", "dyna:ours")
    hub.cache.mkdir()
    (hub.cache / "runs.json").write_text(content)
    assert hub.dataset().find_run("dyna:ours") is not None
    (known,) = json.loads((hub.cache / "runs.json").read_text())
    assert known["description"] == "dyna:ours"


def test_runs_that_were_there_before_a_job_are_not_looked_into(hub: Hub) -> None:
    put_run(hub.root, "41", "dyna:ours")
    dataset = hub.dataset()
    assert dataset.leave_out_present() == 1
    assert dataset.find_run("dyna:ours") is None
    put_run(hub.root, "42", "dyna:ours")
    found = dataset.find_run("dyna:ours")
    assert found is not None
    assert found.eval_id == "42"


def test_a_run_whose_metadata_is_still_on_its_way_is_found_later(hub: Hub) -> None:
    (hub.root / "42").mkdir(parents=True)
    (hub.root / "42" / "traj_0.pkl").write_bytes(b"")
    dataset = hub.dataset()
    assert dataset.find_run("dyna:ours") is None
    (hub.root / "42" / "metadata.json").write_text('{"eval_name": "dyna:ours", "time": "now"}')
    assert dataset.find_run("dyna:ours") is not None


def test_metadata_that_is_too_large_is_never_fetched(hub: Hub) -> None:
    folder = put_run(hub.root, "42", "dyna:ours")
    (folder / "metadata.json").write_text('{"eval_name": "dyna:ours", "pad": "' + "x" * 70_000 + '"}')
    assert hub.dataset().find_run("dyna:ours") is None


def test_no_pickle_stays_on_this_machine_and_nothing_is_drawn(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    (put_run(hub.root, "42", "dyna:ours") / "traj_0.pkl").write_bytes(pickled_record(a_record(steps=1)))
    dataset = hub.dataset()
    run = dataset.find_run("dyna:ours")
    assert run is not None
    assert len(dataset.trajectories(run)) == 1
    assert list(temporary.iterdir()) == []
    assert list(hub.cache.rglob("*.pkl")) == []
    assert "%|" not in "".join(capfd.readouterr())


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own client waits 23 seconds in all between its tries: the tries are made, without it."""
    impatient = types.SimpleNamespace(sleep=lambda _: None, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(huggingface_hub.utils._http, "time", impatient)


@pytest.mark.usefixtures("no_pauses")
def test_a_hub_that_is_not_there_is_unavailable_and_worth_asking_again(tmp_path: Path) -> None:
    dataset = HubDataset(cache=tmp_path, endpoint="http://127.0.0.1:9")
    with pytest.raises(DatasetUnavailable, match="zhouzypaul/auto_eval cannot be read") as caught:
        dataset.find_run("dyna:ours")
    assert caught.value.retryable


def test_a_dataset_that_the_hub_does_not_have_is_unavailable(hub: Hub) -> None:
    with pytest.raises(DatasetUnavailable, match="somebody/else cannot be read"):
        hub.dataset(repo="somebody/else").find_run("dyna:ours")


@pytest.mark.parametrize("repo", ["", "a/b/c", "-x", "../etc"])
def test_a_name_that_is_no_dataset_is_unavailable(hub: Hub, repo: str) -> None:
    with pytest.raises(DatasetUnavailable):
        hub.dataset(repo=repo).find_run("dyna:ours")


@pytest.mark.parametrize(
    "answer",
    [
        Raw(401, b"{}"),
        Raw(403, b"{}"),
        Raw(500, b"oh"),
        Raw(200, b"<html>", "text/html"),
        Raw(200, b'[{"type": "file"}]'),
        Raw(200, b"[7]"),
    ],
    ids=["401", "403", "500", "html", "half a file", "a number"],
)
@pytest.mark.usefixtures("no_pauses")
def test_a_hub_that_refuses_or_babbles_is_unavailable(
    tmp_path: Path, answer: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    with running(FakeScheduler()) as fake, caplog.at_level(logging.CRITICAL):
        fake.faults["GET /api/datasets/zhouzypaul/auto_eval/tree/main/eval_data"] = [answer] * 50
        with pytest.raises(DatasetUnavailable):
            HubDataset(cache=tmp_path, endpoint=fake.url).find_run("dyna:ours")


def test_the_login_of_this_machine_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_machine")
    seen: list[str | None] = []
    with running(FakeScheduler()) as fake:
        fake.on_headers = lambda headers: seen.append(headers.get("Authorization"))
        fake.faults["GET /api/datasets/zhouzypaul/auto_eval/tree/main/eval_data"] = [Raw(200, b"[]")] * 2
        assert HubDataset(cache=tmp_path, endpoint=fake.url).find_run("x") is None
        assert HubDataset(cache=tmp_path, endpoint=fake.url, token="hf_given").find_run("x") is None
    assert seen == [None, "Bearer hf_given"]


# -- a folder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "eval_data"])
def test_a_folder_may_hold_the_runs_itself_or_below_eval_data(tmp_path: Path, below: str) -> None:
    put_run(tmp_path / below, "42", "dyna:ours")
    assert FolderDataset(tmp_path).find_run("dyna:ours") is not None


def test_links_and_stray_files_in_a_folder_are_passed_over(tmp_path: Path) -> None:
    outside = put_run(tmp_path / "outside", "42", "dyna:linked")
    inside = tmp_path / "inside"
    ours = put_run(inside, "43", "dyna:ours")
    (inside / "42").symlink_to(outside)
    (inside / "README.md").write_text("a copy of eval_data")
    (inside / "no run").mkdir()
    (inside / "44").mkdir()
    (outside / "traj_0.pkl").write_bytes(b"secret")
    (ours / "traj_0.pkl").symlink_to(outside / "traj_0.pkl")
    dataset = FolderDataset(inside)
    assert dataset.find_run("dyna:linked") is None
    run = dataset.find_run("dyna:ours")
    assert run is not None
    assert dataset.indices(run) == ()


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable, match="FileNotFoundError"):
        FolderDataset(tmp_path / "nowhere").find_run("dyna:ours")
