"""Actions come one at a time, in order, open loop within a chunk; a failure moves nothing on."""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np
import pytest

from robot_bridge.callback import PolicyActAnswer, PolicyReadyAnswer, PolicyResetRequest
from robot_bridge.dispenser import ChunkDispenser
from robot_bridge.errors import (
    BadArray,
    BadObservation,
    PolicyFailed,
    PolicyUnreachable,
    RobotBridgeError,
    UnknownSession,
)
from robot_bridge.frames import decode_jpeg, encode_jpeg
from tests.robot_bridge.builders import some_images
from tests.robot_bridge.scripted_policy import ScriptedPolicy, a_reset, numbered

IMAGES = some_images(10)
PROPRIO = np.arange(7, dtype=np.float32) / 8


def given(dispenser: ChunkDispenser, count: int) -> list[list[float]]:
    return [
        dispenser.action(IMAGES[dispenser.steps % len(IMAGES)], PROPRIO)[0].tolist() for _ in range(count)
    ]


def test_beginning_resets_one_session_and_tells_who_decides() -> None:
    link = ScriptedPolicy(chunk=4)
    dispenser = ChunkDispenser(link, a_reset("episode-9", seed=11))
    assert [(request.session, request.seed) for request in link.resets] == [("episode-9", 11)]
    assert (dispenser.policy, dispenser.chunk, dispenser.steps) == (link.policy, 4, 0)
    assert link.asked == []


@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_every_step_gets_the_action_that_was_decided_for_it(chunk: int) -> None:
    link = ScriptedPolicy(chunk=chunk)
    dispenser = ChunkDispenser(link, a_reset())
    assert given(dispenser, 8) == [numbered(step) for step in range(8)]
    assert dispenser.steps == 8
    assert [request.t for request in link.asked] == list(range(0, 8, chunk))


def test_the_policy_sees_the_picture_of_the_step_it_decides_at_and_no_other() -> None:
    link = ScriptedPolicy(chunk=3)
    given(ChunkDispenser(link, a_reset()), 7)
    seen = [base64.b64decode(request.observation.jpeg) for request in link.asked]
    assert seen == [encode_jpeg(IMAGES[step]) for step in (0, 3, 6)]
    assert [request.observation.t for request in link.asked] == [0, 3, 6]
    assert link.asked[0].observation.proprio == PROPRIO.tolist()


def test_a_picture_that_is_encoded_already_is_sent_as_it_is() -> None:
    link, recorded = ScriptedPolicy(), encode_jpeg(IMAGES[4], quality=60)
    ChunkDispenser(link, a_reset()).action(IMAGES[0], PROPRIO, jpeg=recorded)
    assert base64.b64decode(link.asked[0].observation.jpeg) == recorded


def test_the_picture_is_sent_as_an_episode_stores_it() -> None:
    link = ScriptedPolicy()
    ChunkDispenser(link, a_reset()).action(IMAGES[0], PROPRIO)
    sent = base64.b64decode(link.asked[0].observation.jpeg)
    shown = decode_jpeg(sent, width=IMAGES.shape[2], height=IMAGES.shape[1])
    assert np.array_equal(
        shown, decode_jpeg(encode_jpeg(IMAGES[0]), width=shown.shape[1], height=shown.shape[0])
    )


def test_thinking_time_is_told_with_the_action_that_waited_for_it() -> None:
    dispenser = ChunkDispenser(ScriptedPolicy(chunk=3), a_reset())
    took = [dispenser.action(IMAGES[0], PROPRIO)[1] for _ in range(4)]
    assert took == [12.5, 0.0, 0.0, 12.5]


def test_it_says_before_whether_the_next_action_will_be_asked_for() -> None:
    dispenser, told = ChunkDispenser(ScriptedPolicy(chunk=2), a_reset()), []
    for _ in range(4):
        told.append(dispenser.decides)
        dispenser.action(IMAGES[0], PROPRIO)
    assert told == [True, False, True, False]


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (PolicyUnreachable(url="u", call="c", waited_s=2.0, reason="r"), PolicyUnreachable),
        (PolicyFailed(url="u", reason="r"), PolicyFailed),
        (UnknownSession(session="session-1"), UnknownSession),
        (BadObservation(thing="picture", expected="a JPEG", found="ink"), PolicyFailed),
    ],
    ids=lambda part: part.__name__ if isinstance(part, type) else part.code,
)
def test_a_failure_leaves_it_where_it_was_and_the_same_step_is_asked_again(
    fault: RobotBridgeError, raised: type[RobotBridgeError]
) -> None:
    link = ScriptedPolicy(chunk=3)
    dispenser = ChunkDispenser(link, a_reset())
    given(dispenser, 3)
    link.fault = fault
    for _ in range(2):
        with pytest.raises(raised):
            dispenser.action(IMAGES[3], PROPRIO)
    assert dispenser.steps == 3
    link.fault = None
    assert given(dispenser, 2) == [numbered(3), numbered(4)]
    assert [request.t for request in link.asked] == [0, 3, 3, 3]


def test_a_link_that_fails_within_a_chunk_is_not_even_asked() -> None:
    link = ScriptedPolicy(chunk=3)
    dispenser = ChunkDispenser(link, a_reset())
    given(dispenser, 1)
    link.fault = PolicyFailed(url="u", reason="r")
    assert given(dispenser, 2) == [numbered(1), numbered(2)]


def spoiled(**changes: object) -> Callable[[PolicyActAnswer], PolicyActAnswer]:
    return lambda answer: answer.model_copy(update=changes)


@pytest.mark.parametrize(
    ("twist", "said"),
    [
        (spoiled(t=1), "step 0 was asked for, step 1"),
        (spoiled(session="session-2"), "asked for"),
        (spoiled(actions=[numbered(0)] * 2), "2 actions were answered, a chunk has 3"),
        (spoiled(actions=[numbered(0)] * 4), "4 actions were answered, a chunk has 3"),
        (spoiled(actions=[numbered(0), numbered(1), [0.0] * 6]), "action 2"),
        (spoiled(actions=[numbered(0), [float("nan")] * 7, numbered(2)]), "action 1"),
        (spoiled(actions=[[float("inf")] * 7, numbered(1), numbered(2)]), "action 0"),
        (spoiled(actions=[[1e39] * 7, numbered(1), numbered(2)]), "action 0"),
    ],
    ids=["t", "session", "few", "many", "six", "nan", "inf", "overflow"],
)
def test_an_answer_that_cannot_be_executed_whole_is_not_executed_at_all(
    twist: Callable[[PolicyActAnswer], PolicyActAnswer], said: str
) -> None:
    link = ScriptedPolicy(chunk=3)
    dispenser = ChunkDispenser(link, a_reset())
    link.twist = twist
    with pytest.raises(PolicyFailed, match=said):
        dispenser.action(IMAGES[0], PROPRIO)
    assert dispenser.steps == 0
    link.twist = spoiled()
    assert given(dispenser, 3) == [numbered(0), numbered(1), numbered(2)]


def test_a_picture_that_is_none_is_refused_before_anybody_is_asked() -> None:
    link = ScriptedPolicy()
    dispenser = ChunkDispenser(link, a_reset())
    with pytest.raises(BadArray, match="uint8"):
        dispenser.action(IMAGES[0].astype(np.float32), PROPRIO)  # type: ignore[arg-type]
    assert (link.asked, dispenser.steps) == ([], 0)


def test_a_session_that_does_not_begin_has_no_actions() -> None:
    link = ScriptedPolicy()
    link.fault = PolicyFailed(url="u", reason="r")
    with pytest.raises(PolicyFailed):
        ChunkDispenser(link, a_reset())


def test_another_session_than_the_one_asked_for_is_not_used() -> None:
    class Confused(ScriptedPolicy):
        def reset(self, request: PolicyResetRequest) -> PolicyReadyAnswer:
            return super().reset(request).model_copy(update={"session": "session-2"})

    with pytest.raises(PolicyFailed, match="session-2 was begun"):
        ChunkDispenser(Confused(), a_reset())
