"""Which episodes an iteration wants, under which ids and seeds, and what is left to do after a crash."""

from __future__ import annotations

from uuid import UUID

import pytest

from daemon.phases.slots import MAX_TRIES, Slot, is_filled, leg_seed, scene_seed, slots_of, tries_left

ITERATION = "5a0f6a34-9df5-4a4e-9d86-2f5b6c2f5d11"
OTHER = "5a0f6a34-9df5-4a4e-9d86-2f5b6c2f5d12"


def some_slots(**changes: int) -> list[Slot]:
    wanted = {"episodes_per_task": 5, "held_out_every": 5, "seed": 1, **changes}
    return slots_of(ITERATION, ("open_drawer", "close_drawer"), **wanted)


def test_every_task_gets_its_episodes_and_tasks_take_turns() -> None:
    names = [slot.name for slot in some_slots(episodes_per_task=2)]
    assert names == ["open_drawer/0", "close_drawer/0", "open_drawer/1", "close_drawer/1"]


@pytest.mark.parametrize(("every", "held_out"), [(5, [4]), (2, [1, 3]), (3, [2]), (6, [])])
def test_every_nth_episode_of_a_task_is_held_out(every: int, held_out: list[int]) -> None:
    slots = [slot for slot in some_slots(held_out_every=every) if slot.task_id == "open_drawer"]
    assert [slot.index for slot in slots if slot.held_out] == held_out


def test_seeds_differ_between_tasks_indices_and_iterations_and_repeat_for_the_same_question() -> None:
    seeds = {scene_seed(s, task=t, index=i) for s in range(3) for t in ("a", "b") for i in range(20)}
    assert len(seeds) == 120
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert scene_seed(1, task="a", index=2) == scene_seed(1, task="a", index=2)


def test_a_trial_that_goes_on_meets_scenes_that_it_has_not_seen() -> None:
    legs = [{slot.seed for slot in some_slots(seed=leg_seed(1, leg))} for leg in range(4)]
    assert legs[0] == {slot.seed for slot in some_slots(seed=1)}, "the first leg's are those of the spec"
    assert len(set().union(*legs)) == 40
    assert leg_seed(1, 2) == leg_seed(1, 2) != leg_seed(2, 2)


def test_ids_are_the_same_for_every_attempt_at_the_phase_and_differ_in_all_else() -> None:
    ids = [slot.episode_id(attempt) for slot in some_slots() for attempt in (1, 2)]
    again = [slot.episode_id(attempt) for slot in some_slots() for attempt in (1, 2)]
    assert ids == again
    assert len(set(ids)) == 20
    assert all(UUID(episode_id) for episode_id in ids)
    elsewhere = slots_of(OTHER, ("open_drawer",), episodes_per_task=1, held_out_every=5, seed=1)
    assert elsewhere[0].episode_id(1) not in ids


def test_a_valid_episode_fills_a_slot_whichever_try_it_was() -> None:
    slot = some_slots()[0]
    assert is_filled(slot, {slot.episode_id(1): False, slot.episode_id(2): True})
    assert not is_filled(slot, {slot.episode_id(1): False})
    assert not is_filled(slot, {})


def test_tries_that_were_made_are_not_made_again() -> None:
    slot = some_slots()[0]
    assert tries_left(slot, {}) == list(range(1, MAX_TRIES + 1))
    assert tries_left(slot, {slot.episode_id(1): False}) == list(range(2, MAX_TRIES + 1))
    assert tries_left(slot, {slot.episode_id(n): False for n in range(1, MAX_TRIES + 1)}) == []


def test_episodes_of_another_iteration_fill_nothing_here() -> None:
    slot = some_slots()[0]
    other = slots_of(OTHER, ("open_drawer",), episodes_per_task=1, held_out_every=5, seed=1)[0]
    assert not is_filled(slot, {other.episode_id(1): True})
