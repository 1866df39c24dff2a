"""Imitation: the right chunk at the right frame, every instruction in turn, and a policy that gets there."""

import pytest
import torch

from daemon.learning.augment import Augmentation
from daemon.learning.batch import Clip, ClipInvalid
from daemon.learning.errors import NonFiniteLoss
from daemon.learning.policy.policy import Policy, new_policy
from daemon.learning.sft import NoDemonstrations, SftConfig, chunk_targets, demonstrations_of, train_policy

LEFT, RIGHT = "push the square left", "push the square right"


def a_policy(chunk: int = 2) -> Policy:
    return new_policy((LEFT, RIGHT), seed=0, chunk=chunk, width=32, layers=1)


def square_at(x: int) -> torch.Tensor:
    picture = torch.full((3, 64, 64), 30, dtype=torch.uint8)
    picture[0, 24:40, x : x + 12] = 230
    return picture


def a_clip(instruction: str = RIGHT, *, steps: int = 4, start: int = 20) -> Clip:
    sign = 1 if instruction == RIGHT else -1
    actions = torch.zeros(steps, 7)
    actions[:, 0] = sign * 0.03
    actions[:, 6] = torch.linspace(0, 1, steps)
    return Clip(
        frames=torch.stack([square_at(start + sign * 3 * t) for t in range(steps + 1)]),
        actions=actions,
        instruction=instruction,
        episode_id=f"{instruction} {start}",
    )


def quiet(_: int, __: dict[str, float]) -> None:
    """Nobody listens."""


def test_a_chunk_is_the_actions_from_here_on_and_then_stands_still() -> None:
    actions = torch.arange(21.0).view(3, 7)
    rows = chunk_targets(actions, 2)
    assert rows.shape == (3, 2, 7)
    assert rows[0].tolist() == actions[:2].tolist()
    assert rows[1].tolist() == actions[1:].tolist()
    assert rows[2].tolist() == [
        actions[2].tolist(),
        [0, 0, 0, 0, 0, 0, 20.0],
    ]  # the gripper stays as commanded


def test_a_chunk_longer_than_the_clip_is_filled_up() -> None:
    rows = chunk_targets(torch.full((1, 7), 0.5), 5)
    assert rows.shape == (1, 5, 7)
    assert rows[0, 0].tolist() == [0.5] * 7
    assert rows[0, 1:].tolist() == [[0.0] * 6 + [0.5]] * 4


def test_a_chunk_of_one_is_the_action_itself() -> None:
    actions = torch.rand(4, 7)
    assert torch.equal(chunk_targets(actions, 1), actions.unsqueeze(1))


def test_the_action_at_a_frame_is_the_one_executed_there() -> None:
    policy, clip = a_policy(), a_clip(steps=4)
    demonstrations = demonstrations_of(policy, [clip])
    assert len(demonstrations.frames) == 4  # the last observation has no action
    for t in range(4):
        assert torch.equal(demonstrations.frames[t], clip.frames[t])
        assert torch.equal(demonstrations.tokens[t, 0], policy.binning.encode(clip.actions[t]))


def test_a_chunk_never_runs_into_the_next_clip() -> None:
    policy = a_policy()
    both = demonstrations_of(policy, [a_clip(RIGHT), a_clip(LEFT)])
    alone = demonstrations_of(policy, [a_clip(RIGHT)])
    assert torch.equal(both.tokens[:4], alone.tokens)
    assert both.instructions == (RIGHT,) * 4 + (LEFT,) * 4


def test_instructions_are_drawn_equally_often_however_many_demonstrations_they_have() -> None:
    clips = [a_clip(RIGHT, start=start) for start in (10, 20, 30)] + [a_clip(LEFT, steps=2)]
    demonstrations = demonstrations_of(a_policy(), clips)
    by_instruction = {
        sentence: sum(
            float(weight)
            for weight, own in zip(demonstrations.weights, demonstrations.instructions, strict=True)
            if own == sentence
        )
        for sentence in (LEFT, RIGHT)
    }
    assert by_instruction[LEFT] == pytest.approx(by_instruction[RIGHT])


def test_a_policy_learns_one_batch_by_heart_within_150_updates() -> None:
    policy = a_policy()
    clips = [a_clip(RIGHT), a_clip(LEFT, start=40)]
    report = train_policy(
        policy, clips, config=SftConfig(updates=150, batch=16, lr=3e-3, augment=None), on_update=quiet
    )
    assert report.token_accuracy > 0.97
    for clip in clips:
        chunk = policy.act(clip.frames[:-1], [clip.instruction] * 4)
        expected = policy.binning.decode(policy.binning.encode(chunk_targets(clip.actions, 2)))
        assert torch.equal(chunk.actions, expected)


def test_what_it_does_depends_on_what_it_is_told() -> None:
    policy = a_policy(chunk=1)
    clips = [
        a_clip(sentence, start=start, steps=2) for sentence in (LEFT, RIGHT) for start in (20, 24, 28, 32)
    ]
    config = SftConfig(updates=120, batch=16, lr=3e-3, augment=Augmentation(shift=1))
    train_policy(policy, clips, config=config, on_update=quiet)
    picture = square_at(26).unsqueeze(0)  # a place it has not seen
    assert float(policy.act(picture, [RIGHT]).actions[0, 0, 0]) > 0.02
    assert float(policy.act(picture, [LEFT]).actions[0, 0, 0]) < -0.02


def test_updates_are_told_and_the_report_is_their_end() -> None:
    told: list[tuple[int, dict[str, float]]] = []
    config = SftConfig(updates=10, batch=4)
    report = train_policy(
        a_policy(), [a_clip()], config=config, on_update=lambda n, metrics: told.append((n, metrics))
    )
    assert [number for number, _ in told] == list(range(1, 11))
    assert set(told[0][1]) == {"loss", "token_accuracy", "grad_norm"}
    assert report.updates == 10
    assert report.loss == told[-1][1]["loss"]


def test_the_first_loss_is_that_of_guessing() -> None:
    told: list[float] = []
    config = SftConfig(updates=1, batch=16)
    train_policy(a_policy(), [a_clip()], config=config, on_update=lambda _, m: told.append(m["loss"]))
    assert told[0] == pytest.approx(torch.tensor(31.0).log().item(), abs=0.3)


def test_the_same_seed_trains_the_same_policy() -> None:
    def weights(seed: int) -> torch.Tensor:
        policy = a_policy()
        train_policy(policy, [a_clip()], config=SftConfig(updates=3, batch=4, seed=seed), on_update=quiet)
        return policy.model.head.weight.detach().clone()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_it_learns_in_half_precision_too() -> None:
    policy = a_policy()
    policy.precision = torch.bfloat16
    config = SftConfig(updates=60, batch=16, lr=3e-3, augment=None)
    losses: list[float] = []
    train_policy(policy, [a_clip()], config=config, on_update=lambda _, m: losses.append(m["loss"]))
    assert losses[-1] < 0.2 * losses[0]  # stale casts would leave it where it began
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}


def test_without_clips_there_is_nothing_to_imitate() -> None:
    with pytest.raises(NoDemonstrations) as refused:
        train_policy(a_policy(), [], config=SftConfig(updates=1), on_update=quiet)
    assert refused.value.code == "no_demonstrations"


def test_a_clip_with_a_broken_action_is_refused_before_anything_is_learned() -> None:
    policy, clip = a_policy(), a_clip()
    clip.actions[2, 1] = torch.nan
    before = policy.model.head.weight.detach().clone()
    with pytest.raises(ClipInvalid, match="finite"):
        train_policy(policy, [a_clip(), clip], config=SftConfig(updates=1), on_update=quiet)
    assert torch.equal(policy.model.head.weight, before)


def test_a_network_that_has_gone_wrong_is_not_trained_on() -> None:
    policy = a_policy()
    with torch.no_grad():
        policy.model.words.weight.fill_(torch.inf)
    before = policy.model.head.weight.detach().clone()
    with pytest.raises(NonFiniteLoss, match="sft stopped at update 1"):
        train_policy(policy, [a_clip()], config=SftConfig(updates=2, batch=4), on_update=quiet)
    assert torch.equal(policy.model.head.weight, before)
