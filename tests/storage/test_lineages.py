"""Lineages: each takes turns with itself alone, and has its own champion, episodes and counts."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from storage import (
    checkpoints,
    iterations,
    ledger,
    lineages,
    phase_runs,
    replay,
    station_hours,
    steering,
    success_counts,
    trials,
)
from storage.blobs import BlobStore
from storage.db import Database
from storage.events import after
from storage.lineages import MAIN
from storage.states import move
from storage.success_counts import CountQuery
from storage.tables import CheckpointRow, IterationRow

Ask = Callable[..., IterationRow]


@pytest.fixture
def save(database: Database, blobs: BlobStore, tmp_path: Path, now: datetime) -> Callable[..., CheckpointRow]:
    """Keep one more policy."""

    def keep(**known: object) -> CheckpointRow:
        file = tmp_path / "policy"
        file.write_bytes(repr(known).encode())
        new = checkpoints.NewCheckpoint(kind="policy", spec_digest="5" * 64, **known)  # type: ignore[arg-type]
        with database.write() as session:
            return checkpoints.save(session, blobs, new, file=file, now=now)

    return keep


def decide(database: Database, row: IterationRow, old: str, new: str, now: datetime, decision: str) -> None:
    trial = trials.NewTrial(
        iteration_id=row.id, champion_id=old, candidate_id=new, decision=decision, evidence={}
    )
    with database.write() as session:
        trials.save(session, trial, now=now)


def test_an_iteration_is_of_the_lineage_that_its_spec_names_and_of_main_without(
    database: Database, an_iteration: Ask
) -> None:
    assert [an_iteration().lineage, an_iteration(lineage="b").lineage] == [MAIN, "b"]
    with database.read() as session:
        assert lineages.names(session) == ["b", "main"]
        (first, second), _ = iterations.list_iterations(session)
        assert lineages.of_iterations(session, [first.id, second.id]) == {first.id: "b", second.id: "main"}


def test_lists_tell_of_one_lineage_where_it_is_asked_for(database: Database, an_iteration: Ask) -> None:
    for name in ("b", "main", "b", "main"):
        an_iteration(lineage=name)
    with database.read() as session:
        pages = []
        cursor = None
        for _ in range(2):
            rows, cursor = iterations.list_iterations(session, lineage="b", cursor=cursor, limit=1)
            pages.append([row.number for row in rows])
        assert (pages, cursor) == ([[3], [1]], None)
        assert [number for _, number in iterations.list_numbers(session, lineage="main")[0]] == [4, 2]
        assert iterations.list_iterations(session, lineage="nobody's") == ([], None)


def test_every_lineage_has_a_turn_of_its_own_and_a_pause_holds_only_its_own(
    database: Database, an_iteration: Ask, now: datetime
) -> None:
    rows = [an_iteration(lineage=name) for name in ("a", "b", "a", "b")]
    with database.write() as session:
        move(iterations.get(session, rows[3].id), "running", now=now)
        steering.pause(session, rows[0].id, now=now)
    with database.read() as session:
        assert [row.number for row in iterations.turns(session)] == [4, 1]  # 4 has begun, 1 keeps its place
    with database.write() as session:
        iterations.cancel(session, rows[0].id, now=now)
        iterations.cancel(session, rows[3].id, now=now)
    with database.read() as session:
        assert [row.number for row in iterations.turns(session)] == [2, 3]


def test_the_champion_of_a_lineage_is_never_seen_by_another(
    database: Database, an_iteration: Ask, save: Callable[..., CheckpointRow], now: datetime
) -> None:
    a, b = an_iteration(lineage="a"), an_iteration(lineage="b")
    base, of_a, of_b = save().id, save(iteration_id=a.id).id, save(iteration_id=b.id).id
    decide(database, a, base, of_a, now, "promoted")
    decide(database, b, base, of_b, now, "rejected")
    with database.read() as session:
        goes_on = {name: row and row.goes_on_id for name in "abc" if (row := trials.latest(session, name))}
        assert goes_on == {"a": of_a, "b": base}
        assert trials.latest(session, MAIN) is None
        assert [trials.was_tried(session, of_a, lineage=name) for name in "ab"] == [True, False]
        crowned = [trials.crowning(session, of_a, lineage=name) for name in "ab"]
        assert [row and row.candidate_id for row in crowned] == [of_a, None]


def test_a_decision_of_no_iteration_is_mains(
    database: Database, save: Callable[..., CheckpointRow], now: datetime
) -> None:
    old, new = save().id, save(card={"second": True}).id
    trial = trials.NewTrial(
        iteration_id=None, champion_id=old, candidate_id=new, decision="promoted", evidence={}
    )
    with database.write() as session:
        trials.save(session, trial, now=now)
        assert trials.latest(session, MAIN) is not None
        assert trials.latest(session, "b") is None


def test_a_checkpoint_has_the_lineage_of_its_iteration_and_the_base_is_anybodys(
    database: Database, an_iteration: Ask, save: Callable[..., CheckpointRow]
) -> None:
    b = an_iteration(lineage="b")
    base, made, brought = save(), save(iteration_id=b.id, lineage="ignored"), save(lineage="c")
    assert [row.lineage for row in (base, made, brought)] == [None, "b", "c"]
    with database.read() as session:
        for name, expected in (("b", [made, base]), ("c", [brought, base]), (MAIN, [base])):
            rows, _ = checkpoints.list_checkpoints(session, lineage=name)
            assert [row.id for row in rows] == [row.id for row in expected]


def test_episodes_and_counts_of_a_lineage_leave_others_out(
    database: Database, an_iteration: Ask, committed: Callable, an_episode: Callable, a_label: Callable
) -> None:
    a, b = an_iteration(lineage="a"), an_iteration(lineage="b")
    committed(an_episode(1, labels=(a_label(True),)), iteration_id=a.id)
    committed(an_episode(2, labels=(a_label(False),)), iteration_id=b.id)
    committed(an_episode(3, labels=(a_label(True),)))  # of no iteration: main's
    with database.read() as session:
        for name, episode, won in (("a", 1, 1), ("b", 2, 0), (MAIN, 3, 1)):
            (row,) = replay.select(session, replay.EpisodeQuery(origin="collect", lineage=name))
            assert int(row.id.rpartition("-")[2]) == episode
            (counted,), _ = success_counts.grouped(session, CountQuery(lineage=name))
            assert (counted.successes, counted.judged) == (won, 1)
            since = CountQuery(lineage=name, since=row.started_at)
            assert success_counts.grouped(session, since)[0][0].judged == 1
        assert success_counts.grouped(session, CountQuery(lineage="c")) == ([], None)


def test_the_judged_iteration_before_one_is_of_its_lineage(
    database: Database, an_iteration: Ask, committed: Callable, an_episode: Callable
) -> None:
    a, b = an_iteration(lineage="a"), an_iteration(lineage="b")
    for number, row in enumerate((a, b), 1):
        committed(an_episode(number), iteration_id=row.id)
    with database.read() as session:
        assert ledger.judged_before(session, 3, lineage="a") == (a.id, 1)
        assert ledger.judged_before(session, 2, lineage="b") is None


def test_who_collects_now_is_told_across_lineages_in_the_order_of_their_beginning(
    database: Database, an_iteration: Ask, now: datetime
) -> None:
    claims = {}
    for place, name in enumerate("bac"):
        row = an_iteration(lineage=name)
        phase = "update_policy" if name == "c" else "collect"
        at = now - timedelta(seconds=place)  # the later asked for began earlier
        with database.write() as session:
            phase_runs.queue(session, iterations.get(session, row.id), phase=phase, now=at)
            claims[row.number] = phase_runs.claim(session, name, ttl_s=60, now=at)
    with database.write() as session:
        found = station_hours.collecting(session)
        assert [(one.number, one.phase_run_id) for one in found] == [
            (number, claims[number].phase_run_id) for number in (2, 1)
        ]
        phase_runs.finish(session, claims[2], outcome={}, now=now)
        assert [one.number for one in station_hours.collecting(session)] == [1]


def test_an_event_says_of_which_lineage_it_is_unless_of_main(database: Database, an_iteration: Ask) -> None:
    an_iteration()
    an_iteration(lineage="b")
    with database.read() as session:
        assert [event.facts.get("lineage") for event in after(session, 0)] == [None, "b"]
