"""State machines: the transitions that exist, and none other."""

from datetime import datetime, timedelta
from itertools import product

import pytest

from storage.errors import IllegalMove
from storage.states import AUTOEVAL_JOB_MOVES, ITERATION_MOVES, PHASE_RUN_MOVES, is_final, move
from storage.tables import AutoEvalJobRow, IterationRow, PhaseRunRow

LEGAL_ITERATION = {
    ("requested", "running"),
    ("requested", "failed"),
    ("requested", "cancelled"),
    ("requested", "paused"),
    ("running", "paused"),
    ("paused", "requested"),
    ("paused", "running"),
    ("paused", "cancelled"),
    ("failed", "requested"),
    ("running", "finished"),
    ("running", "failed"),
    ("running", "cancelled"),
}
LEGAL_PHASE_RUN = {
    ("queued", "running"),
    ("queued", "abandoned"),
    ("queued", "skipped"),
    ("running", "finished"),
    ("running", "failed"),
    ("running", "abandoned"),
    ("running", "skipped"),
}

LEGAL_AUTOEVAL_JOB = {
    ("planned", "submitting"),
    ("planned", "failed"),
    ("planned", "cancelled"),
    ("submitting", "queued"),
    ("queued", "running"),
    ("queued", "draining"),
    ("running", "draining"),
    ("draining", "joined"),
    ("draining", "partial"),
}
LEGAL_AUTOEVAL_JOB |= {
    (old, new)
    for old in ("submitting", "queued", "running", "draining")
    for new in ("failed", "cancelled", "lost")
}
LEGAL = {
    IterationRow: LEGAL_ITERATION,
    PhaseRunRow: LEGAL_PHASE_RUN,
    AutoEvalJobRow: LEGAL_AUTOEVAL_JOB,
}


def row_in(kind: type, state: str) -> IterationRow | PhaseRunRow | AutoEvalJobRow:
    if kind is AutoEvalJobRow:
        return AutoEvalJobRow(id="the-id", task_id="open_drawer", state=state)
    if kind is IterationRow:
        return IterationRow(id="the-id", number=7, state=state)
    return PhaseRunRow(id="the-id", phase="collect", attempt=2, state=state)


CASES = [(IterationRow, old, new) for old, new in product(ITERATION_MOVES, repeat=2)]
CASES += [(PhaseRunRow, old, new) for old, new in product(PHASE_RUN_MOVES, repeat=2)]
CASES += [(AutoEvalJobRow, old, new) for old, new in product(AUTOEVAL_JOB_MOVES, repeat=2)]


@pytest.mark.parametrize(("kind", "old", "new"), CASES)
def test_a_row_moves_along_the_machine_and_nowhere_else(
    kind: type, old: str, new: str, now: datetime
) -> None:
    row = row_in(kind, old)
    if (old, new) in LEGAL[kind]:
        move(row, new, now=now)
        assert row.state == new
        return
    with pytest.raises(IllegalMove, match=f"cannot go from {old} to {new}"):
        move(row, new, now=now)
    assert row.state == old
    assert row.started_at is None
    assert row.finished_at is None


def test_running_notes_the_start_and_not_the_end(now: datetime) -> None:
    row = row_in(IterationRow, "requested")
    move(row, "running", now=now)
    assert (row.started_at, row.finished_at) == (now, None)


def test_a_resumed_iteration_keeps_its_start_and_has_no_wish_left(now: datetime) -> None:
    row = row_in(IterationRow, "requested")
    move(row, "running", now=now)
    row.wish = "pause"
    move(row, "paused", now=now + timedelta(hours=1))
    assert (row.wish, row.finished_at) == (None, None), "paused is not over"
    move(row, "running", now=now + timedelta(hours=2))
    assert row.started_at == now


def test_an_iteration_that_is_tried_again_has_neither_start_nor_end(now: datetime) -> None:
    row = row_in(IterationRow, "running")
    row.started_at = now
    move(row, "failed", now=now)
    assert is_final(row), "it does not move by itself"
    assert row.finished_at == now
    move(row, "requested", now=now)
    assert (row.started_at, row.finished_at) == (None, None)


@pytest.mark.parametrize("state", ["finished", "failed", "abandoned", "skipped"])
def test_a_final_state_notes_the_end(state: str, now: datetime) -> None:
    row = row_in(PhaseRunRow, "running")
    move(row, state, now=now)
    assert row.finished_at == now
    assert is_final(row)


@pytest.mark.parametrize(
    ("kind", "state"),
    [(IterationRow, state) for state in ("requested", "running", "paused")] + [(PhaseRunRow, "queued")],
)
def test_a_state_with_a_way_out_is_not_final(kind: type, state: str) -> None:
    assert not is_final(row_in(kind, state))


def test_an_unknown_state_is_no_way_out(now: datetime) -> None:
    with pytest.raises(IllegalMove):
        move(row_in(IterationRow, "running"), "asleep", now=now)


def test_the_refusal_names_the_row_and_what_it_may_become(now: datetime) -> None:
    with pytest.raises(IllegalMove, match=r"iteration 7 \(the-id\).*may become running, paused"):
        move(row_in(IterationRow, "requested"), "finished", now=now)
    with pytest.raises(IllegalMove, match=r"phase run the-id \(collect, attempt 2\).*nothing, it is final"):
        move(row_in(PhaseRunRow, "finished"), "running", now=now)
    with pytest.raises(IllegalMove, match=r"AutoEval job the-id \(open_drawer\) cannot go from joined"):
        move(row_in(AutoEvalJobRow, "joined"), "running", now=now)


def test_every_state_can_be_reached_from_the_first() -> None:
    machines = (
        (ITERATION_MOVES, "requested"),
        (PHASE_RUN_MOVES, "queued"),
        (AUTOEVAL_JOB_MOVES, "planned"),
    )
    for moves, first in machines:
        reached, frontier = {first}, [first]
        while frontier:
            new = set(moves[frontier.pop()]) - reached
            reached |= new
            frontier += new
        assert reached == set(moves)
