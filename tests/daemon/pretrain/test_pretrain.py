"""Recording and learning stages of pretraining, small, on real simulated cells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from daemon.cli import app
from daemon.learning.batch import Clip
from daemon.learning.policy.policy import Policy, new_policy
from daemon.learning.reward.classifier import new_judge
from daemon.learning.world_model.model import nano_world_model
from daemon.pretrain import recipe, run, stages
from daemon.pretrain.cell_episodes import EpisodePlan, expert, record_all, success_rates
from daemon.pretrain.clip_files import load_clips, marks_of, save_clips, subject_of
from daemon.pretrain.recording import Acting, recorded
from daemon.pretrain.run import data_card, rates
from daemon.progress_bar import Bars

TRAINED = ("POLICY", "AUTOENCODER", "WORLD_MODEL", "CORRECTED", "JUDGE", "LOOK")


def a_clip(seed: int, *, success: bool = True, steps: int = 12, sentence: str = "open the drawer") -> Clip:
    generator = torch.Generator().manual_seed(seed)
    marks = torch.zeros(steps + 1, dtype=torch.bool)
    marks[-3:] = success
    return Clip(
        frames=torch.randint(0, 256, (steps + 1, 3, 64, 64), dtype=torch.uint8, generator=generator),
        actions=0.01 * torch.randn(steps, 7, generator=generator),
        instruction=sentence,
        episode_id=f"clip-{seed}",
        success=success,
        success_by_frame=marks,
    )


@pytest.fixture(scope="module")
def expert_clips() -> list[Clip]:
    plans = [EpisodePlan(task_id=task, cell_seed=3, seed=1) for task in recipe.TASKS[:2]]
    return record_all(plans, expert)


def test_an_expert_episode_has_one_more_frame_than_actions_and_ends_in_success(
    expert_clips: list[Clip],
) -> None:
    for clip in expert_clips:
        clip.validate()
        assert clip.frames.shape == (41, 3, 64, 64)
        assert clip.success is True
        assert bool(marks_of(clip)[-1])
        assert not bool(marks_of(clip)[0])


def test_a_plan_always_gives_the_same_episode(expert_clips: list[Clip]) -> None:
    plan = EpisodePlan(task_id=recipe.TASKS[0], cell_seed=3, seed=1)
    (again,) = record_all([plan], expert)
    assert torch.equal(again.frames, expert_clips[0].frames)
    assert torch.equal(again.actions, expert_clips[0].actions)


def test_noise_changes_what_the_expert_does(expert_clips: list[Clip]) -> None:
    plan = EpisodePlan(task_id=recipe.TASKS[0], cell_seed=3, seed=1, noise=1.0)
    (noisy,) = record_all([plan], expert)
    assert torch.equal(noisy.frames[0], expert_clips[0].frames[0])
    assert not torch.equal(noisy.actions, expert_clips[0].actions)


def test_a_policy_acts_in_chunks_as_on_a_station() -> None:
    policy = new_policy(stages.INSTRUCTIONS, seed=0, width=16, layers=1)
    calls: list[int] = []
    act = policy.act

    def counted(*args: object, **keywords: object) -> object:
        calls.append(1)
        return act(*args, **keywords)

    policy.act = counted  # counts decisions; acts as before
    plan = EpisodePlan(task_id=recipe.TASKS[0], cell_seed=3, seed=1)
    from daemon.pretrain.cell_episodes import policy_actor

    (clip,) = record_all(
        [plan],
        lambda p: policy_actor(policy, instruction=stages.INSTRUCTIONS[0], temperature=1.0, seed=p.seed),
    )
    assert clip.steps == 40
    assert len(calls) == 40 // policy.chunk


def test_clips_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    subject = torch.rand(13, 64, 64) > 0.5
    clips = [replace(a_clip(1), subject=subject), a_clip(2, success=False, sentence="close the drawer")]
    save_clips(tmp_path / "clips.safetensors", clips)
    for before, after in zip(clips, load_clips(tmp_path / "clips.safetensors"), strict=True):
        assert torch.equal(before.frames, after.frames)
        assert torch.equal(before.actions, after.actions)
        assert torch.equal(marks_of(before), marks_of(after))
        assert torch.equal(subject_of(before), subject_of(after))
        assert (before.instruction, before.episode_id, before.success) == (
            after.instruction,
            after.episode_id,
            after.success,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["clips.safetensors"]


@pytest.mark.slow
def test_shards_are_recorded_by_other_processes_and_only_once(tmp_path: Path) -> None:
    policy = tmp_path / "policy.safetensors"
    new_policy(stages.INSTRUCTIONS, seed=0, width=16, layers=1).save(policy, {})
    plans = [EpisodePlan(task_id=recipe.TASKS[0], cell_seed=3, seed=seed) for seed in (1, 2)]
    acting = Acting(policy, temperature=0.0)
    lines: list[str] = []
    first = recorded(plans, tmp_path, name="own", bars=Bars(say=lines.append, shown=False), acting=acting)
    written = (tmp_path / "own-0.safetensors").stat().st_mtime_ns
    second = recorded(plans, tmp_path, name="own", bars=Bars(say=lines.append, shown=False), acting=acting)
    assert (tmp_path / "own-0.safetensors").stat().st_mtime_ns == written
    assert [clip.episode_id for clip in first] == [plan.name for plan in plans]
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(first, second, strict=True))
    assert lines[-1] == "own: 2 episodes, 1 of 1 shards lie there"


def test_cells_that_are_measured_on_are_never_trained_on() -> None:
    measured = set(recipe.MEASURING_CELLS)
    assert measured.isdisjoint(recipe.TRAINING_CELLS)
    own = [
        cell
        for cells in (*recipe.ON_POLICY_CELLS.values(), *recipe.EGGPLANT_CELLS.values())
        for cell in cells
    ]
    assert measured.isdisjoint(own)
    assert 0 not in {*recipe.TRAINING_CELLS, *own}
    assert measured.isdisjoint(recipe.EMPTIED_CELLS)
    assert all(plan.cell_seed in measured for plan in recipe.measuring_plans(episodes_per_cell=1))


def test_every_episode_of_pretraining_is_another_one() -> None:
    own = [plan for temperature in recipe.ON_POLICY_CELLS for plan in recipe.on_policy_plans(temperature)]
    own += [plan for temperature in recipe.EGGPLANT_CELLS for plan in recipe.eggplant_plans(temperature)]
    plans = [*recipe.world_model_plans(), *own, *recipe.emptied_plans()]
    assert len({plan.name for plan in plans}) == len(plans)


def test_demonstrations_are_few_and_without_noise() -> None:
    plans = recipe.demonstration_plans()
    assert len(plans) == sum(recipe.DEMONSTRATIONS.values())
    assert all(plan.noise == 0 for plan in plans)
    assert {plan.task_id for plan in plans} == set(recipe.TASKS)


def test_a_stage_whose_file_is_there_is_not_done_again(tmp_path: Path) -> None:
    file = tmp_path / "policy.safetensors"
    file.write_bytes(b"made before")
    assert stages.supervised_policy([], file, seed=0, bars=Bars(shown=False)) == file
    assert file.read_bytes() == b"made before"


@pytest.mark.slow
def test_every_stage_makes_its_file_from_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TRAINED:
        monkeypatch.setattr(recipe, f"{name}_UPDATES", 2)
    monkeypatch.setattr(recipe, "CORRECTED_FRAMES", 3)  # as many as are in 14 steps, a stride apart
    sentences, bars = stages.INSTRUCTIONS, Bars(shown=False)
    clips = [a_clip(i, success=i % 2 == 0, sentence=sentences[i % 4], steps=14) for i in range(8)]
    policy = stages.supervised_policy(clips, tmp_path / "p", seed=0, bars=bars)
    autoencoder = stages.trained_autoencoder(clips, tmp_path / "a", seed=0, bars=bars)
    parts = clips[:4], clips[4:]
    first = stages.trained_world_model(parts, autoencoder, tmp_path / "f", seed=0, bars=bars)
    world_model = stages.corrected_world_model(parts, first, tmp_path / "w", seed=0, bars=bars)
    judge = stages.trained_judge((clips, clips[:2]), world_model, tmp_path / "j", seed=0, bars=bars)
    assert Policy.load(policy).chunk == 5
    before, after = (stages.WorldModel.load(file) for file in (autoencoder, world_model))
    same = [
        torch.equal(a, b)
        for a, b in zip(
            before.autoencoder.state_dict().values(), after.autoencoder.state_dict().values(), strict=True
        )
    ]
    assert all(same)  # the autoencoder stays frozen
    assert after.transformer.config.told_path and after.transformer.config.stride == recipe.STRIDE
    for learned, from_ in ((stages.WorldModel.load(first), before), (after, stages.WorldModel.load(first))):
        weights, others = learned.transformer.state_dict(), from_.transformer.state_dict()
        same_shape = (name for name, other in others.items() if weights[name].shape == other.shape)
        assert any(not torch.equal(weights[name], others[name]) for name in same_shape)
    assert stages.ClassifierJudge.load(judge).frames == 3
    assert not (tmp_path / "w.state").exists()


def test_the_judge_sees_frames_with_their_labels_and_doubts_all_without_eggplant_each_also_blurred() -> None:
    model = nano_world_model(seed=0, in_channels=4, dim=16, layers=1, heads=2, max_frames=6)
    clips, emptied = [a_clip(1, success=True)], [a_clip(2, sentence="put the eggplant in the blue sink")]
    examples = stages.judge_examples(clips, emptied, model, seed=0)
    examples.validate()
    assert examples.doubtful is not None
    labelled, empty = [False] * 5 + [True] * 2, 5  # every second frame of 13 from the last; every third
    assert examples.targets.tolist() == [*map(float, labelled), *[0.5] * empty] * 2
    assert examples.instructions == (("open the drawer",) * 7 + (emptied[0].instruction,) * empty) * 2
    assert torch.equal(examples.frames[:7], clips[0].frames[::2])
    assert torch.equal(examples.frames[7:12], emptied[0].frames[::3])
    assert torch.equal(examples.frames[12:], model.decode(model.encode(examples.frames[:12])))


@pytest.mark.parametrize("steps", [12, 13])
def test_thinned_episodes_keep_their_end(steps: int) -> None:
    clip = replace(a_clip(1, steps=steps), subject=torch.rand(steps + 1, 64, 64) > 0.5)
    thin = stages.thinned(clip)
    thin.validate()
    assert clip.subject is not None and thin.subject is not None
    assert torch.equal(thin.subject, clip.subject[steps % 2 :: 2])
    assert torch.equal(thin.frames[-1], clip.frames[-1])
    assert marks_of(thin).tolist() == marks_of(clip)[steps % 2 :: 2].tolist()


def test_films_start_with_the_real_frame_and_have_the_episodes_length() -> None:
    model = nano_world_model(seed=0, in_channels=4, dim=16, layers=1, heads=2, max_frames=6)
    clips = [a_clip(1), a_clip(2)]
    films = stages.imagined_clips(model, clips, seed=0, bars=Bars(shown=False))
    assert [film.shape for film in films] == [clip.frames.shape for clip in clips]


def test_agreement_counts_verdicts_that_equal_the_label() -> None:
    judge = new_judge(stages.INSTRUCTIONS, seed=0, width=8)
    judge.abstain_within = 0.0
    clips = [a_clip(i, success=i % 2 == 0, sentence=stages.INSTRUCTIONS[i % 4]) for i in range(8)]
    found = stages.agreement_at_the_end(judge, [clip.frames for clip in clips], clips)
    assert set(found) == set(stages.INSTRUCTIONS)
    for sentence, row in found.items():
        mine = [clip for clip in clips if clip.instruction == sentence]
        verdicts = judge.judge(torch.stack([clip.frames[-3:] for clip in mine]), [sentence] * 2)
        right = np.mean([bool(v) == clip.success for v, clip in zip(verdicts.success, mine, strict=True)])
        assert row["agreement"] == pytest.approx(right)
        assert row["known"] == 1.0


def test_rates_are_counts_with_wilson_intervals() -> None:
    clips = [a_clip(i, success=i < 7) for i in range(10)]
    assert rates(clips) == {
        "open the drawer": {"successes": 7, "episodes": 10, "wilson_low": 0.3968, "wilson_high": 0.8922}
    }
    assert success_rates(clips) == {"open the drawer": (7, 10)}


def test_the_data_digest_changes_with_any_pixel_or_action() -> None:
    clips = [a_clip(1), a_clip(2)]
    base = data_card(clips, [], [])["sha256"]
    assert data_card(clips, [], [])["sha256"] == base
    touched = a_clip(2)
    touched.actions[3, 1] += 0.001
    assert data_card([clips[0], touched], [], [])["sha256"] != base
    assert data_card([], clips, [])["sha256"] == base  # the bytes count, not the shelf


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pretraining_makes_three_checkpoints_and_a_card_and_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TRAINED:
        monkeypatch.setattr(recipe, f"{name}_UPDATES", 2)
    monkeypatch.setattr(recipe, "NOISES", (0.7,))
    for name, cells in (
        ("TRAINING", range(1000, 1002)),
        ("ON_POLICY", {1.0: range(1200, 1201), 0.0: range(1201, 1202)}),
        ("EGGPLANT", {0.5: range(1202, 1203)}),
    ):
        monkeypatch.setattr(recipe, f"{name}_CELLS", cells)
    monkeypatch.setattr(recipe, "EMPTIED_CELLS", range(1203, 1204))
    monkeypatch.setattr(recipe, "MEASURING_CELLS", range(1, 2))
    monkeypatch.setattr(recipe, "DEMONSTRATIONS", dict.fromkeys(recipe.TASKS, 1))
    monkeypatch.setattr(run, "EPISODES_PER_CELL", 1)
    lines: list[str] = []
    run.pretrain(out=tmp_path, seed=0, bars=Bars(say=lines.append, shown=False))
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["command"] == "gymnastd pretrain --preset nano --seed 0"
    assert set(card["metrics"]["real_success_greedy_unseen_cells"]) == set(stages.INSTRUCTIONS)
    assert len(card["data"]["sha256"]) == 64
    made = {kind: (tmp_path / f"{kind}.safetensors").read_bytes() for kind in run.KINDS}
    assert sum(map(len, made.values())) <= 15_000_000  # what may be committed
    told = CliRunner().invoke(app, ["pretrain", "--out", str(tmp_path), "--json"])
    assert json.loads(told.stdout) == {"folder": str(tmp_path), **card}
    assert f"wrote {tmp_path}" in told.stderr
    again = {kind: (tmp_path / f"{kind}.safetensors").read_bytes() for kind in run.KINDS}
    assert again == made
    assert json.loads((tmp_path / "card.json").read_text()) == card
