"""One action a call, chunks as everywhere else, one episode from /reset to /reset."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from daemon.learning.batch import resize_frames
from daemon.policy_server.acting import Acting
from daemon.policy_server.problems import InstructionChanged
from daemon.policy_server.sessions import PolicySessions
from robot_bridge.autoeval.wire import TEST_INSTRUCTION, ActRequest
from robot_bridge.episode import PolicyRef
from robot_bridge.errors import PolicyFailed, UnknownSession
from tests.daemon.policy_server.small_policies import OTHER_SENTENCE, SENTENCE, a_policy, asked, failing

FIRST, SECOND = PolicyRef(name="first"), PolicyRef(name="second")


def actions(acting: Acting, count: int, *, first: int = 0) -> np.ndarray:
    return np.stack([acting.act(asked(number))[0] for number in range(first, first + count)])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_actions_are_those_of_the_policy_open_loop_within_a_chunk(temperature: float) -> None:
    policy, drawn = a_policy(), torch.Generator().manual_seed(7)
    wanted = [
        policy.act(
            resize_frames(asked(number).image.copy()[None]),
            (SENTENCE,),
            temperature=temperature,
            generator=drawn,
        ).actions[0]
        for number in (0, 5, 10)
    ]
    acting = Acting(PolicySessions(a_policy(), FIRST, temperature=temperature), seed=7)
    np.testing.assert_array_equal(actions(acting, 15), torch.cat(wanted).numpy())


def test_only_the_call_that_begins_a_chunk_has_thought() -> None:
    acting = Acting(PolicySessions(a_policy(chunk=3), FIRST))
    thought = [acting.act(asked(number))[1] for number in range(7)]
    assert [ms > 0 for ms in thought] == [True, False, False, True, False, False, True]


def test_a_reset_begins_with_a_whole_chunk_and_the_next_seed() -> None:
    sessions = PolicySessions(a_policy(), FIRST, temperature=1.0)
    acting, again = Acting(sessions, seed=3), Acting(sessions, seed=3)
    first = actions(acting, 7)
    acting.reset()
    second = actions(acting, 7)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(actions(again, 7), first)
    np.testing.assert_array_equal(actions(Acting(sessions, seed=4), 7), second)


def test_a_reset_without_an_episode_is_no_episode() -> None:
    sessions = PolicySessions(a_policy(), FIRST, temperature=1.0)
    acting = Acting(sessions)
    for _ in range(3):
        acting.reset()
    assert sessions.count == 0
    np.testing.assert_array_equal(actions(acting, 2), actions(Acting(sessions), 2))


def test_another_instruction_needs_a_reset_and_the_episode_goes_on_without() -> None:
    acting, whole = (Acting(PolicySessions(a_policy(), FIRST)) for _ in range(2))
    wanted = actions(whole, 4)
    begun = actions(acting, 2)
    with pytest.raises(InstructionChanged, match="'open the drawer', found 'close the drawer'"):
        acting.act(asked(2, OTHER_SENTENCE))
    np.testing.assert_array_equal(np.concatenate([begun, actions(acting, 2, first=2)]), wanted)
    acting.reset()
    acting.act(asked(2, OTHER_SENTENCE))


def test_a_swap_waits_for_the_reset() -> None:
    sessions = PolicySessions(a_policy(), FIRST)
    acting = Acting(sessions)
    old = Acting(PolicySessions(a_policy(), FIRST))
    new = Acting(PolicySessions(a_policy(seed=1), SECOND))
    actions(acting, 1)
    sessions.swap(a_policy(seed=1), SECOND)
    np.testing.assert_array_equal(actions(acting, 9, first=1), actions(old, 10)[1:])
    acting.reset()
    np.testing.assert_array_equal(actions(acting, 10), actions(new, 10))


def test_a_failure_moves_nothing_on_and_holds_the_gripper_as_it_was_told() -> None:
    policy = a_policy(chunk=2)
    acting = Acting(PolicySessions(policy, FIRST, temperature=1.0))
    other = Acting(PolicySessions(a_policy(chunk=2), FIRST, temperature=1.0))
    wanted, begun = actions(other, 4), actions(acting, 2)
    with failing(policy), pytest.raises(PolicyFailed):
        acting.act(asked(2))
    np.testing.assert_array_equal(acting.hold(), [0, 0, 0, 0, 0, 0, begun[-1][-1]])
    np.testing.assert_array_equal(actions(acting, 2, first=2), wanted[2:])


def test_before_anything_was_decided_the_gripper_is_held_open() -> None:
    acting = Acting(PolicySessions(a_policy(), FIRST))
    np.testing.assert_array_equal(acting.hold(), [0, 0, 0, 0, 0, 0, 1])
    for number in range(40):
        if acting.act(asked(number))[0][-1] != 1.0:
            break
    assert acting.hold()[-1] != 1.0
    acting.reset()
    np.testing.assert_array_equal(acting.hold(), [0, 0, 0, 0, 0, 0, 1])


def test_the_connection_test_is_answered_and_begins_nothing() -> None:
    sessions = PolicySessions(a_policy(), FIRST)
    acting = Acting(sessions)
    blank = np.zeros((256, 256, 3), np.uint8)
    test = ActRequest(
        image=blank, instruction=TEST_INSTRUCTION, proprio=np.zeros(8, np.float32), encoded=False
    )
    action, thought_ms = acting.act(test)
    assert (action.shape, thought_ms, sessions.count) == ((7,), 0.0, 0)
    actions(acting, 2)
    acting.act(test)  # in the middle of an episode it disturbs nobody
    np.testing.assert_array_equal(
        actions(acting, 2, first=2), actions(Acting(PolicySessions(a_policy(), FIRST)), 4)[2:]
    )


def test_an_episode_that_was_forgotten_holds_until_the_reset() -> None:
    sessions = PolicySessions(a_policy(chunk=1), FIRST, sessions_max=1)
    acting, rival = Acting(sessions), Acting(sessions)
    actions(acting, 1)
    actions(rival, 1)
    with pytest.raises(UnknownSession):
        acting.act(asked(1))
    acting.reset()
    actions(acting, 1)


def test_calls_from_many_threads_each_get_one_action_of_the_episode() -> None:
    acting, alone = (Acting(PolicySessions(a_policy(), FIRST)) for _ in range(2))
    together = threading.Barrier(4, timeout=30)

    def one(_: int) -> tuple[float, ...]:
        together.wait()
        return tuple(acting.act(asked(0))[0].tolist())

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(one, range(8)))
    wanted = [tuple(alone.act(asked(0))[0].tolist()) for _ in range(8)]
    assert sorted(found) == sorted(wanted)


def test_the_log_says_which_policy_acts(caplog: pytest.LogCaptureFixture) -> None:
    acting = Acting(PolicySessions(a_policy(), PolicyRef(name="nano", version="7")))
    with caplog.at_level(logging.INFO):
        actions(acting, 6)
    lines = [record.getMessage() for record in caplog.records if "acting begun" in record.getMessage()]
    assert len(lines) == 1
    assert "policy=nano:7" in lines[0]
