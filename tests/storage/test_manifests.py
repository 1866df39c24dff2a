"""Manifests of phase runs: kept as text, found by phase, and the digests of tensors beside them."""

from datetime import datetime, timedelta
from hashlib import sha256

import pytest

from storage import checkpoints, manifests, phase_runs
from storage.db import Database
from storage.errors import NotJson


@pytest.fixture
def runs(database: Database, an_iteration, now: datetime):
    """Queue attempts at a phase of one iteration, each ended in the given state; gives their ids."""
    row = an_iteration(seed=1)

    def attempted(phase: str, *states: str) -> list[str]:
        ids = []
        for state in states:
            with database.write() as session:
                ids.append(phase_runs.queue(session, row, phase=phase, now=now).id)
                phase_runs.get(session, ids[-1]).state = state
        return ids

    return row.id, attempted


def save(database: Database, run_id: str, content: dict, now: datetime):
    with database.write() as session:
        return manifests.save(session, run_id, content, now=now)


def found(database: Database, iteration_id: str):
    with database.read() as session:
        return manifests.of_iteration(session, iteration_id)


def test_equal_manifests_have_equal_texts_and_digests_on_both_databases(database, runs, now):
    iteration_id, attempted = runs
    (run_id,) = attempted("collect", "finished")
    row = save(database, run_id, {"b": [1, 2.5e-05, "ä"], "a": {"z": None, "y": True}}, now)
    kept = found(database, iteration_id)["collect"].manifest
    assert kept.content == '{"a":{"y":true,"z":null},"b":[1,2.5e-05,"\\u00e4"]}'
    assert kept.sha256 == row.sha256 == sha256(kept.content.encode()).hexdigest()
    assert kept.written_at == now


def test_a_run_that_begins_anew_replaces_what_it_kept(database, runs, now):
    iteration_id, attempted = runs
    (run_id,) = attempted("collect", "running")
    save(database, run_id, {"seed": 1}, now)
    save(database, run_id, {"seed": 2}, now + timedelta(seconds=5))
    kept = found(database, iteration_id)["collect"].manifest
    assert (kept.content, kept.written_at) == ('{"seed":2}', now + timedelta(seconds=5))


@pytest.mark.parametrize(
    ("states", "counts"),
    [
        (("failed", "finished"), 2),
        (("finished", "abandoned"), 1),  # a later attempt that ended badly hides nothing
        (("failed", "running"), 2),
    ],
)
def test_of_several_attempts_the_finished_one_counts_else_the_last(database, runs, now, states, counts):
    iteration_id, attempted = runs
    for number, run_id in enumerate(attempted("update_policy", *states), 1):
        save(database, run_id, {"attempt": number}, now)
    kept = found(database, iteration_id)
    assert list(kept) == ["update_policy"]
    assert kept["update_policy"].run.attempt == counts
    assert kept["update_policy"].manifest.content == f'{{"attempt":{counts}}}'


def test_phases_without_a_manifest_are_absent_and_other_iterations_apart(database, runs, an_iteration, now):
    iteration_id, attempted = runs
    attempted("collect", "finished")
    (run_id,) = attempted("finetune_world_model", "finished")
    save(database, run_id, {}, now)
    assert list(found(database, iteration_id)) == ["finetune_world_model"]
    assert found(database, an_iteration(seed=2).id) == {}


def test_what_json_cannot_hold_is_refused(database, runs, now):
    (run_id,) = runs[1]("collect", "running")
    with pytest.raises(NotJson, match=f"the manifest of phase run {run_id}"):
        save(database, run_id, {"error": float("nan")}, now)


def test_tensors_are_known_for_the_checkpoints_that_have_a_digest(database, blobs, tmp_path, now):
    ids = []
    for number in range(2):
        file = tmp_path / f"{number}.safetensors"
        file.write_bytes(b"weights %d" % number)
        new = checkpoints.NewCheckpoint(kind="judge", spec_digest="0" * 64)
        with database.write() as session:
            ids.append(checkpoints.save(session, blobs, new, file=file, now=now).id)
    with database.write() as session:
        manifests.note_tensors(session, ids[1], "a" * 64)
    with database.read() as session:
        assert manifests.tensor_digests(session, ids) == {ids[1]: "a" * 64}
        assert manifests.tensor_digests(session, []) == {}
