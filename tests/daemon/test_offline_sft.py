"""`gymnastd sft`: which episodes are imitated, what is measured, and that its policy has to win."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.errors import NothingCollected
from daemon.learning.policy.policy import Policy
from daemon.learning.sft import SftConfig, train_policy
from daemon.offline_sft import Wanted, imitable, imitation_loss, sft_offline
from daemon.phases.arms import candidate, champion
from daemon.phases.clips import Shelf
from daemon.progress_bar import Bars
from daemon.settings import Settings
from daemon.stores import open_blobs, open_database
from storage import checkpoints, episodes, iterations
from storage.array_cache import ArrayCache
from storage.blobs import BlobStore
from storage.db import Database
from storage.episodes import Provenance
from storage.errors import RowMissing
from tests.daemon.learning.noise import a_clip
from tests.daemon.phases.conftest import Lab, tiny_installation, wall_clock
from tests.storage.conftest import build_episode, some_label

QUICK = SftConfig(updates=3, batch=8, lr=1e-3)
ALL = Wanted(origin="collect")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return tiny_installation(tmp_path, monkeypatch)


@pytest.fixture
def store(settings: Settings) -> Iterator[tuple[Database, BlobStore]]:
    settings.data_dir.mkdir()
    database, blobs = open_database(settings), open_blobs(settings)
    database.upgrade()
    yield database, blobs
    database.dispose()


def put(store: tuple[Database, BlobStore], *made: tuple[str, bool | None, bool]) -> list[str]:
    """Episodes of (task, success, held out); their ids."""
    database, blobs = store
    found = []
    for number, (task, success, held_out) in enumerate(made, 300):
        episode = build_episode(number, task_id=task, labels=(some_label(success),), steps=6)
        with database.write() as session:
            origin = Provenance(origin="collect", held_out=held_out)
            row, _ = episodes.commit(session, blobs, episode, provenance=origin, now=wall_clock())
        found.append(row.id)
    return found


def learned_from(store: tuple[Database, BlobStore], checkpoint_id: str) -> set[str]:
    with store[0].read() as session:
        return set(checkpoints.episode_ids(session, checkpoint_id))


def test_successes_are_imitated_and_held_out_ones_measured(
    settings: Settings, store: tuple[Database, BlobStore]
) -> None:
    ids = put(
        store,
        ("open_drawer", True, False), ("open_drawer", False, False), ("open_drawer", None, False),
        ("close_drawer", True, False), ("open_drawer", True, True),
    )  # fmt: skip
    lines: list[str] = []
    row = sft_offline(settings, ALL, config=QUICK, bars=Bars(say=lines.append, shown=False))
    assert lines[0] == "2 episodes to imitate, 1 held out"
    assert "nats per token" in lines[1]
    assert learned_from(store, row.id) == {ids[0], ids[3]}
    measured = row.card["sft"]
    assert measured["before"] != measured["after"]


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        (Wanted(origin="collect", tasks=["close_drawer"]), [2]),
        (Wanted(origin=None, failures=True), [0, 1, 2]),
        (Wanted(origin="collect", tasks=["open_drawer"], failures=True), [0, 1]),
    ],
)
def test_a_query_says_which(
    settings: Settings, store: tuple[Database, BlobStore], wanted: Wanted, places: list[int]
) -> None:
    ids = put(
        store, ("open_drawer", True, False), ("open_drawer", False, False), ("close_drawer", True, False)
    )
    row = sft_offline(settings, wanted, config=QUICK, bars=Bars(shown=False))
    assert learned_from(store, row.id) == {ids[place] for place in places}


def test_a_champion_imitates_its_own_lineage_unless_all_are_asked_for(
    settings: Settings, store: tuple[Database, BlobStore]
) -> None:
    database, blobs = store
    owners: list[str | None] = [None]
    for lineage in ("main", "arm-b"):
        with database.write() as session:
            spec, at = {"lineage": lineage}, wall_clock()
            row, _ = iterations.request_iteration(session, spec=spec, idempotency_key=None, now=at)
            owners.append(row.id)
    ids = []
    for number, owner in enumerate(owners, 300):
        episode = build_episode(number, task_id="open_drawer", labels=(some_label(True),), steps=6)
        origin = Provenance(origin="collect", held_out=False, iteration_id=owner)
        with database.write() as session:
            made, _ = episodes.commit(session, blobs, episode, provenance=origin, now=wall_clock())
        ids.append(made.id)
    shelf = Shelf(blobs=blobs, cache=ArrayCache(settings.data_dir / "cache"))
    for asked, places in (
        (Wanted(origin="collect"), [0, 1]),
        (Wanted(origin="collect", lineage="arm-b"), [0, 2]),
        (Wanted(origin="collect", lineage="arm-b", all_lineages=True), [0, 1, 2]),
    ):
        found = imitable(database, shelf, asked, size=16, held_out=False)
        assert [clip.episode_id for clip in found] == [ids[place] for place in places]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ((), "a success of origin collect of task open_drawr of lineage main"),
        ((("open_drawer", False, False),), "a success of origin collect"),
    ],
)
def test_nothing_to_imitate_is_said_and_nothing_is_kept(
    settings: Settings, store: tuple[Database, BlobStore], made: Any, said: str
) -> None:
    put(store, *made)
    with pytest.raises(NothingCollected, match=said):
        sft_offline(settings, replace(ALL, tasks=["open_drawr"]), config=QUICK, bars=Bars(shown=False))
    with store[0].read() as session:
        rows, _ = checkpoints.list_checkpoints(session, kind="policy")
    assert len(rows) == 1, "the base alone"


def test_one_that_is_no_champion_can_imitate_too(
    settings: Settings, store: tuple[Database, BlobStore]
) -> None:
    put(store, ("open_drawer", True, False))
    kept = sft_offline(settings, replace(ALL, keep_only=True), config=QUICK, bars=Bars(shown=False))
    other = sft_offline(settings, replace(ALL, keep_only=True), config=QUICK, bars=Bars(shown=False))
    for policy, parent in (("newest", other.id), (kept.id, kept.id)):
        wanted = replace(ALL, policy=policy, keep_only=True)
        assert sft_offline(settings, wanted, config=QUICK, bars=Bars(shown=False)).parent_id == parent
    with pytest.raises(RowMissing, match="no-such-policy"):
        sft_offline(settings, replace(ALL, policy="no-such-policy"), config=QUICK, bars=Bars(shown=False))


def test_imitating_lowers_the_loss_on_what_is_imitated(settings: Settings) -> None:
    policy = Policy.load(settings.data_dir.parent / "assets" / "nano" / "policy.safetensors")
    clips = [a_clip("a", steps=8, seed=1)]
    before = imitation_loss(policy, clips)
    train_policy(
        policy, clips, config=SftConfig(updates=30, batch=8, augment=None), on_update=lambda *_: None
    )
    assert imitation_loss(policy, clips) < before - 0.1


def test_the_command_can_answer_with_the_checkpoint_alone(
    settings: Settings, store: tuple[Database, BlobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, ("open_drawer", True, False), ("open_drawer", True, True))
    monkeypatch.setenv("GYMNASTD_DATA_DIR", str(settings.data_dir))
    done = CliRunner().invoke(app, ["sft", "--updates", "2", "--batch", "3", "--json"])
    assert done.exit_code == 0, done.output or done.exception
    made = json.loads(done.stdout)
    with store[0].read() as session:
        row = checkpoints.get(session, made["id"])
    assert (made["kind"], made["sha256"], made["parent_id"]) == ("policy", row.sha256, row.parent_id)
    assert (made["card"], made["card"]["sft"]["updates"]) == (row.card, 2)
    assert "1 episodes to imitate, 1 held out" in done.stderr


@pytest.mark.parametrize("keep_only", [False, True])
def test_what_comes_out_is_tried_against_the_champion_unless_it_is_only_to_be_kept(
    settings: Settings, store: tuple[Database, BlobStore], keep_only: bool
) -> None:
    put(store, ("open_drawer", True, False))
    wanted = Wanted(origin="collect", keep_only=keep_only)
    row = sft_offline(settings, wanted, config=QUICK, bars=Bars(shown=False))
    lab = Lab(database=store[0], blobs=store[1], station_url="http://127.0.0.1:9", folder=settings.data_dir)
    with store[0].write() as session:
        iteration, _ = iterations.request_iteration(session, spec={}, idempotency_key=None, now=wall_clock())
    lab.iteration_id = iteration.id
    context = lab.context("collect")
    now = champion(context)
    assert now.id == row.parent_id
    found = candidate(context, now)
    assert (found.id if found else None) == (None if keep_only else row.id)
