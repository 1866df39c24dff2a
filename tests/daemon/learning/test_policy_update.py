"""The policy update in a world that is understood completely: a square that goes where the action says.

The environment keeps the contract that the imagined one keeps; the judge reads the square's place off the
last picture. So a rise in success is learning, and nothing else.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from daemon.learning.batch import Clip
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.grpo import ClipRange, GroupTooSmall
from daemon.learning.learner import PolicyUpdateConfig
from daemon.learning.policy.policy import Policy, new_policy
from daemon.learning.policy_report import PolicyUpdateReport
from daemon.learning.policy_update import Arena, update_policy
from daemon.learning.resumable import Resumable
from daemon.learning.reward.judge import JudgeExhausted, Verdicts
from daemon.learning.rollout import Starts
from daemon.learning.sft import SftConfig, train_policy
from daemon.learning.state import CheckpointUnreadable
from tests.waiting import until

LEFT, RIGHT = "push it left", "push it right"
COLUMNS = torch.arange(64.0)
HALF = 4  # half the square's side, in pixels
PIXELS_PER_METRE = 60.0


def squares(places: torch.Tensor) -> torch.Tensor:
    """Pictures uint8 [B, 3, 64, 64] of red squares centred on columns `places` [B]."""
    inside = (COLUMNS - places[:, None]).abs() <= HALF  # [B, 64]
    pictures = torch.full((len(places), 3, 64, 64), 30, dtype=torch.uint8)
    pictures[:, 0, 24:40] = torch.where(inside, 230, 30).to(torch.uint8)[:, None, :]
    return pictures


def places_of(pictures: torch.Tensor) -> torch.Tensor:
    red = (pictures[:, 0] > 128).float().sum(dim=1)  # [B, 64]
    return (red * COLUMNS).sum(dim=1) / red.sum(dim=1)


class SquareEnv:
    """The square moves along x as the first action component says, one frame per action."""

    def __init__(self) -> None:
        self.places = torch.empty(0)
        self.frames: list[torch.Tensor] = []
        self.resets = 0
        self.seeds: list[list[int]] = []

    def reset(self, images: torch.Tensor, seeds: Sequence[int] | None = None) -> None:
        self.seeds.append(list(seeds or ()))
        self.resets += 1
        self.places = places_of(images)
        self.frames = [images]

    def step(self, actions: torch.Tensor) -> torch.Tensor:
        for t in range(actions.shape[1]):
            self.places = (self.places + PIXELS_PER_METRE * actions[:, t, 0]).clamp(HALF, 63 - HALF)
            self.frames.append(squares(self.places))
        return self.frames[-1]

    def recent_frames(self, count: int) -> torch.Tensor:
        return torch.stack(self.frames[-count:], dim=1)


class SideJudge:
    """Success: the square ended clearly on the side it was to be pushed to. Declines where told to."""

    def __init__(self, *, declines: Sequence[int] = ()) -> None:
        self.declines = declines

    @property
    def frames(self) -> int:
        return 2

    def judge(self, frames: torch.Tensor, instructions: Sequence[str]) -> Verdicts:
        right = torch.tensor([sentence == RIGHT for sentence in instructions])
        places = places_of(frames[:, -1])
        success = torch.where(right, places > 33, places < 30)
        known = torch.ones_like(success)
        known[list(self.declines)] = False
        return Verdicts(success=success, known=known, probability=success.float())


class SteadyJudge(SideJudge):
    """Gives every rollout the same verdict, so that no group has spread."""

    def judge(self, frames: torch.Tensor, instructions: Sequence[str]) -> Verdicts:
        success = torch.ones(len(instructions), dtype=torch.bool)
        return Verdicts(success=success, known=success.clone(), probability=success.float())


def a_policy() -> Policy:
    return new_policy((LEFT, RIGHT), seed=0, chunk=2, width=32, layers=1)


def starts(*, both: bool = False) -> Starts:
    places = torch.tensor([30.0, 31.0, 32.0, 33.0])
    if not both:
        return Starts(images=squares(places), instructions=(RIGHT,) * 4)
    return Starts(images=squares(places.repeat(2)), instructions=(RIGHT,) * 4 + (LEFT,) * 4)


def config(**changes: object) -> PolicyUpdateConfig:
    small = {
        "updates": 3,
        "groups": 4,
        "group_size": 6,
        "chunks": 2,
        "lr": 3e-3,
        "epochs": 2,
        "minibatch": 24,
    }
    return PolicyUpdateConfig(**{**small, **changes})  # type: ignore[arg-type]


def updated(policy: Policy, **changes: object) -> tuple[PolicyUpdateReport, list[dict[str, float]]]:
    told: list[dict[str, float]] = []
    parts = {"env": SquareEnv(), "judge": SideJudge(), "starts": starts(), **changes}
    report = update_policy(
        policy,
        Arena(**{name: parts[name] for name in ("env", "judge", "starts")}),  # type: ignore[arg-type]
        config=parts.get("config", config()),  # type: ignore[arg-type]
        on_update=lambda _, metrics: told.append(metrics),
        resumable=parts.get("resumable"),  # type: ignore[arg-type]
    )
    return report, told


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in policy.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def test_success_rises_where_success_is_rewarded() -> None:
    policy = a_policy()
    report, told = updated(policy, config=config(updates=20, groups=8, minibatch=48))
    success = report.imagined_success[RIGHT]
    assert success.first is not None
    assert success.last is not None
    assert success.first < 0.6
    assert success.last > success.first + 0.3
    assert success.last > 0.8
    assert success.rollouts == 20 * 48
    entropies = [metrics["entropy"] for metrics in told if "entropy" in metrics]
    assert entropies[-1] < entropies[0]
    chunk = policy.act(starts().images, starts().instructions)
    assert chunk.actions[..., 0].mean() > 0  # greedily, too, it now pushes right


def a_timid_policy() -> Policy:
    """Has learned by imitation which way to push, but pushes by a pixel or so in all."""
    policy = a_policy()
    clips = []
    for sentence, push in ((RIGHT, 0.005), (LEFT, -0.005)):
        actions = torch.zeros(4, 7)
        actions[:, 0] = push
        places = torch.tensor([28.0, 30.0, 32.0, 34.0, 36.0])
        clips.append(Clip(frames=squares(places), actions=actions, instruction=sentence, episode_id=sentence))
    imitation = SftConfig(updates=80, batch=16, lr=3e-3, augment=None)
    train_policy(policy, clips, config=imitation, on_update=lambda *_: None)
    return policy


def test_after_imitation_every_instruction_improves() -> None:
    policy = a_timid_policy()
    report, _ = updated(
        policy,
        starts=starts(both=True),
        config=config(updates=25, groups=8, minibatch=48, temperature=1.6, lr=2e-3),
    )
    for sentence in (LEFT, RIGHT):
        success = report.imagined_success[sentence]
        assert success.first is not None
        assert success.last is not None
        assert success.last > success.first + 0.25, sentence
        assert success.last > 0.7, sentence
    pushes = policy.act(squares(torch.tensor([31.0, 31.0])), [RIGHT, LEFT]).actions[..., 0].mean(dim=1)
    assert pushes[0] > 0.005
    assert pushes[1] < -0.005


def test_groups_without_spread_teach_nothing() -> None:
    policy = a_policy()
    before = weights(policy)
    report, told = updated(policy, judge=SteadyJudge())
    assert same(before, weights(policy))
    assert report.optimizer_steps == 0
    assert report.informative_share == 0
    assert all("loss" not in metrics for metrics in told)
    assert [metrics["imagined_success"] for metrics in told] == [1.0] * 3


def test_rollouts_without_a_verdict_are_neither_counted_nor_learned_from() -> None:
    policy = a_policy()
    before = weights(policy)
    report, told = updated(policy, judge=SideJudge(declines=range(24)))
    assert same(before, weights(policy))
    assert report.known_share == 0
    assert (report.imagined_success[RIGHT].first, report.imagined_success[RIGHT].last) == (None, None)
    assert "imagined_success" not in told[0]


def test_a_judge_that_sometimes_declines_still_teaches() -> None:
    report, told = updated(a_policy(), judge=SideJudge(declines=[0, 7, 13]))
    assert report.known_share == pytest.approx(21 / 24)
    assert report.imagined_success[RIGHT].rollouts == 3 * 21
    assert report.optimizer_steps > 0
    assert told[0]["known_share"] == pytest.approx(21 / 24)


def test_every_update_is_told_with_all_its_measurements() -> None:
    _, told = updated(a_policy(), starts=starts(both=True))
    assert len(told) == 3
    assert set(told[0]) == {
        "imagined_success",
        f"imagined_success/{LEFT}",
        f"imagined_success/{RIGHT}",
        "known_share",
        "informative_share",
        "groups_learned",
        "groups_carried",
        "groups_dropped",
        "wasted_rollouts",
        "optimizer_steps",
        "loss",
        "policy_loss",
        "clip_fraction",
        "approx_kl",
        "entropy",
        "grad_norm",
    }
    assert told[0]["entropy"] == pytest.approx(torch.tensor(31.0).log().item(), abs=0.2)


def test_the_first_step_finds_the_policy_that_acted() -> None:
    """With one step per update nothing has moved: no divergence, nothing clipped."""
    _, told = updated(a_policy(), config=config(updates=1, epochs=1, minibatch=1000))
    assert told[0]["optimizer_steps"] == 1
    assert told[0]["approx_kl"] < 1e-8
    assert told[0]["clip_fraction"] == 0


def test_half_precision_does_not_invent_a_divergence() -> None:
    """Acting and learning see batches of different sizes, whose roundings differ; the ratio must not care."""
    policy = a_policy()
    policy.precision = torch.bfloat16
    _, told = updated(policy, config=config(updates=1, epochs=1, minibatch=7, lr=1e-9))
    assert told[0]["optimizer_steps"] > 1
    assert told[0]["approx_kl"] < 1e-4
    assert told[0]["clip_fraction"] == 0


def test_the_number_of_steps_follows_epochs_and_minibatches() -> None:
    report, told = updated(
        a_policy(), config=config(updates=1, epochs=3, minibatch=12, lr=1e-6, max_approx_kl=1e9)
    )
    informative = round(told[0]["informative_share"] * 4)
    decisions = informative * 6 * 2
    assert informative > 0
    assert report.optimizer_steps == 3 * -(-decisions // 12)


def test_a_policy_that_has_moved_far_waits_for_new_rollouts() -> None:
    report, _ = updated(a_policy(), config=config(updates=1, epochs=50, lr=3e-2, max_approx_kl=0.02))
    assert 1 < report.optimizer_steps < 50


def test_the_clip_range_is_the_one_asked_for() -> None:
    def clipped(clip: ClipRange) -> float:
        _, told = updated(a_policy(), config=config(updates=1, epochs=6, max_approx_kl=1e9, clip=clip))
        return told[0]["clip_fraction"]

    assert clipped(ClipRange(low=0.01, high=0.01)) > 0.2
    assert clipped(ClipRange(low=0.99, high=1e6)) == 0


def test_a_gradient_cut_to_nothing_moves_nothing() -> None:
    policy = a_policy()
    before = weights(policy)
    _, told = updated(policy, config=config(updates=1, max_grad_norm=1e-14))
    assert told[0]["grad_norm"] > 1e-3  # reported before the cut
    moved = max(float((value - before[name]).abs().max()) for name, value in weights(policy).items())
    assert moved < 1e-6


def test_words_that_were_not_said_keep_their_embedding() -> None:
    """Without gradient there is no change: nothing decays towards zero behind the policy's back."""
    policy = a_policy()
    before = weights(policy)["words.weight"]
    updated(policy)
    said = set(policy.tokenizer(RIGHT)["input_ids"])
    silent = [row for row in range(len(before)) if row not in said]
    after = weights(policy)["words.weight"]
    assert torch.equal(after[silent], before[silent])
    assert not torch.equal(after, before)


def test_the_same_seed_learns_the_same() -> None:
    outcomes = []
    for seed in (1, 1, 2):
        policy = a_policy()
        updated(policy, config=config(updates=1, seed=seed))
        outcomes.append(weights(policy))
    assert same(outcomes[0], outcomes[1])
    assert not same(outcomes[0], outcomes[2])


def test_each_update_imagines_anew() -> None:
    env = SquareEnv()
    report, _ = updated(a_policy(), env=env, config=config(updates=4))
    assert env.resets == report.updates == 4


def test_no_updates_leave_the_policy_as_it_was() -> None:
    policy = a_policy()
    before = weights(policy)
    report, told = updated(policy, config=config(updates=0))
    assert (report.updates, report.optimizer_steps, report.imagined_success, told) == (0, 0, {}, [])
    assert same(before, weights(policy))


def test_a_group_of_one_is_refused() -> None:
    with pytest.raises(GroupTooSmall):
        updated(a_policy(), config=config(group_size=1))


class PoisonedPolicy(Policy):
    """Acts well, but its scores are infinite: stands for an overflow in the backward pass."""

    def logits(self, images: torch.Tensor, instructions: Sequence[str]) -> torch.Tensor:
        logits = super().logits(images, instructions)
        return logits * torch.inf if torch.is_grad_enabled() else logits


def test_a_loss_that_is_not_finite_stops_and_keeps_the_weights() -> None:
    sound = a_policy()
    policy = PoisonedPolicy(sound.model, sound.tokenizer, binning=sound.binning)
    before = weights(policy)
    with pytest.raises(NonFiniteLoss, match="update_policy stopped at update 1"):
        updated(policy)
    assert same(before, weights(policy))


def test_groups_that_an_update_has_no_room_for_wait_for_the_next() -> None:
    env = SquareEnv()
    report, told = updated(a_policy(), env=env, config=config(informative_groups=1, updates=3))
    informative = round(told[0]["informative_share"] * 4)
    assert informative >= 3, "or there is nothing to carry"
    assert [metrics["groups_learned"] for metrics in told] == [1.0] * 3
    assert [metrics["groups_carried"] for metrics in told] == [
        informative - 1,
        informative - 2,
        informative - 3,
    ]
    assert env.resets == 1, "nothing is imagined while enough groups wait"
    assert not told[1].keys() & {"known_share", "informative_share", "imagined_success"}
    assert report.informative_share == told[0]["informative_share"]
    assert all(success.last is not None for success in report.imagined_success.values())


def test_a_group_that_waited_too_long_is_given_up() -> None:
    _, told = updated(a_policy(), config=config(informative_groups=1, updates=4))
    first, last = (round(told[place]["informative_share"] * 4) for place in (0, 3))
    assert [metrics["groups_dropped"] for metrics in told[:3]] == [4 - first, 0, 0]
    too_old = told[3]["groups_dropped"] - (4 - last)
    assert too_old == first - 3, "three of the first were learned from, the others were too old"


def test_batches_are_imagined_until_enough_groups_inform() -> None:
    env = SquareEnv()
    _, told = updated(a_policy(), env=env, config=config(updates=1, informative_groups=7, most_batches=5))
    assert 2 <= env.resets < 5
    assert told[0]["groups_learned"] == 7
    few = SquareEnv()
    _, told = updated(
        a_policy(),
        env=few,
        judge=SteadyJudge(),
        config=config(updates=1, informative_groups=7, most_batches=3),
    )
    assert (few.resets, told[0]["groups_learned"]) == (3, 0)


def test_wasted_rollouts_are_those_that_nobody_learns_from() -> None:
    _, told = updated(a_policy(), judge=SteadyJudge())
    assert [metrics["wasted_rollouts"] for metrics in told] == [24.0] * 3
    _, told = updated(a_policy(), judge=SideJudge(declines=[0]), config=config(updates=1))
    uninformative = 4 - round(told[0]["informative_share"] * 4)
    assert told[0]["wasted_rollouts"] in (6 * uninformative, 6 * uninformative + 1)


def test_rollouts_of_a_group_can_share_the_noise_of_the_world() -> None:
    shared, own = SquareEnv(), SquareEnv()
    updated(a_policy(), env=shared, config=config(updates=1, common_noise=True))
    updated(a_policy(), env=own, config=config(updates=1))
    assert [len(set(shared.seeds[0][group : group + 6])) for group in (0, 6, 12, 18)] == [1] * 4
    assert len(set(shared.seeds[0])) == 4
    assert len(set(own.seeds[0])) == 24


def test_a_policy_can_be_kept_near_the_one_it_began_with() -> None:
    def moved(kl: float) -> tuple[float, list[dict[str, float]]]:
        policy = a_policy()
        before = policy.act(starts().images, starts().instructions)
        _, told = updated(policy, config=config(updates=6, kl=kl, max_approx_kl=1e9))
        now = policy.log_probs(starts().images, starts().instructions, before.tokens, temperature=1.0)
        return float((now - before.log_probs).abs().mean().detach()), told

    free, told = moved(0.0)
    assert all("kl" not in metrics for metrics in told)
    held, told = moved(3.0)
    assert held < 0.7 * free
    assert told[-1]["kl"] > 0


class SpentJudge(SideJudge):
    """May be asked so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def judge(self, frames: torch.Tensor, instructions: Sequence[str]) -> Verdicts:
        self.times -= 1
        if self.times < 0:
            raise JudgeExhausted("its budget is spent")
        return super().judge(frames, instructions)


def test_a_judge_that_may_not_be_asked_any_more_ends_the_updates_and_keeps_what_was_learned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy, whole = a_policy(), a_policy()
    report, told = updated(policy, judge=SpentJudge(2), config=config(updates=5))
    assert (report.updates, len(told)) == (2, 2)
    assert "updates ended early update=3" in caplog.text
    updated(whole, config=config(updates=2))
    assert same(weights(policy), weights(whole))


class Crash(Exception):
    """Stands for a killed process."""


@pytest.mark.parametrize("extra", [{}, {"informative_groups": 3, "by_promise": True, "kl": 0.5}])
def test_interrupted_updates_go_on_as_if_nothing_had_happened(
    tmp_path: Path, extra: dict[str, object]
) -> None:
    asked = config(updates=5, **extra)
    whole_policy, policy = a_policy(), a_policy()
    whole, told_whole = updated(whole_policy, config=asked, starts=starts(both=True))
    state = Resumable(file=tmp_path / "state", binding="these", due=lambda: True)

    class BreakingEnv(SquareEnv):
        def step(self, actions: torch.Tensor) -> torch.Tensor:
            if self.resets == 3:
                raise Crash
            return super().step(actions)

    with pytest.raises(Crash):
        updated(policy, config=asked, starts=starts(both=True), env=BreakingEnv(), resumable=state)
    again = a_policy()
    report, told = updated(again, config=asked, starts=starts(both=True), resumable=state)
    assert 1 <= len(told) <= 3
    assert told == told_whole[-len(told) :]
    assert report == whole
    assert same(weights(again), weights(whole_policy))


def test_a_state_of_other_updates_is_refused(tmp_path: Path) -> None:
    def state(binding: str) -> Resumable:
        return Resumable(file=tmp_path / "state", binding=binding, due=lambda: True)

    updated(a_policy(), resumable=state("one"))
    policy = a_policy()
    with pytest.raises(CheckpointUnreadable, match="the training two"):
        updated(policy, resumable=state("two"))
    assert same(weights(policy), weights(a_policy()))


class WanderingEnv(SquareEnv):
    """Whatever is done, rollouts of even number cross to the right in the first chunk and come back after."""

    def step(self, actions: torch.Tensor) -> torch.Tensor:
        even = torch.arange(len(self.places)) % 2 == 0
        to_the_right = torch.where(even, 40.0, 28.0)
        self.places = to_the_right if len(self.frames) == 1 else torch.full_like(to_the_right, 28.0)
        self.frames += [squares(self.places)] * actions.shape[1]
        return self.frames[-1]


def test_a_rollout_that_stopped_on_success_is_one_whatever_it_would_have_done_after() -> None:
    report, told = updated(a_policy(), env=WanderingEnv(), config=config(updates=1))
    assert (told[0]["imagined_success"], report.optimizer_steps) == (0.0, 0)
    assert "stopped_share" not in told[0]
    report, told = updated(
        a_policy(),
        env=WanderingEnv(),
        config=config(updates=1, epochs=1, minibatch=1000, stop_on_success=True),
    )
    assert (told[0]["imagined_success"], told[0]["stopped_share"]) == (0.5, 0.5)
    assert (told[0]["informative_share"], told[0]["wasted_rollouts"]) == (1.0, 0.0)
    # Of six rollouts of a group three end with their first decision and have advantage 1, three with their
    # second and have -1: the mean over nine is -1/3, and the loss, with nothing moved, its opposite.
    assert told[0]["loss"] == pytest.approx(1 / 3, abs=1e-4)


def test_success_also_rises_where_rollouts_stop_on_it() -> None:
    report, told = updated(
        a_policy(), config=config(updates=15, groups=8, minibatch=48, stop_on_success=True)
    )
    success = report.imagined_success[RIGHT]
    assert success.first is not None
    assert success.last is not None
    assert success.last > max(0.8, success.first + 0.2)
    assert told[-1]["stopped_share"] > told[0]["stopped_share"]


class PatientJudge(SideJudge):
    """Is asked in whichever thread; where it is told to, it answers only once the next batch has begun."""

    def __init__(self, env: SquareEnv, *, waits_for: Sequence[int] = ()) -> None:
        super().__init__()
        self.env, self.waits_for = env, waits_for
        self.threads: list[str] = []
        self.seen: list[torch.Tensor] = []

    def judge(self, frames: torch.Tensor, instructions: Sequence[str]) -> Verdicts:
        self.threads.append(threading.current_thread().name.split("_")[0])
        self.seen.append(frames.clone())
        if len(self.threads) in self.waits_for:
            begun = len(self.threads) + 1
            until(lambda: self.env.resets >= begun, "the next batch begins while this one is judged")
        return super().judge(frames, instructions)


def test_the_next_batch_is_imagined_while_a_distant_judge_thinks() -> None:
    env = SquareEnv()
    judge = PatientJudge(env, waits_for=(1, 2))
    _, told = updated(
        a_policy(),
        env=env,
        judge=judge,
        config=config(updates=1, informative_groups=100, most_batches=3, remote_judge=True),
    )
    assert env.resets == 3
    assert judge.threads == ["judge", "judge", "MainThread"], "after the last there is nothing to imagine"
    assert told[0]["groups_dropped"] + told[0]["groups_learned"] == 12


OVERLAPS = {
    "all batches": {"informative_groups": 100, "most_batches": 3},
    "the first suffices": {"informative_groups": 1, "most_batches": 4},
    "some suffice": {"informative_groups": 6, "most_batches": 4},
    "one batch": {"informative_groups": 3, "most_batches": 1},
    "whatever there is": {"most_batches": 4},
    "one noise": {"informative_groups": 6, "most_batches": 3, "common_noise": True},
}


@pytest.mark.parametrize("extra", OVERLAPS.values(), ids=OVERLAPS)
def test_imagining_ahead_changes_nothing_but_the_time(extra: dict[str, object]) -> None:
    """Whether a batch ahead was needed or not: the same films are judged, the same weights come out."""
    found = []
    for remote in (False, True):
        env, policy = SquareEnv(), a_policy()
        judge = PatientJudge(env)
        report, told = updated(
            policy,
            env=env,
            judge=judge,
            starts=starts(both=True),
            config=config(updates=4, remote_judge=remote, **extra),
        )
        found.append((report, told, judge.seen, weights(policy), env.resets))
    (one, told, seen, before, asked), (two, told_too, seen_too, after, imagined) = found
    assert (one, told) == (two, told_too)
    assert len(seen) == len(seen_too) == asked <= imagined
    assert all(torch.equal(*films) for films in zip(seen, seen_too, strict=True))
    assert same(before, after)


def test_a_batch_that_was_imagined_for_nothing_is_forgotten() -> None:
    env = SquareEnv()
    extra = OVERLAPS["the first suffices"]
    _, told = updated(a_policy(), env=env, config=config(updates=1, remote_judge=True, **extra))
    assert env.resets == 2
    assert told[0]["groups_learned"] + told[0]["groups_carried"] + told[0]["groups_dropped"] == 4


@pytest.mark.parametrize("why", ["by_promise", "stop_on_success"])
def test_nothing_is_imagined_ahead_of_verdicts_that_decide_about_it(why: str) -> None:
    """On starts that they make promising, and on whether a judge that is asked on the way has any budget."""
    env = SquareEnv()
    judge = PatientJudge(env)
    extra = {"informative_groups": 100, "most_batches": 3, "remote_judge": True, why: True}
    updated(a_policy(), env=env, judge=judge, config=config(updates=2, **extra))
    assert set(judge.threads) == {"MainThread"}
    assert env.resets == 6


def test_a_distant_judge_that_is_exhausted_ends_the_updates_as_a_near_one_does() -> None:
    found = []
    for remote in (False, True):
        policy = a_policy()
        asked = config(updates=5, informative_groups=100, most_batches=3, remote_judge=remote)
        report, told = updated(policy, judge=SpentJudge(4), config=asked)
        found.append((report, told, weights(policy)))
    assert found[0][0].updates == 2, "three batches each: the second learns from the one that was judged"
    assert found[0][0].optimizer_steps > 0
    assert found[0][:2] == found[1][:2]
    assert same(found[0][2], found[1][2])
