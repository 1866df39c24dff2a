"""Trials of real phases: who acts, in which order, who goes on, and that a worse champion goes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from daemon.learning.policy.policy import AdaptersUnknown, new_policy
from daemon.phases import collect, update_policy
from daemon.phases.arms import Arms, candidate, champion, load_arms, record
from daemon.phases.context import PhaseContext
from daemon.phases.manifest import write_manifest
from daemon.phases.referee import Referee, roll_back
from daemon.phases.sink import slot_metadata
from daemon.phases.slots import slots_of
from daemon.phases.todo import Todo, Wanted
from storage import episodes, replay, trials
from storage.episodes import Provenance
from storage.tables import CheckpointRow
from tests.daemon.phases.conftest import SMALL, Lab, keep_checkpoint, make_policy, wall_clock
from tests.robot_bridge.toy_driver import TASKS
from tests.storage.conftest import build_episode, some_label

Counts = Mapping[str, tuple[int, int]]  # task: successes, episodes


@pytest.fixture
def acted(lab: Lab) -> Callable[[CheckpointRow, Counts], None]:
    """Put judged episodes of a policy into the store, as if the robot had run them in this iteration."""
    number = iter(range(1000, 100_000))

    def put(row: CheckpointRow, counts: Counts, *, station: str = "cell-1") -> None:
        for task, (won, judged) in counts.items():
            for index in range(judged):
                verdict = some_label(index < won)
                episode = build_episode(next(number), task_id=task, station_id=station, labels=(verdict,))
                origin = Provenance(origin="collect", iteration_id=lab.iteration_id, checkpoint_id=row.id)
                with lab.database.write() as session:
                    episodes.commit(session, lab.blobs, episode, provenance=origin, now=wall_clock())

    return put


def brought_in(lab: Lab) -> str:
    """One more policy, from outside."""
    number = len(lab.told)
    lab.told.append((0.0, "one more policy"))
    file = lab.folder / f"from-outside-{number}.safetensors"
    new_policy(tuple(TASKS.values()), seed=200 + number, width=16, layers=1).save(file, {})
    return keep_checkpoint(lab.database, lab.blobs, "policy", file).id


def a_trial(lab: Lab, **trial: Any) -> tuple[PhaseContext, Arms]:
    """An iteration in which a new policy is to be tried."""
    make_policy(lab)
    lab.request({**SMALL, "seed": len(lab.told), "trial": trial})
    context = lab.context("collect")
    return context, load_arms(context)


def a_referee(context: PhaseContext, arms: Arms) -> Referee:
    return Referee(context, arms, conditions={}, planned={"open_drawer": 12})


def decisions(lab: Lab) -> list[str]:
    with lab.database.read() as session:
        return [row.decision for row in trials.of_iteration(session, lab.iteration_id)]


def test_the_first_champion_is_the_base_and_nobody_challenges_it(lab: Lab) -> None:
    context = lab.context("collect")
    arms = load_arms(context)
    assert arms.candidate is None
    assert a_referee(context, arms).conclude() is None
    assert decisions(lab) == []


def test_what_an_update_made_is_tried_against_the_one_it_came_from(lab: Lab) -> None:
    base = champion(lab.context("collect"))
    made = make_policy(lab)
    lab.request({**SMALL, "seed": 4})
    outcome = lab.do("collect", collect.run)
    assert outcome["acted"] == {"champion": base.id, "candidate": made}
    assert outcome["slots"] == 8, "two of each task by each policy"
    with lab.database.read() as session:
        query = replay.EpisodeQuery(iteration_ids=(lab.iteration_id,), valid_for_world_model=None)
        rows = replay.select(session, query)
    assert sorted(row.checkpoint_id for row in rows) == sorted([base.id, made] * 4)
    assert outcome["trial"]["decision"] in {"promoted", "rejected", "undecided"}
    assert set(outcome["trial"]["by_task"]) == {"open_drawer", "close_drawer"}
    assert decisions(lab) == [outcome["trial"]["decision"]]


def test_adapters_that_no_policy_has_are_told_before_the_robot_moves(lab: Lab) -> None:
    lab.request({**SMALL, "policy": {**SMALL["policy"], "lora_rank": 4}})
    with pytest.raises(AdaptersUnknown, match="Set lora_rank to 0"):
        collect.run(lab.context("collect"))


def test_the_robot_is_not_told_which_arm_acts(lab: Lab) -> None:
    _, arms = a_trial(lab)
    assert {arm.ref.name for arm in arms.every} == {"policy"}
    assert all(arm.name not in str(arm.ref) for arm in arms.every)


def test_policies_meet_the_same_scenes_and_chance_says_who_comes_first() -> None:
    iteration = "5a0f6a34-9df5-4a4e-9d86-2f5b6c2f5d11"
    slots = slots_of(
        iteration, ("a", "b"), episodes_per_task=20, held_out_every=4, seed=1, arms=("champion", "candidate")
    )
    pairs = [(one, two) for one, two in zip(slots[::2], slots[1::2], strict=True)]
    assert all(one.seed == two.seed and one.held_out == two.held_out for one, two in pairs)
    assert all({one.arm, two.arm} == {"champion", "candidate"} for one, two in pairs)
    assert [slot.name for slot in slots if slot.task_id == "a"] == [f"a/{number}" for number in range(40)]
    assert all(slot.arm not in str(slot_metadata(slot)) for slot in slots), "nor does a name tell the arm"
    first = [one.arm for one, _ in pairs]
    assert 10 <= first.count("candidate") <= 30
    assert len({slot.episode_id(1) for slot in slots}) == len(slots)


@pytest.mark.parametrize(
    ("old", "new", "decision"), [(2, 11, "promoted"), (11, 2, "rejected"), (6, 7, "undecided")]
)
def test_who_did_better_goes_on(
    lab: Lab, acted: Callable[[CheckpointRow, Counts], None], old: int, new: int, decision: str
) -> None:
    context, arms = a_trial(lab)
    assert arms.candidate is not None
    acted(arms.champion.row, {"open_drawer": (old, 12), "close_drawer": (old, 12)})
    acted(arms.candidate.row, {"open_drawer": (new, 12), "close_drawer": (new, 12)})
    told = a_referee(context, arms).conclude()
    assert told is not None
    assert told["decision"] == decision
    assert told["by_task"]["open_drawer"]["candidate"] == {"successes": new, "episodes": 12}
    wanted = arms.candidate.row.id if decision == "promoted" else arms.champion.row.id
    assert champion(context).id == wanted
    assert candidate(context, champion(context)) is None, "nobody is tried twice"


def test_an_attempt_after_the_decision_finds_the_same_arms_and_decides_nothing_new(
    lab: Lab, acted: Callable[[CheckpointRow, Counts], None]
) -> None:
    context, arms = a_trial(lab)
    assert arms.candidate is not None
    acted(arms.champion.row, {"open_drawer": (0, 12)})
    acted(arms.candidate.row, {"open_drawer": (12, 12)})
    first = a_referee(context, arms).conclude()
    again = load_arms(context)
    assert [arm.row.id for arm in again.every] == [arm.row.id for arm in arms.every]
    assert a_referee(context, again).conclude() == first
    assert decisions(lab) == ["promoted"]


def test_once_it_is_clear_the_slots_of_the_loser_are_given_up(
    lab: Lab, acted: Callable[[CheckpointRow, Counts], None]
) -> None:
    context, arms = a_trial(lab)
    assert arms.candidate is not None
    slots = slots_of(
        lab.iteration_id, ("open_drawer",), episodes_per_task=10, held_out_every=5, seed=1,
        arms=[arm.name for arm in arms.every],
    )  # fmt: skip
    todo = Todo([Wanted(slot=slot, tries=(1,)) for slot in slots], total=20)
    referee = a_referee(context, arms)
    acted(arms.champion.row, {"open_drawer": (3, 6)})
    acted(arms.candidate.row, {"open_drawer": (4, 6)})
    referee.look(todo)
    assert len(todo.left) == 20, "nothing is clear yet"
    acted(arms.champion.row, {"close_drawer": (6, 6)})
    acted(arms.candidate.row, {"close_drawer": (0, 6)})
    referee.look(todo)
    assert {slot.arm for slot in todo.left} == {"champion"}
    assert len(todo.left) == 10
    assert todo.share == 0.5
    assert decisions(lab) == ["rejected"], "at once, for an attempt that comes after this one"
    acted(arms.champion.row, {"close_drawer": (0, 6)})
    told = a_referee(context, load_arms(context)).conclude()
    assert told is not None
    assert told["decision"] == "rejected", "whatever the episodes after the end of the test say"
    assert told["by_task"]["close_drawer"]["champion"] == {"successes": 6, "episodes": 12}
    assert decisions(lab) == ["rejected"]


def test_what_an_attempt_before_decided_early_is_not_asked_again(
    lab: Lab, acted: Callable[[CheckpointRow, Counts], None]
) -> None:
    context, arms = a_trial(lab)
    assert arms.candidate is not None
    acted(arms.champion.row, {"open_drawer": (0, 6)})
    acted(arms.candidate.row, {"open_drawer": (6, 6)})
    a_referee(context, arms).look(Todo([], total=0))
    acted(arms.candidate.row, {"open_drawer": (0, 6)})
    slots = slots_of(
        lab.iteration_id, ("open_drawer",), episodes_per_task=2, held_out_every=5, seed=1,
        arms=("champion", "candidate"),
    )  # fmt: skip
    todo = Todo([Wanted(slot=slot, tries=(1,)) for slot in slots], total=4)
    a_referee(context, load_arms(context)).look(todo)
    assert {slot.arm for slot in todo.left} == {"candidate"}
    assert decisions(lab) == ["promoted"]


@pytest.mark.parametrize("had_one", [True, False])
def test_a_policy_brought_in_between_two_attempts_waits_for_the_next_iteration(
    lab: Lab, had_one: bool
) -> None:
    made = brought_in(lab) if had_one else None
    lab.request({**SMALL, "seed": 4})
    context = lab.context("collect")
    arms = load_arms(context)
    write_manifest(context, collect.worked_with(context, arms, collectors=()))
    newer = brought_in(lab)
    again = load_arms(context)
    assert again.champion.row.id == arms.champion.row.id
    assert (again.candidate.row.id if again.candidate else None) == made
    by_hand = trials.NewTrial(
        iteration_id=None,
        champion_id=arms.champion.row.id,
        candidate_id=newer,
        decision=trials.PROMOTED,
        evidence={},
    )
    with lab.database.write() as session:
        trials.save(session, by_hand, now=wall_clock())
    assert load_arms(context).champion.row.id == newer, "nobody brings back one that people replaced"


def test_after_a_rollback_an_attempt_tells_of_the_policy_that_acted(
    lab: Lab, acted: Callable[[CheckpointRow, Counts], None]
) -> None:
    promoted(lab, acted)
    lab.request({**SMALL, "seed": 50})
    context = lab.context("collect")
    arms = load_arms(context)
    acted(arms.champion.row, {"open_drawer": (0, 12)})
    assert roll_back(context, arms.champion.row) is not None
    brought_in(lab)
    again = load_arms(context)
    assert (again.champion.row.id, again.candidate) == (arms.champion.row.id, None)
    assert a_referee(context, again).conclude() is None


def test_without_trials_a_candidate_is_adopted_before_it_acts(lab: Lab) -> None:
    context, arms = a_trial(lab, enabled=False)
    assert arms.candidate is None
    assert decisions(lab) == ["adopted"]
    assert champion(context).id == arms.champion.row.id
    again = load_arms(context)
    assert (again.champion.row.id, again.candidate) == (arms.champion.row.id, None)


def test_the_next_update_starts_from_the_champion_and_not_from_a_rejected_candidate(
    lab: Lab, acted: Callable[[CheckpointRow, Counts], None]
) -> None:
    context, arms = a_trial(lab)
    assert arms.candidate is not None
    acted(arms.champion.row, {"open_drawer": (12, 12)})
    acted(arms.candidate.row, {"open_drawer": (0, 12)})
    a_referee(context, arms).conclude()
    assert update_policy.refreshed(context, "policy").id == arms.champion.row.id


def promoted(lab: Lab, acted: Callable[[CheckpointRow, Counts], None]) -> Arms:
    context, arms = a_trial(lab)
    assert arms.candidate is not None
    acted(arms.champion.row, {"open_drawer": (6, 12)})
    acted(arms.candidate.row, {"open_drawer": (12, 12)})
    a_referee(context, arms).conclude()
    lab.end(context, {})
    return arms


@pytest.mark.parametrize(("later", "goes_back"), [((0, 12), True), ((7, 12), False)])
def test_a_champion_that_does_worse_later_is_rolled_back(
    lab: Lab, acted: Callable[[CheckpointRow, Counts], None], later: tuple[int, int], goes_back: bool
) -> None:
    arms = promoted(lab, acted)
    assert arms.candidate is not None
    lab.request({**SMALL, "seed": 50})
    context = lab.context("collect")
    now = champion(context)
    assert now.id == arms.candidate.row.id
    acted(now, {"open_drawer": later})
    told = roll_back(context, now)
    assert (told is not None) is goes_back
    assert champion(context).id == (arms.champion.row.id if goes_back else now.id)
    if goes_back:
        assert decisions(lab) == ["rolled_back"]
        assert candidate(context, champion(context)) is None, "the one that failed is not tried again"
        assert roll_back(context, now) == told, "an attempt after it decides nothing new"
        assert decisions(lab) == ["rolled_back"]
        lab.end(context, {})
        lab.request({**SMALL, "seed": 51})
        after = lab.context("collect")
        assert roll_back(after, champion(after)) is None, "nor is there anything to go back to"


def test_the_episodes_that_chose_a_champion_do_not_speak_for_it_later(
    lab: Lab, acted: Callable[[CheckpointRow, Counts], None]
) -> None:
    promoted(lab, acted)
    lab.request({**SMALL, "seed": 50})
    context = lab.context("collect")
    now = champion(context)
    assert roll_back(context, now) is None, "no episode yet after its trial"
    acted(now, {"open_drawer": (0, 4)})
    assert roll_back(context, now) is None, "four episodes are none to go by"
    acted(now, {"open_drawer": (0, 1)})
    told = roll_back(context, now)
    assert told is not None
    assert told["by_task"]["open_drawer"]["champion"] == {"successes": 0, "episodes": 5}


@pytest.mark.parametrize(
    "otherwise",
    [{"steps": 20}, {"collect": {**SMALL["collect"], "temperature": 0.0}}],
)
def test_a_champion_is_not_rolled_back_for_acting_otherwise_than_the_one_before_it(
    lab: Lab, acted: Callable[[CheckpointRow, Counts], None], otherwise: dict[str, Any]
) -> None:
    promoted(lab, acted)
    lab.request({**SMALL, "seed": 50, **otherwise})
    context = lab.context("collect")
    acted(champion(context), {"open_drawer": (0, 12)})
    assert roll_back(context, champion(context)) is None


def test_each_robots_episodes_are_compared_with_its_own(lab: Lab, acted: Callable[..., None]) -> None:
    """An easy robot and a hard one: who acts at the hard one more often is not the worse policy."""
    context, arms = a_trial(lab)
    assert arms.candidate is not None
    acted(arms.champion.row, {"open_drawer": (38, 40)}, station="easy")
    acted(arms.champion.row, {"open_drawer": (1, 5)}, station="hard")
    acted(arms.champion.row, {"close_drawer": (9, 9)}, station="elsewhere")
    record(context, arms.champion.row, arms.candidate.row, decision=trials.PROMOTED, evidence={})
    lab.end(context, {})
    lab.request({**SMALL, "seed": 50})
    later = lab.context("collect")
    now = champion(later)
    acted(now, {"open_drawer": (5, 5)}, station="easy")
    acted(now, {"open_drawer": (12, 40), "close_drawer": (0, 9)}, station="hard")
    assert roll_back(later, now) is None
    acted(now, {"open_drawer": (0, 60)}, station="easy")
    told = roll_back(later, now)
    assert told is not None
    assert set(told["by_task"]) == {"open_drawer at easy", "open_drawer at hard"}


def test_a_champion_is_not_rolled_back_for_another_robot(lab: Lab, acted: Callable[..., None]) -> None:
    promoted(lab, acted)
    lab.request({**SMALL, "seed": 50})
    context = lab.context("collect")
    now = champion(context)
    acted(now, {"open_drawer": (0, 12)}, station="cell-2")
    assert roll_back(context, now) is None
    acted(now, {"open_drawer": (6, 12)})
    assert roll_back(context, now) is None
    acted(now, {"open_drawer": (0, 48)})
    told = roll_back(context, now)
    assert told is not None
    assert told["by_task"]["open_drawer"]["champion"] == {"successes": 6, "episodes": 60}


@pytest.mark.parametrize(("evidence", "goes_back"), [({}, True), ({trials.BY: "ann"}, False)])
def test_what_people_decided_no_measurement_takes_back(
    lab: Lab, acted: Callable[[CheckpointRow, Counts], None], evidence: dict[str, Any], goes_back: bool
) -> None:
    context, arms = a_trial(lab)
    assert arms.candidate is not None
    acted(arms.champion.row, {"open_drawer": (12, 12)})
    adopted = trials.NewTrial(
        iteration_id=lab.iteration_id,
        champion_id=arms.champion.row.id,
        candidate_id=arms.candidate.row.id,
        decision=trials.ADOPTED,
        evidence=evidence,
    )
    with lab.database.write() as session:
        trials.save(session, adopted, now=wall_clock())
    lab.end(context, {})
    lab.request({**SMALL, "seed": 50})
    later = lab.context("collect")
    acted(champion(later), {"open_drawer": (0, 12)})
    assert (roll_back(later, champion(later)) is not None) is goes_back
