"""The model card: real successes with their intervals, the data by digest, the whole line."""

from datetime import datetime

from huggingface_hub import ModelCard

from daemon.hub.card import About, Rate, about, model_card, rates_of
from storage import checkpoints, iterations
from storage.blobs import BlobStore
from storage.checkpoints import NewCheckpoint
from storage.db import Database
from storage.episodes import Provenance, commit
from storage.tables import CheckpointRow


def a_row(number: int, now: datetime) -> CheckpointRow:
    return CheckpointRow(
        id=f"id-{number}", kind="policy", number=number, sha256="5" * 64, created_at=now, card={}
    )


def test_it_tells_successes_by_task_with_wilsons_interval_and_the_line(now):
    found = About(
        row=a_row(3, now),
        ancestry=[a_row(3, now), a_row(1, now)],
        success=[
            Rate(task="close_drawer", ends_early=False, successes=0, judged=0),
            Rate(task="open_drawer", ends_early=False, successes=9, judged=10),
            Rate(task="open_drawer", ends_early=True, successes=3, judged=3),
        ],
        episodes=12,
        data_digest="d" * 64,
    )
    lines = model_card(found, licence="mit").splitlines()
    assert "| open_drawer | at full length | 9/10 | 90 % | 60 to 98 % |" in lines
    assert "| open_drawer | where the judge saw success | 3/3 | 100 % | 44 to 100 % |" in lines
    assert "| close_drawer | at full length | 0/0 | unknown | 0 to 100 % |" in lines
    assert f"12 recorded episodes, sha256 over them `{'d' * 64}`." in lines
    assert lines[-2:] == ["1. Policy 3, `id-3`", "2. Policy 1, `id-1`"]


def test_the_hub_reads_each_rate_with_its_count_and_interval_from_the_header(now):
    rate = Rate(task='open: the "drawer"', ends_early=False, successes=9, judged=10)
    unknown = Rate(task="close_drawer", ends_early=False, successes=0, judged=0)
    row = a_row(3, now)
    told = About(row=row, ancestry=[row], success=[rate, unknown], episodes=0, data_digest=None)
    read = ModelCard(model_card(told, licence="mit")).data
    (result,) = read.eval_results
    assert read.model_name == "Policy 3"
    assert read.license == "mit"
    assert (result.task_type, result.task_name) == ("robotics", rate.task)
    assert result.dataset_name == "real episodes, ended at full length"
    assert (result.metric_type, result.metric_value) == ("success_rate", 0.9)
    assert result.metric_name == "9 of 10, Wilson 95 % interval 60 to 98 %"
    assert result.metric_args == {
        "successes": 9, "episodes": 10, "wilson_low": 0.5958, "wilson_high": 0.9821
    }  # fmt: skip


def test_where_nothing_was_measured_the_header_has_no_results(now):
    row = a_row(3, now)
    card = model_card(About(row=row, ancestry=[row], success=[], episodes=0, data_digest=None), licence="mit")
    assert "model-index" not in card


def test_rates_of_both_rules_of_ending_are_kept_apart(
    database: Database, blobs: BlobStore, now, tmp_path, an_episode
) -> None:
    file = tmp_path / "policy"
    file.write_bytes(b"weights")
    with database.write() as session:
        new = NewCheckpoint(kind="policy", spec_digest="0" * 64)
        acted = checkpoints.save(session, blobs, new, file=file, now=now)
        for number, spec in enumerate(({}, {"stop_on_success": True}, {}), start=1):
            row, _ = iterations.request_iteration(session, spec=spec, idempotency_key=None, now=now)
            origin = Provenance(origin="collect", checkpoint_id=acted.id, iteration_id=row.id)
            commit(session, blobs, an_episode(number, success=number > 1), provenance=origin, now=now)
    with database.read() as session:
        assert rates_of(session, acted.id) == [
            Rate(task="open_drawer", ends_early=False, successes=1, judged=2),
            Rate(task="open_drawer", ends_early=True, successes=1, judged=1),
        ]


def test_what_is_known_comes_from_the_store(
    database: Database, blobs: BlobStore, now, tmp_path, an_episode
) -> None:
    file = tmp_path / "policy"
    file.write_bytes(b"weights")
    with database.write() as session:
        acted = checkpoints.save(
            session, blobs, NewCheckpoint(kind="policy", spec_digest="0" * 64), file=file, now=now
        )
        origin = Provenance(origin="collect", checkpoint_id=acted.id)
        rows = [
            commit(session, blobs, an_episode(n, success=n > 1), provenance=origin, now=now)[0]
            for n in (1, 2)
        ]
        file.write_bytes(b"more weights")
        new = NewCheckpoint(
            kind="policy", spec_digest="0" * 64, parent_id=acted.id, episode_ids=[row.id for row in rows]
        )
        child = checkpoints.save(session, blobs, new, file=file, now=now)
    with database.read() as session:
        parent, found = about(session, acted), about(session, child)
    assert parent.success == [Rate(task="open_drawer", ends_early=False, successes=1, judged=2)]
    assert (parent.episodes, parent.data_digest) == (0, None)
    assert found.success == []
    assert found.episodes == 2
    assert len(found.data_digest or "") == 64
    assert [row.id for row in found.ancestry] == [child.id, acted.id]
