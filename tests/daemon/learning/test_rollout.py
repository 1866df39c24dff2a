"""Rollouts: what is recorded is what was seen and done, in the order in which it happened."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from daemon.learning.batch import fitted, resize_frames
from daemon.learning.errors import BadTensor
from daemon.learning.policy.nano_vla import NanoVLA, NanoVLAConfig
from daemon.learning.policy.policy import ActionChunk, Policy, new_policy
from daemon.learning.reward.judge import Verdicts
from daemon.learning.rollout import Env, RolloutPlan, Rollouts, Starts, ToldEnv, rollout

SENTENCES = ("open the drawer", "close the drawer", "open the drawer")


class CountingEnv:
    """Pictures carry the number of the sample in channel 0 and the number of past actions in channel 1."""

    def __init__(self) -> None:
        self.chunks: list[torch.Tensor] = []
        self.starts = torch.empty(0)
        self.frames: list[torch.Tensor] = []
        self.seeds: list[int] = []
        self.looks = 0

    def reset(self, images: torch.Tensor, seeds: Sequence[int] | None = None) -> None:
        self.starts, self.seeds = images, list(seeds or ())
        self.frames = [images]
        self.chunks = []

    def step(self, actions: torch.Tensor) -> torch.Tensor:
        self.chunks.append(actions)
        for _ in range(actions.shape[1]):
            later = self.frames[-1].clone()
            later[:, 1] += 1
            self.frames.append(later)
        return self.frames[-1]

    def recent_frames(self, count: int) -> torch.Tensor:
        self.looks += 1
        padded = [self.frames[0]] * (count - len(self.frames)) + self.frames[-count:]
        return torch.stack(padded, dim=1)


class PastJudge:
    """Success: so many actions are past, by the number of the sample. Notes whom it was asked about."""

    def __init__(self, wanted: dict[int, int], *, frames: int = 3, unsure: Sequence[int] = ()) -> None:
        self.wanted, self._frames, self.unsure = wanted, frames, unsure
        self.asked: list[list[int]] = []
        self.films: list[torch.Tensor] = []
        self.told: list[tuple[str, ...]] = []

    @property
    def frames(self) -> int:
        return self._frames

    def judge(self, frames: torch.Tensor, instructions: Sequence[str]) -> Verdicts:
        samples = frames[:, -1, 0, 0, 0].tolist()
        self.asked.append(samples)
        self.films.append(frames[:, :, 1, 0, 0])
        self.told.append(tuple(instructions))
        past = frames[:, -1, 1, 0, 0].tolist()
        success = [done >= self.wanted.get(sample, 99) for sample, done in zip(samples, past, strict=True)]
        return Verdicts(
            success=torch.tensor(success),
            known=torch.tensor([sample not in self.unsure for sample in samples]),
            probability=torch.tensor(success).float(),
        )


def a_policy() -> Policy:
    policy = new_policy(SENTENCES, seed=0, chunk=2, width=32, layers=1)
    with torch.no_grad():
        policy.model.head.weight.mul_(4)
    return policy


def starts() -> Starts:
    images = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    images[:, 0] = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None]
    return Starts(images=images, instructions=SENTENCES)


def rolled(
    env: Env,
    *,
    chunks: int = 4,
    temperature: float = 1.0,
    seed: int = 0,
    final_frames: int = 3,
    stop: PastJudge | None = None,
) -> Rollouts:
    plan = RolloutPlan(chunks=chunks, temperature=temperature, final_frames=final_frames, stop=stop)
    return rollout(a_policy(), env, starts(), plan=plan, generator=torch.Generator().manual_seed(seed))


def test_shapes_are_those_that_were_promised() -> None:
    done = rolled(CountingEnv())
    assert done.images.shape == (3, 4, 3, 64, 64)
    assert done.tokens.shape == done.log_probs.shape == (3, 4, 2, 7)
    assert done.final_frames.shape == (3, 3, 3, 64, 64)
    assert done.instructions == SENTENCES
    assert (done.images.dtype, done.tokens.dtype, done.log_probs.dtype) == (
        torch.uint8,
        torch.int64,
        torch.float32,
    )


def test_each_decision_is_recorded_with_the_picture_it_was_made_on() -> None:
    """Chunk k is decided after k·L actions: the first picture is the start, the last is not among them."""
    done = rolled(CountingEnv())
    assert done.images[:, :, 1, 0, 0].tolist() == [[0, 2, 4, 6]] * 3
    assert done.images[:, :, 0, 0, 0].tolist() == [[10] * 4, [20] * 4, [30] * 4]


def test_the_judge_gets_the_last_frames_one_per_action() -> None:
    assert rolled(CountingEnv()).final_frames[:, :, 1, 0, 0].tolist() == [[6, 7, 8]] * 3


def test_the_environment_does_what_the_tokens_say() -> None:
    env = CountingEnv()
    done = rolled(env)
    assert len(env.chunks) == 4
    for k, executed in enumerate(env.chunks):
        assert torch.equal(executed, a_policy().binning.decode(done.tokens[:, k]))


@pytest.mark.parametrize("temperature", [0.7, 1.6])
def test_log_probabilities_are_those_of_the_policy_that_acted(temperature: float) -> None:
    done, policy = rolled(CountingEnv(), temperature=temperature), a_policy()
    for k in range(4):
        again = policy.log_probs(done.images[:, k], SENTENCES, done.tokens[:, k], temperature=temperature)
        torch.testing.assert_close(again.detach(), done.log_probs[:, k], atol=1e-5, rtol=1e-5)


def test_the_seed_decides_and_greedy_needs_none() -> None:
    one, two, other = (rolled(CountingEnv(), seed=seed).tokens for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    greedy = [rolled(CountingEnv(), temperature=0.0, seed=seed).tokens for seed in (1, 2)]
    assert torch.equal(*greedy)


def test_rollouts_from_the_same_start_differ() -> None:
    same = starts().take([0] * 6)
    plan = RolloutPlan(chunks=2, temperature=1.0, final_frames=1)
    done = rollout(a_policy(), CountingEnv(), same, plan=plan, generator=torch.Generator().manual_seed(0))
    assert len({tuple(tokens.flatten().tolist()) for tokens in done.tokens}) == 6


def test_every_rollout_starts_where_it_should() -> None:
    env = CountingEnv()
    rolled(env)
    assert torch.equal(env.starts, starts().images)


class ShrinkingEnv(CountingEnv):
    """Loses a sample, as an environment with a bug might."""

    def step(self, actions: torch.Tensor) -> torch.Tensor:
        return super().step(actions)[:-1]


def test_an_environment_that_loses_a_sample_is_caught() -> None:
    with pytest.raises(BadTensor, match="environment"):
        rolled(ShrinkingEnv())


def test_starts_can_be_taken_in_any_order_and_often() -> None:
    taken = starts().take([2, 0, 0])
    assert taken.images[:, 0, 0, 0].tolist() == [30, 10, 10]
    assert taken.instructions == (SENTENCES[2], SENTENCES[0], SENTENCES[0])
    assert len(taken) == 3


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(3, 3, 64, 64),
        torch.zeros(3, 64, 64, 3, dtype=torch.uint8),
        torch.zeros(0, 3, 64, 64, dtype=torch.uint8),
        torch.zeros(3, 64, 64, dtype=torch.uint8),
    ],
)
def test_starts_that_are_no_pictures_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(BadTensor, match="starts"):
        Starts(images=images, instructions=SENTENCES)


def test_every_start_needs_a_sentence() -> None:
    with pytest.raises(BadTensor, match="2 for 3 images"):
        Starts(images=starts().images, instructions=SENTENCES[:2])


def test_the_environment_is_told_the_seeds_of_its_noise() -> None:
    env = CountingEnv()
    plan = RolloutPlan(chunks=1, temperature=0.0, final_frames=1)
    rollout(a_policy(), env, starts(), plan=plan, seeds=[4, 5, 6])
    assert env.seeds == [4, 5, 6]


class RecordingPolicy(Policy):
    """Keeps every picture that it decided by."""

    shown: list[torch.Tensor]

    def act(self, images: torch.Tensor, *args: object, **kwargs: object) -> ActionChunk:
        self.shown = [*getattr(self, "shown", []), images]
        return super().act(images, *args, **kwargs)  # type: ignore[arg-type]


def a_policy_of(size: int) -> RecordingPolicy:
    """Untrained, and decides by pictures of so many pixels on a side."""
    known = a_policy()
    config = NanoVLAConfig(image_size=size, vocabulary=len(known.tokenizer), chunk=2, width=32, layers=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RecordingPolicy(NanoVLA(config), known.tokenizer, binning=known.binning)


def noise(side: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, 3, side, side), generator=generator).byte()


@pytest.mark.parametrize(("environment", "size"), [(64, 32), (64, 128), (64, 96), (256, 64)])
def test_a_policy_of_another_size_gets_what_a_camera_of_that_size_would_give(
    environment: int, size: int
) -> None:
    """The environment keeps its own size; what is recorded is what was seen, so that scoring sees it too."""
    env, policy = CountingEnv(), a_policy_of(size)
    begun = Starts(images=noise(environment), instructions=SENTENCES)
    plan = RolloutPlan(chunks=3, temperature=1.0, final_frames=2)
    done = rollout(policy, env, begun, plan=plan, generator=torch.Generator().manual_seed(1))
    assert done.images.shape == (3, 3, 3, size, size)
    assert done.final_frames.shape == (3, 2, 3, environment, environment)
    for chunk, at in enumerate((0, 2, 4)):
        camera = np.ascontiguousarray(env.frames[at].permute(0, 2, 3, 1).numpy())
        assert torch.equal(done.images[:, chunk], resize_frames(camera, size))
        assert torch.equal(done.images[:, chunk], policy.shown[chunk])
        again = policy.log_probs(done.images[:, chunk], SENTENCES, done.tokens[:, chunk], temperature=1.0)
        torch.testing.assert_close(again.detach(), done.log_probs[:, chunk], atol=1e-5, rtol=1e-5)


def test_pictures_of_the_policy_s_size_reach_it_untouched() -> None:
    policy = a_policy_of(64)
    begun = Starts(images=noise(64), instructions=SENTENCES)
    rollout(policy, CountingEnv(), begun, plan=RolloutPlan(chunks=1, temperature=0.0, final_frames=1))
    assert policy.shown[0].data_ptr() == begun.images.data_ptr()


@pytest.mark.parametrize("between", [128, 64])
def test_by_way_of_a_world_model_a_picture_is_the_robot_s_but_for_rounding(between: int) -> None:
    """256 to 64 at once, or by way of the size that the world model imagines at."""
    camera = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    robot = resize_frames(camera, 64)
    imagined = fitted(resize_frames(camera, between), 64)
    assert int((robot.int() - imagined.int()).abs().max()) <= (between != 64)


def test_the_environment_s_pictures_must_be_pictures() -> None:
    class Floating(CountingEnv):
        def step(self, actions: torch.Tensor) -> torch.Tensor:
            return super().step(actions).float()

    plan = RolloutPlan(chunks=2, temperature=0.0, final_frames=1)
    with pytest.raises(BadTensor, match=r"fitted.*uint8.*float32"):
        rollout(a_policy_of(32), Floating(), starts(), plan=plan)


def test_without_a_judge_on_the_way_all_act_to_the_end_and_frames_are_looked_at_once() -> None:
    env = CountingEnv()
    done = rolled(env)
    assert done.valid.dtype == torch.bool
    assert done.valid.tolist() == [[True] * 4] * 3
    assert env.looks == 1


def test_a_rollout_is_over_where_the_judge_sees_success_and_others_go_on() -> None:
    """Two actions a chunk: sample 10 is done with the first, sample 20 with the third, sample 30 never."""
    judge = PastJudge({10: 2, 20: 5})
    done = rolled(CountingEnv(), stop=judge)
    assert done.valid.tolist() == [
        [True, False, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]
    assert done.final_frames[:, :, 0, 0, 0].tolist() == [[10] * 3, [20] * 3, [30] * 3]
    assert done.final_frames[:, :, 1, 0, 0].tolist() == [[0, 1, 2], [4, 5, 6], [6, 7, 8]]


def test_who_is_over_is_not_asked_about_again_and_after_the_last_chunk_nobody_is() -> None:
    judge = PastJudge({10: 2, 20: 5})
    rolled(CountingEnv(), stop=judge)
    assert judge.asked == [[10, 20, 30], [20, 30], [20, 30]]
    assert judge.told == [SENTENCES, SENTENCES[1:], SENTENCES[1:]]
    last = PastJudge({10: 8, 20: 8, 30: 8})
    assert rolled(CountingEnv(), stop=last).valid.all()
    assert len(last.asked) == 3


def test_when_all_are_over_nothing_more_is_done() -> None:
    env = CountingEnv()
    done = rolled(env, stop=PastJudge({10: 4, 20: 2, 30: 3}))
    assert len(env.chunks) == 2
    assert done.images.shape[:2] == done.tokens.shape[:2] == done.valid.shape == (3, 2)
    assert done.valid.tolist() == [[True, True], [True, False], [True, True]]
    assert done.final_frames[:, -1, 1, 0, 0].tolist() == [4, 2, 4]


def test_a_judge_that_does_not_know_ends_nothing() -> None:
    done = rolled(CountingEnv(), stop=PastJudge({10: 0, 20: 0, 30: 0}, unsure=(10, 30)))
    assert done.valid.sum(dim=1).tolist() == [4, 1, 4]


def test_what_a_judge_sees_on_the_way_begins_with_the_first_picture_again_where_there_are_fewer() -> None:
    judge = PastJudge({}, frames=5)
    done = rolled(CountingEnv(), final_frames=5, stop=judge)
    assert [film[0].tolist() for film in judge.films] == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4], [2, 3, 4, 5, 6]]
    assert done.final_frames[0, :, 1, 0, 0].tolist() == [4, 5, 6, 7, 8]


def test_before_its_end_a_rollout_is_what_it_would_have_been_without_a_judge() -> None:
    """The batch moves on together, so that nobody's draws depend on who is over."""
    stopped, whole = rolled(CountingEnv(), stop=PastJudge({10: 2, 20: 5})), rolled(CountingEnv())
    assert torch.equal(stopped.tokens[stopped.valid], whole.tokens[stopped.valid])
    assert torch.equal(stopped.log_probs[stopped.valid], whole.log_probs[stopped.valid])
    assert torch.equal(stopped.images[stopped.valid], whole.images[stopped.valid])


def test_an_environment_of_one_ends_with_its_rollout() -> None:
    env, plan = CountingEnv(), RolloutPlan(chunks=4, temperature=0.0, final_frames=3, stop=PastJudge({20: 3}))
    done = rollout(a_policy(), env, starts().take([1]), plan=plan)
    assert len(env.chunks) == 2
    assert done.valid.tolist() == [[True, True]]


def test_who_wants_to_know_is_told_of_every_chunk_and_may_end_it_all() -> None:
    class Lost(Exception):
        pass

    def lost(done: int) -> None:
        if done == 2:
            raise Lost

    heard: list[int] = []
    inner = CountingEnv()
    told = rolled(ToldEnv(inner, heard.append))
    plain = rolled(CountingEnv())
    assert heard == list(range(1, len(inner.chunks) + 1))
    assert torch.equal(told.tokens, plain.tokens), "being told changes nothing"
    inner = CountingEnv()
    with pytest.raises(Lost):
        rolled(ToldEnv(inner, lost))
    assert len(inner.chunks) == 2
