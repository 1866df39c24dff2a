"""The join: what is verified, what is not, what counts for the policy, and when a job is only partial."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_bridge.autoeval.dataset import FolderDataset
from robot_bridge.autoeval.errors import JoinMismatch
from robot_bridge.autoeval.join import Joined, join, unjoined
from robot_bridge.autoeval.trajectory import Trajectory
from robot_bridge.episode import Episode
from robot_bridge.frames import encode_jpeg
from tests.robot_bridge.autoeval.records import a_record, pickled_record, put_run
from tests.robot_bridge.autoeval.rollouts import NOON, TASK, Rollout, a_job

FIRST, SECOND, THIRD = (Rollout.random(seed=seed) for seed in (1, 2, 3))
SHORT = Rollout.random(2, seed=4)


def episode_of(joined: Joined, index: int) -> Episode:
    (found,) = [each for each in joined.episodes if each.manifest.metadata.get("attempt") == str(index)]
    return found


def uses(episode: Episode) -> tuple[bool, bool]:
    return episode.manifest.valid_for.policy_eval, episode.manifest.valid_for.world_model


def test_a_whole_job_is_joined_and_every_episode_counts() -> None:
    joined = join(
        a_job(success_rate=0.5),
        [FIRST.attempt(0), SECOND.attempt(1)],
        [FIRST.trajectory(0, success=True), SECOND.trajectory(1, success=False)],
    )
    assert (joined.state, joined.reasons) == ("joined", ())
    assert (joined.matched, joined.retries, joined.hub_only, joined.too_short) == (2, 0, 0, 0)
    assert (joined.success_rate, joined.mean_of_labels) == (0.5, 0.5)
    for index, success in ((0, True), (1, False)):
        episode = episode_of(joined, index)
        episode.validate()
        assert uses(episode) == (True, True)
        assert [label.success for label in episode.manifest.labels] == [success]


def test_a_motor_failures_attempt_is_kept_for_the_world_model_without_a_label() -> None:
    joined = join(a_job(), [SHORT.attempt(0), FIRST.attempt(1)], [FIRST.trajectory(0)])
    assert (joined.matched, joined.retries, joined.state) == (1, 1, "joined")
    retry = episode_of(joined, 0)
    assert uses(retry) == (False, True)
    assert retry.manifest.outcome == "aborted_hw"
    assert retry.manifest.labels == ()
    assert (retry.manifest.T, len(retry.frames)) == (1, 2)
    assert (retry.manifest.metadata["join"], retry.manifest.metadata["provenance"]) == ("retry", "by_job")


def test_an_attempt_of_one_observation_is_dropped_and_counted() -> None:
    joined = join(a_job(), [Rollout.random(1).attempt(0), FIRST.attempt(1)], [FIRST.trajectory()])
    assert (joined.too_short, joined.retries, len(joined.episodes)) == (1, 0, 1)
    assert joined.state == "joined"


def test_a_published_episode_of_one_step_is_whole() -> None:
    tiny = Rollout.random(1)
    joined = join(a_job(), [tiny.attempt()], [tiny.trajectory()])
    assert (joined.matched, joined.episodes[0].manifest.T) == (1, 1)


def test_an_episode_that_was_never_uploaded_makes_the_job_partial() -> None:
    joined = join(a_job(), [FIRST.attempt(0), SECOND.attempt(1)], [FIRST.trajectory(0)])
    assert (joined.state, joined.unpublished, joined.retries) == ("partial", 1, 0)
    assert joined.reasons == ("1 whole attempts were never published",)
    lost = episode_of(joined, 1)
    assert uses(lost) == (False, True)
    assert (lost.manifest.outcome, lost.manifest.labels) == ("completed", ())
    assert uses(episode_of(joined, 0)) == (True, True)


def test_a_success_rate_that_the_labels_do_not_bear_out_is_not_used() -> None:
    joined = join(
        a_job(success_rate=1.0),
        [FIRST.attempt(0), SECOND.attempt(1)],
        [FIRST.trajectory(0), SECOND.trajectory(1, success=False)],
    )
    assert joined.state == "partial"
    assert joined.reasons == ("AutoEval's success rate is 1.0, its labels average 0.5",)
    assert [uses(each) for each in joined.episodes] == [(False, True)] * 2


def test_a_job_without_a_success_rate_says_nothing_of_the_policy() -> None:
    joined = join(a_job(success_rate=None), [FIRST.attempt()], [FIRST.trajectory()])
    assert joined.state == "partial"
    assert "gave no success rate" in joined.reasons[0]
    assert uses(joined.episodes[0]) == (False, True)


@pytest.mark.parametrize(("rate", "state"), [(0.6667, "joined"), (2 / 3, "joined"), (0.6666, "partial")])
def test_the_numbers_are_compared_as_autoeval_rounds_them(rate: float, state: str) -> None:
    rollouts = (FIRST, SECOND, THIRD)
    joined = join(
        a_job(success_rate=rate),
        [rollout.attempt(index) for index, rollout in enumerate(rollouts)],
        [rollout.trajectory(index, success=index > 0) for index, rollout in enumerate(rollouts)],
    )
    assert joined.state == state
    assert joined.mean_of_labels == 0.6667


def test_labels_of_what_we_never_saw_are_part_of_autoevals_rate() -> None:
    joined = join(
        a_job(success_rate=0.5),
        [FIRST.attempt(0)],
        [FIRST.trajectory(0), SECOND.trajectory(1, success=False)],
    )
    assert joined.mean_of_labels == 0.5
    assert (joined.hub_only, joined.state) == (1, "partial")
    assert joined.reasons == ("1 published trajectories have no attempt of ours",)
    assert len(joined.episodes) == 1
    assert uses(joined.episodes[0]) == (True, True)


def test_what_we_never_saw_becomes_an_episode_only_when_asked_for() -> None:
    joined = join(a_job(hub_only_at=NOON), [], [FIRST.trajectory(3), Rollout.random(1).trajectory(4)])
    (episode,) = joined.episodes
    episode.validate()
    assert joined.hub_only == 2
    assert episode.manifest.metadata["source"] == "hub_only"
    assert uses(episode) == (False, True)
    assert [label.success for label in episode.manifest.labels] == [True]


def test_an_episode_in_which_the_policy_was_late_does_not_count_for_it() -> None:
    late = FIRST.attempt(fallback=np.array([False, False, True, False]))
    joined = join(a_job(), [late], [FIRST.trajectory()])
    assert uses(joined.episodes[0]) == (False, True)
    assert joined.state == "joined"


@pytest.mark.parametrize(("facts", "counts"), [({"pre_rollout_checks_failed": 1}, False), ({}, True)])
def test_an_episode_that_began_out_of_order_does_not_count(facts: dict[str, Any], counts: bool) -> None:
    joined = join(a_job(), [FIRST.attempt()], [FIRST.trajectory(facts=facts)])
    assert uses(joined.episodes[0]) == (counts, True)


def test_an_episode_without_a_verdict_does_not_count_and_is_no_part_of_the_mean() -> None:
    joined = join(
        a_job(success_rate=1.0),
        [FIRST.attempt(0), SECOND.attempt(1)],
        [FIRST.trajectory(0), SECOND.trajectory(1, success=None)],
    )
    assert joined.mean_of_labels == 1.0
    assert uses(episode_of(joined, 1)) == (False, True)


def test_somebody_who_fed_the_gateway_other_pictures_trains_nothing() -> None:
    """The actions are the right ones, since the gateway decided them; the pictures are not AutoEval's."""
    forged = FIRST.attempt(0, jpegs=tuple(encode_jpeg(255 - frame) for frame in FIRST.frames[:-1]))
    joined = join(a_job(), [forged, SECOND.attempt(1)], [FIRST.trajectory(0), SECOND.trajectory(1)])
    assert (joined.matched, joined.disputed, joined.hub_only) == (1, 1, 1)
    assert joined.state == "partial"
    disputed = episode_of(joined, 0)
    assert uses(disputed) == (False, False)
    assert disputed.manifest.labels == ()
    assert disputed.manifest.metadata["provenance"] == "unverified"
    assert uses(episode_of(joined, 1)) == (True, True)


def test_attempts_of_a_job_of_which_nothing_matches_are_used_for_nothing() -> None:
    joined = join(a_job(), [SHORT.attempt(0), FIRST.attempt(1)], [SECOND.trajectory(0)])
    assert joined.matched == 0
    assert {uses(each) for each in joined.episodes} == {(False, False)}
    assert {each.manifest.metadata["provenance"] for each in joined.episodes} == {"unverified"}


def test_each_attempt_is_matched_once_and_equal_ones_in_order() -> None:
    """A policy that always does the same in a scene that never changes: nothing tells the attempts apart."""
    joined = join(
        a_job(success_rate=0.5),
        [FIRST.attempt(1), FIRST.attempt(0)],
        [FIRST.trajectory(0, success=True), FIRST.trajectory(1, success=False)],
    )
    assert (joined.matched, joined.state) == (2, "joined")
    for index, success in ((0, True), (1, False)):
        assert episode_of(joined, index).manifest.labels[0].success is success
        assert episode_of(joined, index).manifest.metadata["trajectory"] == str(index)


def test_joining_twice_gives_the_same_episodes_byte_for_byte() -> None:
    def once(order: int) -> list[tuple[str, str]]:
        attempts = [SHORT.attempt(0), FIRST.attempt(1), SECOND.attempt(2)][::order]
        joined = join(a_job(hub_only_at=NOON), attempts, [FIRST.trajectory(0), THIRD.trajectory(1)])
        return [(each.manifest.episode_id, each.digest) for each in joined.episodes]

    first = once(1)
    assert len(first) == 4
    assert len(dict(first)) == 4
    assert once(1) == first
    assert once(-1) == first


@pytest.mark.parametrize(
    "changes",
    [{"job_id": "another"}, {"task_id": "close_drawer"}, {"instruction": "close the drawer"}],
    ids="-".join,
)
def test_an_attempt_of_another_job_or_task_stops_the_join(changes: dict[str, str]) -> None:
    with pytest.raises(JoinMismatch, match="attempt 0 must be"):
        join(a_job(), [FIRST.attempt(0, **changes)], [FIRST.trajectory()])


def test_an_attempt_that_is_there_twice_stops_the_join() -> None:
    with pytest.raises(JoinMismatch, match="each once"):
        join(a_job(), [FIRST.attempt(0), SECOND.attempt(0)], [])


def test_a_run_of_another_task_stops_the_join() -> None:
    with pytest.raises(JoinMismatch, match="trajectory 7 must be 'open the drawer', found 'fly'"):
        join(a_job(), [FIRST.attempt()], [FIRST.trajectory(7, instruction="fly")])


def test_trajectories_are_taken_one_by_one() -> None:
    """So that a job of fifty is never in memory as a whole: its pictures alone are a gigabyte."""
    rollouts, pictures = (FIRST, SECOND, THIRD), []

    def stream() -> Iterator[Trajectory]:
        for index, rollout in enumerate(rollouts):
            trajectory = rollout.trajectory(index)
            pictures.append(weakref.ref(trajectory.images))
            assert [each() is None for each in pictures[:-2]] == [True] * (index - 1)
            yield trajectory

    attempts = [rollout.attempt(index) for index, rollout in enumerate(rollouts)]
    assert join(a_job(), attempts, stream()).matched == 3
    assert len(pictures) == 3


def test_what_is_told_of_a_join_is_json() -> None:
    joined = join(a_job(success_rate=None), [FIRST.attempt(0), SHORT.attempt(1)], [FIRST.trajectory()])
    told = json.loads(json.dumps(joined.checks))
    assert (told["matched"], told["retries"], told["episodes"]) == (1, 1, 2)
    assert told["reasons"] == list(joined.reasons)
    assert told["success_rate"] is None


# -- jobs that were never published -------------------------------------------------------------------------


def test_what_was_never_published_is_kept_and_used_for_nothing() -> None:
    attempts = [SHORT.attempt(0), FIRST.attempt(1), Rollout.random(1).attempt(2)]
    joined = unjoined(a_job(), attempts)
    assert (joined.state, joined.matched, joined.unpublished, joined.too_short) == ("partial", 0, 2, 1)
    for episode in joined.episodes:
        episode.validate()
        assert uses(episode) == (False, False)
        assert episode.manifest.labels == ()
        assert episode.manifest.metadata["provenance"] == "unverified"


def test_somebody_may_vouch_for_it_for_the_world_model_only() -> None:
    joined = unjoined(a_job(), [FIRST.attempt()], for_world_model=True)
    assert uses(joined.episodes[0]) == (False, True)
    assert joined.episodes[0].manifest.metadata["provenance"] == "unverified"


def test_an_unjoined_episode_has_the_id_that_its_join_would_have_so_that_it_is_stored_once() -> None:
    (before,) = unjoined(a_job(), [FIRST.attempt(5)]).episodes
    (after,) = join(a_job(), [FIRST.attempt(5)], [FIRST.trajectory()]).episodes
    assert before.manifest.episode_id == after.manifest.episode_id
    assert before.digest != after.digest


def test_an_unjoined_attempt_of_another_job_is_refused() -> None:
    with pytest.raises(JoinMismatch):
        unjoined(a_job(job_id="another"), [FIRST.attempt()])


# -- from the pickles on ------------------------------------------------------------------------------------


def test_a_job_is_joined_out_of_real_pickles_in_a_folder(tmp_path: Path) -> None:
    folder = put_run(tmp_path, "42", "dyna:ours")
    for index, rollout in enumerate((FIRST, SECOND)):
        record = a_record(
            rollout.steps,
            language_command=TASK.instruction,
            obs={"image_primary": list(rollout.frames[1:])},
            action=[row.astype(np.float64) for row in rollout.action],  # JSON gives doubles
            proprio=list(rollout.proprio[1:]),
            success=np.bool_(index == 0),
        )
        (folder / f"traj_{index}.pkl").write_bytes(pickled_record(record))
    dataset = FolderDataset(tmp_path)
    run = dataset.find_run("dyna:ours")
    assert run is not None
    attempts = [FIRST.attempt(0), SHORT.attempt(1), SECOND.attempt(2)]
    joined = join(a_job(success_rate=0.5), attempts, dataset.stream(run))
    assert (joined.state, joined.matched, joined.retries) == ("joined", 2, 1)
    assert [label.success for label in episode_of(joined, 2).manifest.labels] == [False]
