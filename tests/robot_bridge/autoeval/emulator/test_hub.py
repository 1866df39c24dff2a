"""The dataset as Hugging Face's own library reads it."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path

import pytest
import requests
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from robot_bridge.autoeval.emulator.hub import Hub, listing
from robot_bridge.autoeval.emulator.quirks import Quirks
from tests.robot_bridge.autoeval.emulator.conftest import Emulated
from tests.robot_bridge.autoeval.emulator.records import metadata, the_run, trajectory

DATASET = "zhouzypaul/auto_eval"


@pytest.fixture
def evaluated(emulate) -> Emulated:
    """An emulator after a job of two episodes."""
    emulated = emulate()
    assert emulated.ended(emulated.submit(num_episodes=2))["status"] == "completed"
    return emulated


def put(temporary: Path, name: str, content: bytes = b"x") -> Path:
    file = temporary / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_the_library_lists_all_files_of_the_dataset(evaluated):
    run = the_run(evaluated.root)
    files = HfApi(endpoint=evaluated.url).list_repo_files(DATASET, repo_type="dataset")
    names = ["metadata.json", "traj_0.pkl", "traj_1.pkl"]
    assert files == [f"eval_data/{run.name}/{name}" for name in names]


def test_the_library_walks_the_tree_folder_by_folder(evaluated):
    run = the_run(evaluated.root)
    api = HfApi(endpoint=evaluated.url)
    top = list(api.list_repo_tree(DATASET, repo_type="dataset"))
    assert [(entry.path, type(entry).__name__) for entry in top] == [("eval_data", "RepoFolder")]
    runs = list(api.list_repo_tree(DATASET, "eval_data", repo_type="dataset"))
    assert [entry.path for entry in runs] == [f"eval_data/{run.name}"]
    files = list(api.list_repo_tree(DATASET, f"eval_data/{run.name}", repo_type="dataset"))
    assert [entry.path.rsplit("/", 1)[1] for entry in files] == ["metadata.json", "traj_0.pkl", "traj_1.pkl"]
    assert [entry.size for entry in files] == [path.stat().st_size for path in sorted(run.iterdir())]
    pickle = files[1]
    assert pickle.lfs.sha256 == hashlib.sha256((run / "traj_0.pkl").read_bytes()).hexdigest()
    assert files[0].lfs is None


def test_the_library_downloads_what_was_recorded(evaluated, tmp_path):
    run = the_run(evaluated.root)
    for name in ("metadata.json", "traj_1.pkl"):
        local = hf_hub_download(
            DATASET,
            f"eval_data/{run.name}/{name}",
            repo_type="dataset",
            endpoint=evaluated.url,
            cache_dir=tmp_path / "cache",
        )
        assert Path(local).read_bytes() == (run / name).read_bytes()
    assert len(trajectory(Path(local))["action"]) == 2


def test_the_library_downloads_a_commit(evaluated, tmp_path):
    commit = HfApi(endpoint=evaluated.url).repo_info(DATASET, repo_type="dataset").sha
    run = the_run(evaluated.root)
    local = hf_hub_download(
        DATASET,
        f"eval_data/{run.name}/metadata.json",
        repo_type="dataset",
        revision=commit,
        endpoint=evaluated.url,
        cache_dir=tmp_path / "cache",
    )
    assert metadata(Path(local).parent)["eval_name"] == "a job"
    assert commit in local


def test_a_commit_changes_with_the_files_and_old_ones_stay_known(evaluated):
    api = HfApi(endpoint=evaluated.url)
    before = api.dataset_info(DATASET)
    assert re.fullmatch("[0-9a-f]{40}", before.sha)
    assert api.dataset_info(DATASET).sha == before.sha
    evaluated.ended(evaluated.submit())
    after = api.dataset_info(DATASET)
    assert after.sha != before.sha
    assert len(after.siblings) == len(before.siblings) + 2
    assert api.list_repo_files(DATASET, repo_type="dataset", revision=before.sha)


def test_what_is_not_there_is_told_in_the_librarys_words(evaluated, tmp_path):
    api = HfApi(endpoint=evaluated.url)
    with pytest.raises(RepositoryNotFoundError):
        api.list_repo_files("somebody/else", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.list_repo_files(DATASET, repo_type="dataset", revision="0" * 40)
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(DATASET, "eval_data/0", repo_type="dataset"))
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(
            DATASET,
            "eval_data/0/metadata.json",
            repo_type="dataset",
            endpoint=evaluated.url,
            cache_dir=tmp_path / "cache",
        )


def test_an_empty_dataset_is_one(emulate):
    emulated = emulate()
    api = HfApi(endpoint=emulated.url)
    assert api.list_repo_files(DATASET, repo_type="dataset") == []
    assert re.fullmatch("[0-9a-f]{40}", api.dataset_info(DATASET).sha)


def test_a_head_has_the_size_and_no_content(evaluated):
    run = the_run(evaluated.root)
    url = f"{evaluated.url}/datasets/{DATASET}/resolve/main/eval_data/{run.name}/traj_0.pkl"
    head = requests.head(url, timeout=20)
    content = (run / "traj_0.pkl").read_bytes()
    assert head.content == b""
    assert int(head.headers["Content-Length"]) == len(content)
    assert head.headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert re.fullmatch("[0-9a-f]{40}", head.headers["X-Repo-Commit"])
    part = requests.get(url, headers={"Range": "bytes=10-19"}, timeout=20)
    assert (part.status_code, part.content) == (206, content[10:20])


@pytest.mark.parametrize("path", ["../database.db", "eval_data/../../admin_api_key.txt", "tmp"])
def test_only_the_dataset_can_be_read(evaluated, path):
    url = f"{evaluated.url}/datasets/{DATASET}/resolve/main/{path.replace('/', '%2F')}"
    assert requests.get(url, timeout=20).status_code == 404


def test_a_long_listing_comes_in_pages_that_the_library_follows(emulate):
    emulated = emulate(hub_page=2)
    emulated.ended(emulated.submit(num_episodes=3))
    answer = emulated.get(f"/api/datasets/{DATASET}/tree/main", recursive=True)
    assert len(answer.json()) == 2
    assert 'rel="next"' in answer.headers["Link"]
    assert len(HfApi(endpoint=emulated.url).list_repo_files(DATASET, repo_type="dataset")) == 4


def test_a_file_comes_late(tmp_path):
    file = put(tmp_path, "17/traj_0.pkl")
    hub = Hub(tmp_path, quirks=Quirks(upload_delay_s=60.0))
    assert hub.files() == {}
    a_minute_ago = time.time() - 61.0
    os.utime(file, (a_minute_ago, a_minute_ago))
    assert list(hub.files()) == ["eval_data/17/traj_0.pkl"]


def test_an_upload_can_get_lost_and_the_job_completes_all_the_same(emulate):
    emulated = emulate(lost_uploads=frozenset({"traj_1.pkl"}))
    assert emulated.ended(emulated.submit(num_episodes=3))["status"] == "completed"
    files = HfApi(endpoint=emulated.url).list_repo_files(DATASET, repo_type="dataset")
    assert [path.rsplit("/", 1)[1] for path in files] == ["metadata.json", "traj_0.pkl", "traj_2.pkl"]
    assert (the_run(emulated.root) / "traj_1.pkl").exists()  # it is only on the host


def test_the_name_of_a_run_can_get_lost_too(emulate):
    emulated = emulate(lost_uploads=frozenset({"metadata.json"}))
    emulated.ended(emulated.submit())
    (only,) = HfApi(endpoint=emulated.url).list_repo_files(DATASET, repo_type="dataset")
    assert only.endswith("traj_0.pkl")


def test_a_file_that_is_still_being_written_is_not_there(tmp_path):
    put(tmp_path, "17/.traj_0.pkl.new")
    assert Hub(tmp_path, quirks=Quirks()).files() == {}


def test_a_file_that_is_written_again_has_another_etag(tmp_path):
    hub = Hub(tmp_path, quirks=Quirks())
    file = put(tmp_path, "17/traj_0.pkl", b"one")
    before = hub.files()["eval_data/17/traj_0.pkl"].etag
    put(tmp_path, "17/traj_0.pkl", b"two")
    os.utime(file, ns=(1, 1))
    assert hub.files()["eval_data/17/traj_0.pkl"].etag != before


def test_a_small_file_has_gits_own_digest_and_a_pickle_a_sha256(tmp_path):
    put(tmp_path, "17/metadata.json", b"{}")
    put(tmp_path, "17/traj_0.pkl", b"{}")
    small, large = Hub(tmp_path, quirks=Quirks()).files().values()
    assert small.etag == hashlib.sha1(b"blob 2\0{}", usedforsecurity=False).hexdigest()
    assert large.etag == hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize(
    ("path", "recursive", "expected"),
    [
        ("", False, ["eval_data"]),
        ("eval_data", False, ["eval_data/17", "eval_data/18"]),
        ("eval_data/17", False, ["eval_data/17/a.json", "eval_data/17/b.pkl"]),
        ("eval_data/1", False, []),
        (
            "eval_data",
            True,
            [
                *("eval_data/17", "eval_data/17/a.json", "eval_data/17/b.pkl"),
                *("eval_data/18", "eval_data/18/a.json"),
            ],
        ),
        ("eval_data/17/a.json", False, []),
    ],
)
def test_a_listing_has_a_folders_own_entries_or_those_of_every_depth(tmp_path, path, recursive, expected):
    for name in ("17/a.json", "17/b.pkl", "18/a.json"):
        put(tmp_path, name)
    files = Hub(tmp_path, quirks=Quirks()).files()
    assert [entry["path"] for entry in listing(files, path=path, recursive=recursive)] == expected
