"""Finetuning and updating on what was really collected: which checkpoints, which episodes, which numbers."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from daemon.errors import NothingCollected
from daemon.learning.batch import Clip
from daemon.learning.drift import Drift
from daemon.learning.reward.classifier import JUDGED_FRAMES, ClassifierJudge
from daemon.learning.trust import imagined_ends
from daemon.learning.world_model.model import WorldModel
from daemon.phases import collect, finetune_world_model, update_policy
from daemon.phases.checkpoints import newest, origin_of
from daemon.phases.clips import Shelf, load_clips
from daemon.phases.film import ENLARGED, EVERY, strip_jpeg
from daemon.phases.gating import held_out_record
from daemon.phases.judging import judge_config, last_frames
from daemon.phases.material import gather
from daemon.spec import parse_spec
from storage import checkpoints, labels, replay
from storage.array_cache import ArrayCache
from storage.errors import BlobCorrupt
from tests.daemon.phases.conftest import SMALL, Crash, Lab, crashing, let_through, wall_clock


def a_clip(steps: int, *, success: bool, seed: int = 0) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    return Clip(
        frames=torch.randint(0, 256, (steps + 1, 3, 64, 64), dtype=torch.uint8, generator=generator),
        actions=0.01 * torch.randn(steps, 7, generator=generator),
        instruction="open the drawer",
        episode_id=f"clip-{seed}",
        success=success,
    )


def shelf_of(lab: Lab) -> Shelf:
    return Shelf(blobs=lab.blobs, cache=ArrayCache(lab.folder / "cache"))


@pytest.fixture
def collected(lab: Lab) -> Lab:
    lab.do("collect", collect.run)
    return lab


@pytest.fixture
def finetuned(collected: Lab) -> tuple[Lab, dict[str, Any]]:
    return collected, collected.do("finetune_world_model", finetune_world_model.run)


def test_finetuning_makes_a_world_model_and_a_judge_from_their_parents(
    finetuned: tuple[Lab, dict[str, Any]],
) -> None:
    lab, outcome = finetuned
    for kind in ("world_model", "judge"):
        with lab.database.read() as session:
            made = checkpoints.get(session, outcome["made"][kind])
            parent = checkpoints.get(session, outcome["read"][kind])
        assert made.parent_id == parent.id
        assert made.sha256 != parent.sha256


@pytest.mark.parametrize("from_base", [True, False])
def test_the_next_finetuning_begins_from_what_was_brought_in_or_from_the_last(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, from_base: bool
) -> None:
    let_through(monkeypatch)
    spec = {**SMALL, "world_model": {**SMALL["world_model"], "from_base": from_base}}
    done = []
    for _ in range(2):
        lab.request(spec)
        lab.do("collect", collect.run)
        done.append(lab.do("finetune_world_model", finetune_world_model.run))
    first, second = done
    assert "world_model_base" not in first["read"]
    assert second["read"]["world_model"] == first["made"]["world_model"]
    taught = first["read" if from_base else "made"]["world_model"]
    assert second["read"].get("world_model_base") == (taught if from_base else None)
    with lab.database.read() as session:
        made = checkpoints.get(session, second["made"]["world_model"])
        learned_from = checkpoints.episode_ids(session, made.id)
    assert made.parent_id == taught
    assert len(learned_from) == first["fresh_episodes"] + second["fresh_episodes"]


def test_a_checkpoint_that_was_brought_in_is_its_own_origin(lab: Lab) -> None:
    context = lab.context("collect")
    row = newest(context, "world_model")
    assert origin_of(context, row).id == row.id


def test_a_world_model_takes_on_as_much_of_what_it_learned_as_the_spec_says(lab: Lab) -> None:
    lab.request({**SMALL, "world_model": {**SMALL["world_model"], "mixing": 0.0}})
    lab.do("collect", collect.run)
    outcome = lab.do("finetune_world_model", finetune_world_model.run)
    kept = (outcome["made"] | outcome["rejected"])["world_model"]
    with lab.database.read() as session:
        rows = [checkpoints.get(session, id_) for id_ in (kept, outcome["read"]["world_model"])]
    after, before = (
        WorldModel.load(checkpoints.path(row, lab.blobs)).transformer.state_dict() for row in rows
    )
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_held_out_episodes_are_measured_on_and_never_learned_from(
    finetuned: tuple[Lab, dict[str, Any]],
) -> None:
    lab, outcome = finetuned
    with lab.database.read() as session:
        held_out = {row.id for row in replay.select(session, replay.EpisodeQuery(held_out=True))}
        learned = {
            kind: set(checkpoints.episode_ids(session, outcome["made"][kind]))
            for kind in ("world_model", "judge")
        }
    assert len(held_out) == outcome["held_out_episodes"] == 2
    for episode_ids in learned.values():
        assert len(episode_ids) == 2
        assert episode_ids.isdisjoint(held_out)


def test_the_error_is_told_before_and_after_at_every_horizon(finetuned: tuple[Lab, dict[str, Any]]) -> None:
    _, outcome = finetuned
    error = outcome["held_out_error"]
    assert set(error["by_horizon"]) == {"1", "5", "10"}
    assert error["before"] == error["by_horizon"]["10"]["before"]
    assert error["after"] == error["by_horizon"]["10"]["after"]
    assert error["before"] != error["after"]


def test_every_task_gets_a_real_and_an_imagined_strip_of_the_same_size(
    finetuned: tuple[Lab, dict[str, Any]],
) -> None:
    lab, outcome = finetuned
    assert set(outcome["film_strips"]) == {"open_drawer", "close_drawer"}
    for strip in outcome["film_strips"].values():
        sizes = {Image.open(io.BytesIO(lab.blobs.read(strip[which]))).size for which in ("real", "imagined")}
        assert sizes == {(ENLARGED * 64 * (1 + 10 // EVERY), ENLARGED * 64)}


def test_every_task_gets_what_the_judge_says_along_the_real_and_the_imagined_film(
    finetuned: tuple[Lab, dict[str, Any]],
) -> None:
    _, outcome = finetuned
    assert outcome["judge_along"].keys() == outcome["film_strips"].keys()
    for curves in outcome["judge_along"].values():
        assert {name: len(curve) for name, curve in curves.items()} == {"real": 11, "imagined": 11}
        assert all(0.0 <= value <= 1.0 for curve in curves.values() for value in curve)
    assert json.loads(json.dumps(outcome["judge_along"])) == outcome["judge_along"]


def test_curves_are_recorded_for_the_world_model_and_the_judge(
    finetuned: tuple[Lab, dict[str, Any]],
) -> None:
    lab, _ = finetuned
    assert sum("loss" in moment for moment in lab.moments) == 2
    assert sum("judge_loss" in moment for moment in lab.moments) == 2


def test_the_policy_update_reads_what_this_iteration_made(finetuned: tuple[Lab, dict[str, Any]]) -> None:
    lab, before = finetuned
    outcome = lab.do("update_policy", update_policy.run)
    assert outcome["read"]["world_model"] == before["made"]["world_model"]
    assert outcome["read"]["judge"] == before["made"]["judge"]
    assert set(outcome["imagined_success"]) == {"open_drawer", "close_drawer"}
    with lab.database.read() as session:
        assert checkpoints.get(session, outcome["made"]["policy"]).parent_id == outcome["read"]["policy"]


def test_the_next_iteration_tries_the_updated_policy_and_learns_from_both_policies(
    finetuned: tuple[Lab, dict[str, Any]],
) -> None:
    lab, _ = finetuned
    updated = lab.do("update_policy", update_policy.run)
    lab.request({**SMALL, "seed": 4})
    again = lab.do("collect", collect.run)
    assert again["acted"] == {"champion": again["read"]["policy"], "candidate": updated["made"]["policy"]}
    material = gather(lab.context("finetune_world_model"), shelf_of(lab), size=64)
    assert [len(part) for part in (material.fresh, material.older, material.base)] == [4, 2, 0]
    assert [len(part) for part in (material.held_out, material.held_out_older)] == [4, 2]
    ids = [
        {row.id for row in part.rows} for part in (material.fresh, material.older, material.held_out_older)
    ]
    assert len(set.union(*ids)) == 8


def test_policy_updates_that_were_killed_go_on_where_they_were(lab: Lab) -> None:
    lab.request({**SMALL, "policy": {**SMALL["policy"], "updates": 4}})
    lab.do("collect", collect.run)
    context = lab.context("update_policy")
    with pytest.raises(Crash):
        update_policy.run(crashing(context, at="update 3"))
    lab.moments.clear()
    lab.told.clear()
    outcome = update_policy.run(context)
    assert [moment["update"] for moment in lab.moments] == [4], "what was told of was kept"
    assert (0.75, "update 3 of 4, imagining the next, chunk 2 of 2") in lab.told, "nor does the bar go back"
    assert outcome["updates"] == 4
    assert list((lab.folder / "resume").iterdir()) == [], "nothing is left to go on from"


def test_killed_updates_begin_anew_where_a_label_has_changed_what_is_imitated(lab: Lab) -> None:
    def label(*, success: bool) -> None:
        verdict = labels.Verdict(success=success, source="human", at=wall_clock())
        with lab.database.write() as session:
            for row in replay.select(session, replay.EpisodeQuery(held_out=False)):
                labels.append(session, row.id, verdict, now=wall_clock())

    lab.request({**SMALL, "policy": {**SMALL["policy"], "updates": 3, "imitation": 0.5}})
    lab.do("collect", collect.run)
    label(success=True)
    context = lab.context("update_policy")
    with pytest.raises(Crash):
        update_policy.run(crashing(context, at="update 2"))
    label(success=True)
    with pytest.raises(Crash):
        update_policy.run(crashing(context, at="update 3"))
    label(success=False)
    lab.moments.clear()
    update_policy.run(context)
    assert [moment["update"] for moment in lab.moments] == [1, 2, 3]
    assert not any("imitation" in moment for moment in lab.moments), "nothing is left of what was imitated"


def test_only_real_successes_that_may_be_learned_from_are_imitated(lab: Lab) -> None:
    lab.request({**SMALL, "policy": {**SMALL["policy"], "imitation": 0.5}})
    lab.do("collect", collect.run)
    with lab.database.write() as session:
        stored = replay.select(session, replay.EpisodeQuery(held_out=None))
        for row in stored:
            good = row.held_out or row.task_id == "open_drawer"  # one of two to learn from, both held out
            verdict = labels.Verdict(success=good, source="human", at=wall_clock())
            labels.append(session, row.id, verdict, now=wall_clock())
        wanted = [row.id for row in stored if row.task_id == "open_drawer" and not row.held_out]
    context = lab.context("update_policy")
    clips, named = update_policy.proven_episodes(context, size=64)
    assert [clip.episode_id for clip in clips] == [entry["id"] for entry in named] == wanted
    assert {entry["use"] for entry in named} == {"proven"}
    update_policy.run(context)
    assert any("imitation" in moment for moment in lab.moments)


def test_nothing_is_imitated_unless_the_spec_says_so(collected: Lab) -> None:
    context = collected.context("update_policy")
    assert update_policy.proven_episodes(context, size=64) == ([], [])
    update_policy.run(context)
    assert all("imitation" not in moment for moment in collected.moments)


def test_learning_without_episodes_says_what_is_missing(lab: Lab) -> None:
    with pytest.raises(NothingCollected, match="finetune_world_model needs an episode"):
        finetune_world_model.run(lab.context("finetune_world_model"))
    with pytest.raises(NothingCollected, match="update_policy needs an episode"):
        update_policy.run(lab.context("update_policy"))


def test_an_iteration_that_held_nothing_out_is_not_finetuned_blindly(lab: Lab) -> None:
    lab.request({**SMALL, "collect": {"episodes_per_task": 1, "held_out_every": 5}})
    lab.do("collect", collect.run)
    with pytest.raises(NothingCollected, match="held out"):
        finetune_world_model.run(lab.context("finetune_world_model"))


def test_a_damaged_episode_stops_the_phase_rather_than_being_skipped(collected: Lab) -> None:
    for path in collected.blobs.root.glob("??/*"):
        if path.read_bytes().startswith(b"GYMFRM1"):
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BlobCorrupt):
        finetune_world_model.run(collected.context("finetune_world_model"))


def test_clips_carry_executed_actions_labels_and_one_more_frame_than_actions(collected: Lab) -> None:
    with collected.database.read() as session:
        rows = replay.select(session, replay.EpisodeQuery())
        clips = load_clips(session, shelf_of(collected), rows)
    assert [clip.episode_id for clip in clips] == [row.id for row in rows]
    for clip in clips:
        assert clip.frames.shape == (11, 3, 64, 64)
        assert clip.actions.shape == (10, 7)
        assert clip.success is not None


def models_of(lab: Lab) -> tuple[WorldModel, ClassifierJudge]:
    context = lab.context("collect")
    files = [
        checkpoints.path(finetune_world_model.newest(context, kind), lab.blobs)
        for kind in ("world_model", "judge")
    ]
    return WorldModel.load(files[0]), ClassifierJudge.load(files[1])


def test_the_judge_learns_the_ends_of_real_and_imagined_episodes_with_the_real_label(lab: Lab) -> None:
    world_model, judge = models_of(lab)
    clips = [a_clip(5, success=True, seed=1), a_clip(8, success=False, seed=2)]
    examples = last_frames(world_model, judge, clips, seed=0)
    assert examples.success.tolist() == [True] * JUDGED_FRAMES + [False] * JUDGED_FRAMES + (
        [True] * JUDGED_FRAMES + [False] * JUDGED_FRAMES
    )
    assert torch.equal(examples.frames[:JUDGED_FRAMES], clips[0].frames[-JUDGED_FRAMES:])
    imagined = imagined_ends(world_model, clips, frames=JUDGED_FRAMES, seed=0)
    assert torch.equal(examples.frames[2 * JUDGED_FRAMES :], torch.cat(imagined))


@pytest.mark.parametrize(("declines_within", "doubtful"), [(0.0, False), (0.5, True)])
def test_an_imagined_end_at_which_the_judge_declines_stays_doubtful_and_a_real_one_never(
    lab: Lab, declines_within: float, doubtful: bool
) -> None:
    world_model, judge = models_of(lab)
    judge.abstain_within = declines_within
    clips = [a_clip(5, success=True, seed=1), a_clip(8, success=False, seed=2)]
    marks = last_frames(world_model, judge, clips, seed=0).doubtful
    assert marks is not None
    assert marks.tolist() == [False] * 2 * JUDGED_FRAMES + [doubtful] * 2 * JUDGED_FRAMES


def test_the_judge_is_taught_as_the_spec_says_and_takes_on_half_of_it_unless_it_says_so() -> None:
    asked = parse_spec({"judge": {"updates": 7, "learning_rate": 1e-3, "mixing": 0.25}})
    config = judge_config(asked.judge, seed=3)
    assert (config.updates, config.lr, config.mixing, config.seed) == (7, 1e-3, 0.25, 3)
    assert judge_config(parse_spec({}).judge, seed=0).mixing == 0.5


def test_the_end_of_an_episode_that_is_over_at_once_repeats_its_first_frame(lab: Lab) -> None:
    world_model, judge = models_of(lab)
    clip = a_clip(1, success=True)
    examples = last_frames(world_model, judge, [clip, a_clip(8, success=False)], seed=0)
    assert torch.equal(examples.frames[:JUDGED_FRAMES], clip.frames[[0, 0, 1]])


def test_a_whole_iteration_whose_episodes_stop_on_success(lab: Lab) -> None:
    """The judge tosses a coin, so some episodes and rollouts end after the first of two chunks."""
    lab.request({**SMALL, "stop_on_success": True, "collect": {**SMALL["collect"], "episodes_per_task": 6}})
    lab.do("collect", collect.run)
    with lab.database.read() as session:
        rows = replay.select(session, replay.EpisodeQuery(iteration_ids=(lab.iteration_id,)))
    assert {row.steps for row in rows} == {5, 10}
    lab.do("finetune_world_model", finetune_world_model.run)
    context = lab.context("update_policy")
    told: list[dict[str, float]] = []
    outcome = update_policy.run(replace(context, record=lambda values: told.append(dict(values))))
    assert outcome["updates"] == 1
    assert 0 <= told[0]["stopped_share"] <= told[0]["imagined_success"] <= 1


@pytest.mark.parametrize(
    ("asked", "stops", "remote"),
    [
        ({}, False, False),
        ({"judge": {"kind": "vlm_http"}}, False, True),
        ({"judge": {"kind": "vlm_local"}}, False, False),
        ({"stop_on_success": True}, True, False),
        ({"stop_on_success": True, "judge": {"kind": "vlm_http"}, "phases": ["update_policy"]}, True, True),
    ],
)
def test_the_spec_says_whether_rollouts_stop_and_whether_the_judge_is_far_away(
    asked: dict[str, Any], stops: bool, remote: bool
) -> None:
    by_chance = {**SMALL["policy"], "start_curriculum": False}
    config = update_policy.config_of(parse_spec({**SMALL, "policy": by_chance, **asked}), 5, steps=10)
    assert (config.stop_on_success, config.remote_judge) == (stops, remote)
    assert config.imagines_ahead is (remote and not stops)


def test_the_spec_says_how_large_a_minibatch_is_and_in_how_many_parts_it_is_taken() -> None:
    large = {**SMALL["policy"], "minibatch": 128, "accumulate": 16}
    config = update_policy.config_of(parse_spec({**SMALL, "policy": large}), 5, steps=10)
    assert (config.minibatch, config.accumulate) == (128, 16)


def drift_of(pixels: dict[int, float], still: dict[int, float]) -> Drift:
    ones = dict.fromkeys(pixels, 1.0)
    counts = dict.fromkeys(pixels, 1)
    rest = {"psnr": ones, "ssim": ones, "latents": ones, "latents_by_episode": (1.0,)}
    return Drift(pixels=pixels, still=still, episodes=counts, **rest)


def test_the_headline_is_the_longest_horizon() -> None:
    still = {1: 0.1, 2: 0.1, 10: 0.2}
    before, after = drift_of({1: 0.4, 2: 0.4, 10: 0.5}, still), drift_of({1: 0.2, 2: 0.2, 10: 0.3}, still)
    record = held_out_record(before, after)
    assert (record["before"], record["after"]) == (0.5, 0.3)
    assert record["by_horizon"] == {
        "1": {"before": 0.4, "after": 0.2, "still": 0.1, "latents_before": 1.0, "latents_after": 1.0},
        "10": {"before": 0.5, "after": 0.3, "still": 0.2, "latents_before": 1.0, "latents_after": 1.0},
    }


def test_rows_of_a_strip_stand_below_each_other() -> None:
    dark, light = torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.full((2, 3, 64, 64), 255).byte()
    picture = np.asarray(Image.open(io.BytesIO(strip_jpeg(dark, light)))).mean(axis=(1, 2))  # by row
    assert [round(picture[i * ENLARGED * 64 + 64]) for i in range(2)] == [0, 255]


def test_a_strip_shows_frames_from_left_to_right() -> None:
    frames = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    frames[1] = 255
    strip = np.asarray(Image.open(io.BytesIO(strip_jpeg(frames)))).mean(axis=(0, 2))  # by column
    width = ENLARGED * 64
    assert [round(strip[i * width + width // 2]) for i in range(3)] == [0, 255, 0]
