"""What the server decides is what a rollout decides, once, whoever asks how often."""

from __future__ import annotations

import base64
import io
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from daemon.learning.batch import resize_frames
from daemon.learning.errors import BadTensor
from daemon.learning.policy.policy import BadTemperature, Policy, new_policy
from daemon.learning.rollout import RolloutPlan, Starts, rollout
from daemon.policy_server.serve import running_policy_server
from daemon.policy_server.sessions import Decision, PolicySessions, picture_of
from robot_bridge.callback import PolicyActRequest, PolicyLink, PolicyResetRequest
from robot_bridge.dispenser import ChunkDispenser
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import (
    BadObservation,
    BadRequest,
    BindRefused,
    IdempotencyMismatch,
    PolicyFailed,
    UnknownSession,
)
from robot_bridge.frames import decode_jpeg, encode_jpeg
from robot_bridge.policy_link import HttpPolicyLink
from robot_bridge.protocol import ObservationAnswer

SENTENCE = "open the drawer"
FIRST, SECOND = PolicyRef(name="first"), PolicyRef(name="second")
SIDE = 128


def a_policy(seed: int = 0) -> Policy:
    torch.set_num_threads(1)
    return new_policy((SENTENCE,), seed=seed, width=16, layers=1)


def a_reset(session: str = "s1", *, seed: int = 5) -> PolicyResetRequest:
    return PolicyResetRequest(
        session=session, task_id="open_drawer", instruction=SENTENCE, control_hz=5.0, seed=seed
    )


def a_picture(number: int) -> np.ndarray:
    blocks = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return decode_jpeg(encode_jpeg(blocks.repeat(16, 0).repeat(16, 1)), width=SIDE, height=SIDE)


def an_act(t: int, *, session: str = "s1", jpeg: bytes | None = None) -> PolicyActRequest:
    picture = encode_jpeg(a_picture(t)) if jpeg is None else jpeg
    observation = ObservationAnswer(
        t=t, jpeg=base64.b64encode(picture).decode(), proprio=[0.0] * 7, qpos=[], captured_at=0.0
    )
    return PolicyActRequest(session=session, t=t, observation=observation)


class Slides:
    """An environment that shows picture t after t actions, whatever they are, and keeps them."""

    def __init__(self) -> None:
        self.actions: list[Tensor] = []

    @property
    def seen(self) -> Tensor:
        jpeg = encode_jpeg(a_picture(sum(a.shape[1] for a in self.actions)))
        return resize_frames(decode_jpeg(jpeg, width=SIDE, height=SIDE)[None])

    def reset(self, images: Tensor, seeds: Sequence[int] | None = None) -> None:
        self.actions = []

    def step(self, actions: Tensor) -> Tensor:
        self.actions.append(actions)
        return self.seen

    def recent_frames(self, count: int) -> Tensor:
        return self.seen[:, None].repeat(1, count, 1, 1, 1)


def rolled_out(policy: Policy, *, chunks: int, seed: int, temperature: float) -> np.ndarray:
    env = Slides()
    starts = Starts(images=env.seen, instructions=(SENTENCE,))
    plan = RolloutPlan(chunks=chunks, temperature=temperature, final_frames=1)
    rollout(policy, env, starts, plan=plan, generator=torch.Generator().manual_seed(seed))
    return torch.cat(env.actions, dim=1)[0].numpy()


def served(link: PolicyLink, *, steps: int, seed: int) -> np.ndarray:
    dispenser = ChunkDispenser(link, a_reset(seed=seed))
    return np.stack([dispenser.action(a_picture(t), [0.0] * 7)[0] for t in range(steps)])


@pytest.fixture
def sessions() -> PolicySessions:
    return PolicySessions(a_policy(), FIRST, temperature=1.0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_robot_gets_exactly_the_actions_that_a_rollout_would_take(temperature: float) -> None:
    policy = a_policy()
    wanted = rolled_out(policy, chunks=4, seed=5, temperature=temperature)
    link = PolicySessions(policy, FIRST, temperature=temperature)
    np.testing.assert_array_equal(served(link, steps=len(wanted), seed=5), wanted)


def test_over_http_they_are_the_same_to_the_last_bit() -> None:
    policy = a_policy()
    wanted = rolled_out(policy, chunks=3, seed=9, temperature=1.0)
    with running_policy_server(PolicySessions(policy, FIRST, temperature=1.0)) as url:
        link = HttpPolicyLink(url, timeout_s=20.0)
        np.testing.assert_array_equal(served(link, steps=len(wanted), seed=9), wanted)
        link.close()


def test_the_same_step_again_is_answered_the_same_and_draws_nothing(sessions: PolicySessions) -> None:
    sessions.reset(a_reset())
    first = sessions.act(an_act(0))
    assert sessions.act(an_act(0)) == first
    assert sessions.act(an_act(0, jpeg=encode_jpeg(a_picture(99)))) == first
    other = PolicySessions(a_policy(), FIRST, temperature=1.0)
    other.reset(a_reset())
    other.act(an_act(0))
    assert sessions.act(an_act(5)).actions == other.act(an_act(5)).actions


def test_a_step_that_is_not_due_is_refused(sessions: PolicySessions) -> None:
    sessions.reset(a_reset())
    for t in (1, 5, 10):
        with pytest.raises(BadRequest, match="step 0"):
            sessions.act(an_act(t))


def test_another_seed_draws_otherwise(sessions: PolicySessions) -> None:
    for number in (1, 2):
        sessions.reset(a_reset(f"s{number}", seed=number))
    drawn = [sessions.act(an_act(0, session=f"s{number}")).actions for number in (1, 2)]
    assert drawn[0] != drawn[1]


def test_a_swap_waits_for_the_next_reset(sessions: PolicySessions) -> None:
    assert sessions.reset(a_reset("old")).policy == FIRST
    before = PolicySessions(a_policy(), FIRST, temperature=1.0)
    before.reset(a_reset("old"))
    sessions.swap(a_policy(seed=1), SECOND)
    assert sessions.act(an_act(0, session="old")).actions == before.act(an_act(0, session="old")).actions
    assert sessions.reset(a_reset("old")).policy == FIRST
    assert sessions.reset(a_reset("new")).policy == SECOND
    assert sessions.ref == SECOND


def test_a_session_begun_again_with_other_words_is_refused(sessions: PolicySessions) -> None:
    sessions.reset(a_reset())
    with pytest.raises(IdempotencyMismatch):
        sessions.reset(a_reset(seed=6))


def test_the_oldest_sessions_are_forgotten() -> None:
    sessions = PolicySessions(a_policy(), FIRST, sessions_max=2)
    for name in ("a", "b", "c"):
        sessions.reset(a_reset(name))
    with pytest.raises(UnknownSession, match="a"):
        sessions.act(an_act(0, session="a"))
    assert sessions.act(an_act(0, session="c")).t == 0
    assert sessions.count == 2


@pytest.mark.parametrize("jpeg", [b"", b"no picture", encode_jpeg(a_picture(0))[:200]])
def test_a_picture_that_is_none_decides_nothing(sessions: PolicySessions, jpeg: bytes) -> None:
    sessions.reset(a_reset())
    with pytest.raises(BadObservation):
        sessions.act(an_act(0, jpeg=jpeg))
    assert sessions.act(an_act(0)).t == 0


def test_a_picture_larger_than_any_cameras_is_not_even_decoded(sessions: PolicySessions) -> None:
    sessions.reset(a_reset())
    with pytest.raises(BadObservation, match="1100x8"):
        sessions.act(an_act(0, jpeg=encode_jpeg(np.zeros((8, 1100, 3), np.uint8))))


def test_a_network_that_fails_is_told_and_the_next_try_draws_the_same() -> None:
    whole, broken = a_policy(), a_policy()
    sessions = PolicySessions(broken, FIRST, temperature=1.0)
    sessions.reset(a_reset())
    weight = next(iter(broken.model.parameters()))
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    with pytest.raises(PolicyFailed, match="finite"):
        sessions.act(an_act(0))
    with torch.no_grad():
        weight.copy_(kept)
    other = PolicySessions(whole, FIRST, temperature=1.0)
    other.reset(a_reset())
    assert sessions.act(an_act(0)).actions == other.act(an_act(0)).actions


@pytest.fixture
def guarded(sessions: PolicySessions) -> Iterator[str]:
    with running_policy_server(sessions, token="the-word") as url:
        yield url


def test_with_a_token_nobody_else_gets_an_action(guarded: str) -> None:
    for token in (None, "another-word"):
        link = HttpPolicyLink(guarded, token=token, timeout_s=20.0)
        with pytest.raises(PolicyFailed, match="unauthorized"):
            link.reset(a_reset())
        link.close()
    link = HttpPolicyLink(guarded, token="the-word", timeout_s=20.0)
    assert link.reset(a_reset()).policy == FIRST
    link.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])  # noqa: S104 - that is the point
def test_an_address_others_can_reach_needs_a_token(sessions: PolicySessions, host: str) -> None:
    with pytest.raises(BindRefused, match="token"), running_policy_server(sessions, host=host):
        pytest.fail("it listens")


def test_a_reset_again_finds_the_session_as_it_is(sessions: PolicySessions) -> None:
    sessions.reset(a_reset())
    first = sessions.act(an_act(0))
    assert sessions.reset(a_reset()).policy == FIRST
    assert sessions.act(an_act(0)) == first
    assert sessions.act(an_act(5)).t == 5
    assert sessions.count == 1


def test_the_session_unused_for_longest_is_the_one_forgotten() -> None:
    sessions = PolicySessions(a_policy(), FIRST, sessions_max=2)
    sessions.reset(a_reset("a"))
    sessions.reset(a_reset("b"))
    sessions.act(an_act(0, session="a"))
    sessions.reset(a_reset("c"))
    assert sessions.act(an_act(5, session="a")).t == 5
    with pytest.raises(UnknownSession):
        sessions.act(an_act(0, session="b"))


def test_what_was_decided_before_a_swap_is_still_answered(sessions: PolicySessions) -> None:
    sessions.reset(a_reset())
    first = sessions.act(an_act(0))
    sessions.swap(a_policy(seed=1), SECOND)
    assert sessions.act(an_act(0)) == first


def test_thinking_is_told_once_and_a_repeated_step_thinks_nothing(sessions: PolicySessions) -> None:
    sessions.reset(a_reset())
    fetched = []

    def picture() -> np.ndarray:
        fetched.append(1)
        return a_picture(0)

    first, again = sessions.decide("s1", 0, picture), sessions.decide("s1", 0, picture)
    assert (first.thought_ms, again.thought_ms) == (first.answer.infer_ms, 0.0)
    assert first.thought_ms > 0
    assert sessions.last_thought_ms == first.thought_ms
    assert first.answer == again.answer
    assert len(fetched) == 1


def test_the_same_step_asked_by_many_at_once_is_decided_once(sessions: PolicySessions) -> None:
    sessions.reset(a_reset())
    together = threading.Barrier(4, timeout=30)

    def ask(_: int) -> Decision:
        together.wait()
        return sessions.decide("s1", 0, lambda: a_picture(0))

    with ThreadPoolExecutor(4) as threads:
        decisions = list(threads.map(ask, range(4)))
    assert sum(decision.thought_ms > 0 for decision in decisions) == 1
    assert len({str(decision.answer.actions) for decision in decisions}) == 1


def test_a_policy_that_thinks_does_not_keep_others_from_beginning_or_swapping() -> None:
    policy, thinks, may_end = a_policy(), threading.Event(), threading.Event()
    sessions = PolicySessions(policy, FIRST)
    sessions.reset(a_reset())

    def ponder(*_: object) -> None:
        thinks.set()
        assert may_end.wait(30)

    hook = policy.model.register_forward_pre_hook(ponder)
    with ThreadPoolExecutor(1) as thread:
        deciding = thread.submit(sessions.act, an_act(0))
        assert thinks.wait(30)
        sessions.swap(a_policy(seed=1), SECOND)
        assert sessions.reset(a_reset("other")).policy == SECOND
        assert not deciding.done()
        may_end.set()
        assert deciding.result(30).t == 0
    hook.remove()


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), ValueError("a number"), KeyError("a name")])
def test_whatever_goes_wrong_inside_is_a_failure_of_the_policy(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    policy = a_policy()
    sessions = PolicySessions(policy, FIRST)
    sessions.reset(a_reset())

    def fail(*_: object) -> None:
        raise error

    hook = policy.model.register_forward_pre_hook(fail)
    with pytest.raises(PolicyFailed, match=type(error).__name__):
        sessions.act(an_act(0))
    assert "policy failed session=s1 t=0" in caplog.text
    hook.remove()
    assert sessions.act(an_act(0)).t == 0


@pytest.mark.parametrize("temperature", [-0.1, float("inf"), float("nan")])
def test_a_temperature_that_no_distribution_has_is_refused_at_once(temperature: float) -> None:
    with pytest.raises(BadTemperature):
        PolicySessions(a_policy(), FIRST, temperature=temperature)


def test_a_chunk_that_the_protocol_cannot_carry_is_refused_at_once(sessions: PolicySessions) -> None:
    long = new_policy((SENTENCE,), seed=0, width=16, layers=1, chunk=65)
    with pytest.raises(BadTensor, match="1 to 64 actions"):
        PolicySessions(long, SECOND)
    with pytest.raises(BadTensor):
        sessions.swap(long, SECOND)
    assert sessions.ref == FIRST


@pytest.mark.parametrize("jpeg", ["not base64!", "=", "AAAA", "é"])
def test_text_that_is_no_picture_is_refused(sessions: PolicySessions, jpeg: str) -> None:
    sessions.reset(a_reset())
    observation = ObservationAnswer(t=0, jpeg=jpeg, proprio=[0.0] * 7, qpos=[], captured_at=0.0)
    with pytest.raises(BadObservation):
        sessions.act(PolicyActRequest(session="s1", t=0, observation=observation))


def test_a_grey_picture_is_no_picture_of_ours(sessions: PolicySessions) -> None:
    sessions.reset(a_reset())
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(buffer, format="JPEG")
    with pytest.raises(BadObservation, match=r"RGB .* found L 32x32"):
        sessions.act(an_act(0, jpeg=buffer.getvalue()))


def test_a_swap_is_logged_with_both_names(sessions: PolicySessions, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        sessions.swap(a_policy(seed=1), PolicyRef(name="nano", version="8"))
    assert "policy swapped from=first: to=nano:8" in caplog.text


def test_the_picture_is_the_one_that_the_learner_decodes_from_the_episode() -> None:
    jpeg = encode_jpeg(np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8))
    seen = picture_of(an_act(0, jpeg=jpeg).observation)
    np.testing.assert_array_equal(seen, decode_jpeg(jpeg, width=80, height=48))


@pytest.mark.parametrize("side", [1025, 9_500, 60_000])
def test_a_header_that_asks_for_gigabytes_gets_none(sessions: PolicySessions, side: int) -> None:
    jpeg = bytearray(encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    size_at = jpeg.index(b"\xff\xc0") + 5  # start of frame: length, precision, then height and width
    jpeg[size_at : size_at + 4] = side.to_bytes(2, "big") * 2
    sessions.reset(a_reset())
    with pytest.raises(BadObservation):
        sessions.act(an_act(0, jpeg=bytes(jpeg)))


def test_a_reserved_session_gets_its_own_policy_and_all_others_the_newest() -> None:
    sessions, other = PolicySessions(a_policy(), FIRST), a_policy(seed=1)
    sessions.reserve("episode-2", other, SECOND)
    begun = [sessions.reset(a_reset(session=f"episode-{number}")) for number in (1, 2, 3)]
    assert [ready.policy for ready in begun] == [FIRST, SECOND, FIRST]
    again = sessions.reset(a_reset(session="episode-2"))
    assert again.policy == SECOND, "asked again, it is the session that was begun"


def test_a_reserved_session_that_was_forgotten_is_begun_again_with_its_own_policy() -> None:
    sessions = PolicySessions(a_policy(), FIRST, sessions_max=1)
    sessions.reserve("episode-2", a_policy(seed=1), SECOND)
    begun = [sessions.reset(a_reset(session=name)).policy for name in ("episode-2", "other", "episode-2")]
    assert begun == [SECOND, FIRST, SECOND]


def test_a_policy_that_cannot_be_used_cannot_be_reserved_for() -> None:
    sessions = PolicySessions(a_policy(), FIRST)
    long = new_policy((SENTENCE,), seed=0, width=16, layers=1, chunk=65)
    with pytest.raises(BadTensor, match="chunk"):
        sessions.reserve("episode-1", long, SECOND)
    assert sessions.reset(a_reset(session="episode-1")).policy == FIRST
