"""What robots bring is stored once, under the phase run's fence, with every verdict on it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from daemon.phases.sink import EpisodeSink, slot_metadata
from daemon.phases.slots import Slot, slots_of
from daemon.phases.todo import Todo
from robot_bridge.episode import Episode, EpisodeHeader, assemble
from robot_bridge.events import LabelAnswer
from storage import episodes, labels, phase_runs, replay
from storage.errors import LeaseLost
from storage.tables import EpisodeRow
from tests.daemon.conftest import START, build_episode
from tests.daemon.phases.conftest import Lab, wall_clock


def opened(lab: Lab) -> EpisodeSink:
    sink = EpisodeSink(lab.context("collect"))
    sink.slots = slots_of(lab.iteration_id, ("open_drawer",), episodes_per_task=2, held_out_every=2, seed=3)
    return sink


def an_episode_for(slot: Slot, *, attempt: int = 1, valid: bool = True, name: str | None = None) -> Episode:
    made = build_episode(attempt, task_id=slot.task_id)
    manifest = made.manifest
    header = {key: getattr(manifest, key) for key in EpisodeHeader.model_fields}
    header |= {
        "episode_id": name or slot.episode_id(attempt),
        "metadata": slot_metadata(slot),
        "valid_for": manifest.valid_for.model_copy(update={"policy_eval": valid}),
    }
    return assemble(EpisodeHeader(**header), steps=made.steps, frames=made.frames)


def stored(lab: Lab) -> list[EpisodeRow]:
    with lab.database.read() as session:
        return replay.select(session, replay.EpisodeQuery(origin="collect", valid_for_world_model=None))


def a_verdict(number: int = 1, *, success: bool = True) -> LabelAnswer:
    at = START + timedelta(minutes=number)
    return LabelAnswer(number=number, at=at, success=success, source="human", judge="operator")


def test_a_valid_episode_fills_its_slot_whatever_its_id_is(lab: Lab) -> None:
    sink = opened(lab)
    first, second = sink.slots
    sink.commit(an_episode_for(first))
    sink.commit(an_episode_for(second, name="job-1.attempt-4"))
    assert sink.wanted() == []


def test_an_episode_that_was_cut_short_fills_nothing_and_uses_up_its_try(lab: Lab) -> None:
    sink = opened(lab)
    sink.commit(an_episode_for(sink.slots[0], valid=False))
    assert [(wanted.slot.index, wanted.tries) for wanted in sink.wanted()] == [(0, (2, 3)), (1, (1, 2, 3))]


def test_the_same_episode_twice_is_one_row(lab: Lab) -> None:
    sink = opened(lab)
    for _ in range(2):
        sink.commit(an_episode_for(sink.slots[0]))
    (row,) = stored(lab)
    assert (row.iteration_id, row.held_out) == (lab.iteration_id, False)


def test_an_episode_of_an_earlier_iteration_finds_its_own(lab: Lab) -> None:
    before = opened(lab)
    late = an_episode_for(before.slots[1])
    lab.end(before.context, {})
    lab.request({"seed": 9, "tasks": ["open_drawer"]})
    sink = opened(lab)
    assert sink.is_ours(late.manifest)
    sink.commit(late)
    (row,) = stored(lab)
    assert (row.iteration_id, row.held_out) == (before.context.iteration_id, True)
    assert len(sink.wanted()) == 2


def test_an_episode_that_nobody_here_asked_for_is_not_ours(lab: Lab) -> None:
    assert not opened(lab).is_ours(build_episode().manifest)


def test_late_verdicts_are_added_once_and_a_humans_counts(lab: Lab) -> None:
    sink = opened(lab)
    episode = an_episode_for(sink.slots[0])
    sink.commit(episode)
    episode_id = episode.manifest.episode_id
    assert sink.add_labels(episode_id, [a_verdict(1, success=False)]) == 1
    assert sink.add_labels(episode_id, [a_verdict(1, success=False), a_verdict(2, success=False)]) == 1
    with lab.database.read() as session:
        assert len(labels.history(session, episode_id)) == 3
        counted = episodes.effective_label(session, episode_id)
    assert counted is not None
    assert (counted.source, counted.success) == ("human", False)


def test_a_verdict_on_an_episode_that_is_not_stored_waits_for_it(lab: Lab) -> None:
    assert opened(lab).add_labels("nobody-knows-it", [a_verdict()]) == 0


def test_who_lost_the_phase_run_stores_neither_episodes_nor_verdicts(lab: Lab) -> None:
    sink = opened(lab)
    episode = an_episode_for(sink.slots[0])
    sink.commit(episode)
    with lab.database.write() as session:
        phase_runs.cancel(session, lab.iteration_id, now=wall_clock())
    with pytest.raises(LeaseLost):
        sink.commit(an_episode_for(sink.slots[1]))
    with pytest.raises(LeaseLost):
        sink.add_labels(episode.manifest.episode_id, [a_verdict()])
    assert len(stored(lab)) == 1


def test_progress_is_the_share_of_all_robots_together(lab: Lab) -> None:
    sink = opened(lab)
    todo = Todo(sink.wanted(), total=2)
    todo.settle()
    sink.tell(todo, "somewhere in the middle")
    assert lab.told[-1] == (0.5, "somewhere in the middle")
