"""A station's rules, call by call: exactly once, fenced, stoppable, and every step it took is kept."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_bridge.conventions import Pose
from robot_bridge.drivers.driver import Sample, StepOutcome
from robot_bridge.episode import Episode, episode_of_bytes
from robot_bridge.errors import (
    BadAction,
    BadRequest,
    CameraStale,
    DriverError,
    EpisodeState,
    EStopped,
    FenceStale,
    IdempotencyMismatch,
    LeaseRequired,
    LimitsViolation,
    MotorFault,
    RobotBridgeError,
    SpoolFull,
    StepOutOfOrder,
    StepStale,
    UnknownEpisode,
    UnknownOutcome,
    UnknownTask,
)
from robot_bridge.protocol import NarrowedLimits, StepsRequest
from robot_bridge.safety import CLIPPED_BOX, CLIPPED_XYZ, IK_FAILED
from robot_bridge.station.session import StationSession
from tests.robot_bridge.builders import a_request, forward
from tests.robot_bridge.station.conftest import Bench
from tests.robot_bridge.toy_driver import BOX_HIGH, BOX_LOW, ToyDriver

UP = [0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 1.0]
STAY = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def kept(session: StationSession, episode_id: str = "e1") -> Episode:
    """A spooled episode read back from its files."""
    manifest = session.spool.manifest(episode_id)
    paths = [
        session.spool.blob_path(episode_id, manifest.blob_sha256(n)) for n in ("steps.npz", "frames.bin")
    ]
    steps, frames = (path.read_bytes() for path in paths)
    return episode_of_bytes(manifest.canonical_json(), steps=steps, frames=frames)


class Misbehaving(ToyDriver):
    """The toy robot, with one step that goes wrong."""

    def __init__(self, wrong_at: int, change: object) -> None:
        super().__init__()
        self.wrong_at = wrong_at
        self.change = change

    def step(self, target: Pose, gripper: float) -> StepOutcome:
        outcome = super().step(target, gripper)
        if self.moves != self.wrong_at:
            return outcome
        if isinstance(self.change, Exception):
            raise self.change
        return replace(outcome, sample=self._spoilt(outcome.sample))

    def _spoilt(self, sample: Sample) -> Sample:
        assert isinstance(self.change, dict)
        return replace(sample, **self.change)


def test_an_episode_goes_from_reset_to_spool_and_holds_what_was_seen_and_done(bench):
    bench.lease()
    ready = bench.create(max_steps=4, metadata={"iteration": "7"})
    answers = [bench.step(0, forward(3)), bench.step(3, [UP])]
    manifest = bench.session.finish("e1", "completed", bench.fence)
    episode = kept(bench.session)
    assert episode.manifest == manifest
    assert (manifest.T, len(episode.frames), episode.steps.count) == (4, 5, 4)
    facts = {"iteration": "7", "robot_model": "toy", "renderer": "numpy", "seed": "3", "holds": "0"}
    assert facts.items() <= manifest.metadata.items()
    assert json.loads(manifest.metadata["limits"])["step_xyz_max"] == 0.05
    assert (manifest.station_id, manifest.task_id, manifest.instruction) == (
        "bench",
        "open_drawer",
        "open the drawer",
    )
    np.testing.assert_array_equal(episode.steps.raw_action, np.float32([*forward(3), UP]))
    seen = [ready.observation, *(step.observation for answer in answers for step in answer.steps)]
    assert [observation.t for observation in seen] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(episode.steps.state, np.float32([o.proprio for o in seen]))
    np.testing.assert_allclose(episode.steps.t_obs, [0.0, 0.2, 0.4, 0.6, 0.8], atol=1e-9)
    assert bench.driver.moves == 4


def test_the_action_of_a_step_leads_from_its_observation_to_the_next(bench):
    """The time convention: with a robot that obeys at once, state t+1 is state t plus action t."""
    bench.lease()
    bench.create(max_steps=6)
    moves = [[0.01 * n, -0.005 * n, 0.002, 0.0, 0.0, 0.02, 1.0] for n in range(6)]
    bench.step(0, moves)
    bench.session.finish("e1", "completed", bench.fence)
    steps = kept(bench.session).steps
    np.testing.assert_allclose(np.diff(steps.state[:, :6], axis=0), steps.executed_action[:, :6], atol=1e-6)


def test_only_an_episode_that_was_completed_over_all_its_steps_judges_the_policy(bench):
    bench.lease()
    for episode, steps, reason, judged, labels in [
        ("whole", 6, "completed", True, 1),
        ("short", 5, "completed", False, 1),
        ("broken", 6, "policy_error", False, 0),
    ]:
        bench.create(episode_id=episode)
        bench.step(0, forward(steps), episode=episode)
        manifest = bench.session.finish(episode, reason, bench.fence)
        assert manifest.outcome == reason
        assert manifest.valid_for.policy_eval is judged
        assert manifest.valid_for.world_model
        assert len(manifest.labels) == labels


@pytest.mark.parametrize(
    ("steps", "reason", "judged"),
    [
        (2, "completed", True),
        (6, "completed", True),
        (2, "policy_error", False),
        (6, "timeout_client", False),  # saying beforehand that it may end early excuses no other end
    ],
)
def test_an_episode_that_may_end_early_judges_the_policy_wherever_it_is_completed(
    bench, steps, reason, judged
):
    bench.lease()
    bench.create(max_steps=6, may_end_early=True)
    bench.step(0, forward(steps, 0.06))
    manifest = bench.session.finish("e1", reason, bench.fence)
    assert (manifest.T, manifest.outcome) == (steps, reason)
    assert manifest.valid_for.policy_eval is judged
    assert len(manifest.labels) == int(judged), "of the moment at which it ended"


@pytest.mark.parametrize(("metres", "success"), [(0.03, True), (-0.01, False)])
def test_success_is_the_drivers_own_verdict_at_the_end(bench, metres, success):
    bench.lease()
    bench.create()
    bench.step(0, forward(6, metres))
    label = bench.session.finish("e1", "completed", bench.fence).labels[0]
    assert (label.success, label.source, label.judge) == (success, "sim_predicate", "toy")


def test_the_same_step_sent_again_moves_nothing_and_gets_the_same_answer(bench):
    bench.lease()
    bench.create()
    first = bench.step(0, forward(2))
    second = bench.step(2, forward(1))
    assert bench.step(0, forward(2)) == first
    assert bench.step(2, forward(1)) == second
    assert bench.driver.moves == 3


def test_the_same_step_with_other_actions_is_refused_and_moves_nothing(bench):
    bench.lease()
    bench.create()
    bench.step(0, forward(2))
    for other in (forward(1), forward(3), forward(2, 0.02)):
        with pytest.raises(IdempotencyMismatch, match="step 0 of episode e1"):
            bench.step(0, other)
    assert bench.driver.moves == 2


@pytest.mark.parametrize("t", [1, 3, 4, 7])
def test_a_step_out_of_order_says_which_one_is_next(bench, t):
    bench.lease()
    bench.create(max_steps=8)
    bench.step(0, forward(2))
    with pytest.raises(StepOutOfOrder, match="step 2 is next") as refused:
        bench.step(t)
    assert refused.value.parts["expected_step"] == 2
    assert bench.driver.moves == 2


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3)), max_size=20))
def test_whatever_is_sent_in_whatever_order_no_step_is_executed_twice(tmp_path_factory, calls):
    bench = Bench(tmp_path_factory.mktemp("spool"))
    bench.start()
    bench.lease()
    bench.create(max_steps=8)
    for t, count in calls:
        try:
            bench.step(t, forward(count, 0.001 * (t + 1)))
        except RobotBridgeError as refused:
            assert refused.code in {"step_out_of_order", "idempotency_mismatch", "bad_request"}
    assert bench.driver.moves == bench.session.recording.count
    bench.die()


def test_more_actions_than_steps_are_left_are_refused_as_a_whole(bench):
    bench.lease()
    bench.create(max_steps=4)
    bench.step(0, forward(3))
    with pytest.raises(BadRequest, match="2 actions, 1 steps are left of 4"):
        bench.step(3, forward(2))
    assert bench.driver.moves == 3
    bench.step(3, forward(1))


@pytest.mark.parametrize(
    "bad",
    [[math.nan] * 7, [0.0, 0.0, math.inf, 0.0, 0.0, 0.0, 1.0], [0.0] * 6, [0.0] * 8, [], [1e39] * 7],
)
def test_one_bad_action_keeps_the_whole_chunk_from_moving(bench, bad):
    bench.lease()
    bench.create()
    with pytest.raises(BadAction):
        bench.step(0, [*forward(2), bad])
    assert bench.driver.moves == 0
    assert bench.step(0, forward(3)).next_step == 3


def test_a_command_that_came_too_late_is_refused_unless_it_was_executed_before(bench):
    bench.lease()
    bench.create()
    command = StepsRequest(t=0, actions=forward(), issued_at=bench.clock(), ttl_ms=500.0)
    first = bench.session.step("e1", command, bench.fence)
    bench.clock.advance(2)
    assert bench.session.step("e1", command, bench.fence) == first
    late = StepsRequest(t=1, actions=forward(), issued_at=bench.clock() - 1.5, ttl_ms=500.0)
    with pytest.raises(StepStale, match="1000 ms after"):
        bench.session.step("e1", late, bench.fence)
    fresh = late.model_copy(update={"issued_at": bench.clock() - 0.5})
    assert bench.session.step("e1", fresh, bench.fence).next_step == 2
    assert bench.driver.moves == 2


def test_what_the_limits_cut_is_told_recorded_and_counted(bench):
    bench.lease()
    bench.create(max_steps=8)
    answer = bench.step(0, [[0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], STAY])
    assert answer.steps[0].clips == ["xyz"]
    assert answer.steps[0].executed_action[0] == pytest.approx(0.05)
    assert answer.steps[1].clips == []
    answer = bench.step(2, forward(6, 0.05))
    assert answer.steps[-1].target_pose[0] == pytest.approx(BOX_HIGH[0])
    assert bench.session.recording.pipeline.counts["xyz"] == 1
    bench.session.finish("e1", "completed", bench.fence)
    steps = kept(bench.session).steps
    assert steps.flags[0] == CLIPPED_XYZ
    assert steps.flags[-1] == CLIPPED_BOX
    assert steps.raw_action[0, 0] == np.float32(0.5)
    np.testing.assert_allclose(
        steps.executed_action.sum(axis=0)[0], steps.state[-1, 0] - steps.state[0, 0], atol=1e-6
    )


def test_a_pose_the_arm_cannot_take_is_recorded_as_no_motion_and_the_next_action_starts_where_it_is(bench):
    bench.lease()
    bench.create(max_steps=8)
    answer = bench.step(0, [UP, UP, UP, UP])
    heights = [step.target_pose[2] for step in answer.steps]
    refused = [step for step in answer.steps if not step.ik_ok]
    assert refused
    assert all(step.flags & IK_FAILED and "ik" in step.clips for step in refused)
    assert all(np.allclose(step.executed_action[:6], 0) for step in refused)
    assert heights == sorted(heights)
    down = bench.step(4, [[0, 0, -0.01, 0, 0, 0, 1]]).steps[0]
    assert down.target_pose[2] == pytest.approx(heights[-1] - 0.01, abs=1e-6)


@settings(max_examples=30)
@given(st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 7), min_size=1, max_size=8))
def test_the_driver_is_never_told_to_leave_the_box(tmp_path_factory, actions):
    log = tmp_path_factory.mktemp("log") / "targets"
    bench = Bench(tmp_path_factory.mktemp("spool"), driver=ToyDriver(log))
    bench.start()
    bench.lease()
    bench.create(max_steps=8)
    bench.step(0, [list(action) for action in actions])
    told = np.array([json.loads(line) for line in log.read_text().splitlines()])
    assert len(told) == len(actions)
    assert (told >= np.array(BOX_LOW)).all()
    assert (told <= np.array(BOX_HIGH)).all()
    bench.die()


def test_creating_the_same_episode_again_resets_nothing_and_gets_the_same_answer(bench):
    bench.lease()
    first = bench.create()
    bench.step(0)
    again = bench.create()
    assert again.observation == first.observation
    assert again.next_step == 1
    assert bench.step(1).next_step == 2


def test_the_same_id_with_another_request_is_refused(bench):
    bench.lease()
    bench.create()
    with pytest.raises(IdempotencyMismatch, match="episode e1"):
        bench.create(seed=4)


def test_an_episode_that_began_is_not_thrown_away_for_another(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    with pytest.raises(EpisodeState, match="episode e1 is running"):
        bench.create(episode_id="e2")
    bench.session.finish("e1", "completed", bench.fence)
    assert bench.create(episode_id="e2").episode_id == "e2"


def test_an_episode_without_a_step_makes_way_for_the_next_and_leaves_nothing(bench):
    bench.lease()
    bench.create()
    bench.create(episode_id="e2")
    assert bench.session.spool.waiting() == []
    with pytest.raises(UnknownEpisode):
        bench.step(0)
    bench.step(0, episode="e2")


def test_an_episode_without_a_step_cannot_be_finished(bench):
    bench.lease()
    bench.create()
    with pytest.raises(EpisodeState, match="without a step"):
        bench.session.finish("e1", "completed", bench.fence)
    bench.step(0)
    assert bench.session.finish("e1", "completed", bench.fence).T == 1


def test_finishing_twice_judges_once(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    first = bench.session.finish("e1", "completed", bench.fence)
    bench.clock.advance(5)
    assert bench.session.finish("e1", "policy_error", bench.fence) == first


@pytest.mark.parametrize("acknowledged", [False, True])
def test_the_id_of_a_finished_episode_is_not_used_again(bench, acknowledged):
    bench.lease()
    bench.create()
    bench.step(0)
    manifest = bench.session.finish("e1", "completed", bench.fence)
    if acknowledged:
        bench.session.acknowledge("e1", manifest.digest)
    with pytest.raises(EpisodeState, match="a new id"):
        bench.create()
    with pytest.raises(EpisodeState, match="finished"):
        bench.step(1)


@pytest.mark.parametrize("task", ["fold_cloth", "", "open_drawer "])
def test_an_unknown_task_is_refused_before_anything_is_opened(bench, task):
    bench.lease()
    request = a_request(episode_id="e1").model_copy(update={"task_id": task})
    with pytest.raises(UnknownTask, match="open_drawer, close_drawer"):
        bench.session.create(request, bench.fence)
    assert bench.session.recording is None
    assert not (bench.root / "open.json").exists()


def test_an_instruction_of_the_requests_own_is_recorded(bench):
    bench.lease()
    assert bench.create(instruction="pull the drawer").instruction == "pull the drawer"
    assert bench.create(episode_id="e2").instruction == "open the drawer"


def test_a_request_may_narrow_the_limits_and_never_widen_them(bench):
    bench.lease()
    with pytest.raises(LimitsViolation):
        bench.create(limits=NarrowedLimits(step_xyz_max=0.1))
    assert bench.session.recording is None
    bench.create(limits=NarrowedLimits(step_xyz_max=0.01))
    assert bench.step(0, forward(1, 0.05)).steps[0].executed_action[0] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("limits", "action", "clip"),
    [
        ({"ee_speed_max": 0.05}, [0.05, 0, 0, 0, 0, 0, 1], "speed"),
        ({"tilt_max": 0.05}, [0, 0, 0, 0, 0.2, 0, 1], "tilt"),
    ],
    ids=["speed", "tilt"],
)
def test_a_narrowed_speed_or_tilt_cuts_what_the_station_itself_would_let_pass(bench, limits, action, clip):
    bench.lease()
    moved = {}
    for episode, wanted in (("own", None), ("narrow", NarrowedLimits(**limits))):
        bench.create(episode_id=episode, limits=wanted)
        request = StepsRequest(t=0, actions=[action])
        moved[episode] = bench.session.step(episode, request, bench.fence).steps[0]
        bench.session.finish(episode, "completed", bench.fence)
    assert (moved["own"].clips, moved["narrow"].clips) == ([], [clip])
    sizes = {episode: np.linalg.norm(step.executed_action[:6]) for episode, step in moved.items()}
    assert 0 < sizes["narrow"] < 0.5 * sizes["own"]


def test_an_arm_that_was_held_speeds_up_from_rest_again(bench):
    bench.lease()
    bench.create(limits=NarrowedLimits(ee_accel_max=0.25))  # each step at most 1 cm longer
    assert [step.executed_action[0] for step in bench.step(0, forward(2, 0.05)).steps] == pytest.approx(
        [0.01, 0.02]
    )
    bench.session.hold(bench.session.recording, "a test")
    assert bench.step(2, forward(1, 0.05)).steps[0].executed_action[0] == pytest.approx(0.01)


def test_episodes_under_other_limits_name_another_transform(bench):
    bench.lease()
    names = []
    for episode, limits in (("a", None), ("b", NarrowedLimits(step_xyz_max=0.01)), ("c", None)):
        bench.create(episode_id=episode, limits=limits)
        bench.step(0, episode=episode)
        names.append(bench.session.finish(episode, "completed", bench.fence).transform_id)
    assert names[0] == names[2] != names[1]


@pytest.mark.parametrize("fence", [None, 0, 2])
@pytest.mark.parametrize("call", ["create", "step", "finish"])
def test_nothing_moves_without_the_current_fence(bench, call, fence):
    bench.lease()
    bench.create()
    bench.step(0)
    request = StepsRequest(t=1, actions=forward())
    calls = {
        "create": lambda: bench.session.create(a_request(episode_id="e2"), fence),
        "step": lambda: bench.session.step("e1", request, fence),
        "finish": lambda: bench.session.finish("e1", "completed", fence),
    }
    with pytest.raises(LeaseRequired if fence is None else FenceStale):
        calls[call]()
    assert bench.driver.moves == 1
    assert bench.session.recording.count == 1


def test_a_lease_that_ran_out_ends_the_episode_and_keeps_its_steps(bench):
    bench.lease()
    bench.create()
    bench.step(0, forward(3))
    bench.clock.advance(31)
    with pytest.raises(LeaseRequired):
        bench.step(3)
    manifest = kept(bench.session).manifest
    assert (manifest.outcome, manifest.T, manifest.labels) == ("aborted_lease", 3, ())
    assert not manifest.valid_for.policy_eval
    assert bench.driver.moves == 3


def test_the_next_holder_does_not_inherit_the_episode(bench):
    bench.lease("first")
    bench.create()
    bench.step(0)
    old = bench.fence
    bench.clock.advance(31)
    bench.lease("second")
    with pytest.raises(EpisodeState, match="finished"):
        bench.step(1)
    with pytest.raises(FenceStale):
        bench.session.step("e1", StepsRequest(t=1, actions=forward()), old)
    assert kept(bench.session).manifest.outcome == "aborted_lease"


def test_a_lease_that_ran_out_before_the_first_step_leaves_nothing(bench):
    bench.lease()
    bench.create()
    bench.clock.advance(31)
    bench.session.settle()
    assert bench.session.recording is None
    assert bench.session.spool.waiting() == []


def test_settling_ends_an_abandoned_episode_without_any_further_call(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    bench.session.settle()
    assert bench.session.recording is not None
    bench.clock.advance(31)
    bench.session.settle()
    assert kept(bench.session).manifest.outcome == "aborted_lease"


def test_an_emergency_stop_ends_lease_and_episode_and_outlives_a_restart(bench):
    bench.lease()
    bench.create()
    bench.step(0, forward(2))
    bench.session.stop("hand in the cell")
    bench.session.tick()
    assert kept(bench.session).manifest.outcome == "aborted_estop"
    assert bench.session.leases.state() is None
    bench.restart()
    bench.lease()
    with pytest.raises(EStopped, match="hand in the cell"):
        bench.create(episode_id="e2")
    bench.session.estop.clear()
    bench.lease("after the operator")
    bench.create(episode_id="e2")
    assert bench.driver.moves == 2


def test_an_emergency_stop_during_a_chunk_stops_it_between_two_actions(tmp_path):
    class StoppedMidway(ToyDriver):
        def step(self, target: Pose, gripper: float) -> StepOutcome:
            if self.moves == 1:  # during the second action, from another thread, as the HTTP call comes
                stopper = threading.Thread(target=bench.session.stop, args=("now",))
                stopper.start()
                stopper.join()
            return super().step(target, gripper)

    bench = Bench(tmp_path / "spool", driver=StoppedMidway())
    bench.start()
    bench.lease()
    bench.create()
    with pytest.raises(EStopped, match="now"):
        bench.step(0, forward(5))
    assert bench.driver.moves == 2
    manifest = kept(bench.session).manifest
    assert (manifest.outcome, manifest.T) == ("aborted_estop", 2)
    bench.die()


def test_a_lease_that_runs_out_during_a_chunk_stops_it_between_two_actions(tmp_path):
    class Slow(ToyDriver):
        def step(self, target: Pose, gripper: float) -> StepOutcome:
            if self.moves == 2:
                bench.clock.advance(31)
            return super().step(target, gripper)

    bench = Bench(tmp_path / "spool", driver=Slow())
    bench.start()
    bench.lease()
    bench.create()
    with pytest.raises(LeaseRequired):
        bench.step(0, forward(5))
    assert bench.driver.moves == 3
    assert kept(bench.session).manifest.outcome == "aborted_lease"
    bench.die()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (MotorFault(motor="elbow", fault="overload"), MotorFault),
        (CameraStale(camera="primary", age_s=2.0, limit_s=0.4), CameraStale),
        ({"proprio": np.full(7, np.nan, dtype=np.float32)}, MotorFault),
        ({"effort_mA": np.full(7, np.inf, dtype=np.float32)}, MotorFault),
        ({"captured_at": 0.2}, CameraStale),  # the clock of the picture before
    ],
)
def test_a_fault_of_the_robot_aborts_the_episode_and_keeps_the_steps_before_it(tmp_path, change, error):
    bench = Bench(tmp_path / "spool", driver=Misbehaving(3, change))
    bench.start()
    bench.lease()
    bench.create()
    bench.step(0, forward(1))
    with pytest.raises(error):
        bench.step(1, forward(4))
    manifest = kept(bench.session).manifest
    assert (manifest.outcome, manifest.T) == ("aborted_hw", 2)
    assert manifest.valid_for.world_model
    with pytest.raises(EpisodeState, match="finished"):
        bench.step(1, forward(4))
    assert bench.driver.moves == 3
    bench.die()


def test_a_picture_that_is_none_ends_the_episode_and_its_step_is_never_executed_again(tmp_path):
    picture = {"image": np.zeros((3, 3), dtype=np.uint8)}
    bench = Bench(tmp_path / "spool", driver=Misbehaving(3, picture))
    bench.start()
    bench.lease()
    bench.create()
    bench.step(0, forward(2))
    with pytest.raises(DriverError):
        bench.step(2, forward(1))
    with pytest.raises(EpisodeState):
        bench.step(2, forward(1))
    assert bench.driver.moves == 3
    assert kept(bench.session).manifest.outcome == "aborted_hw"
    bench.die()


def test_a_step_whose_outcome_nobody_knows_is_never_executed_again(tmp_path):
    bench = Bench(tmp_path / "spool", driver=Misbehaving(3, RuntimeError("the simulator broke")))
    bench.start()
    bench.lease()
    bench.create()
    bench.step(0, forward(2))
    with pytest.raises(RuntimeError):
        bench.step(2, forward(1))
    with pytest.raises(UnknownOutcome, match="step 2"):
        bench.step(2, forward(1))
    assert bench.driver.moves == 3
    manifest = kept(bench.session).manifest
    assert (manifest.outcome, manifest.T) == ("aborted_hw", 2)
    bench.die()


def test_an_episode_whose_station_died_is_an_unknown_outcome_for_ever(bench):
    bench.lease()
    bench.create()
    bench.step(0)
    bench.die()
    bench.start()
    bench.lease()
    with pytest.raises(UnknownOutcome, match="step 1"):
        bench.step(1)
    with pytest.raises(UnknownOutcome):
        bench.create()
    assert bench.create(episode_id="e2").next_step == 0
    assert bench.driver.moves == 1


def test_a_station_that_is_told_to_go_keeps_the_open_episode(bench):
    bench.lease()
    bench.create()
    bench.step(0, forward(2))
    session = bench.restart()
    manifest = kept(session).manifest
    assert (manifest.outcome, manifest.T) == ("aborted_lease", 2)
    assert bench.driver.closed == 1


def test_a_reset_that_fails_opens_nothing(tmp_path):
    class Stuck(ToyDriver):
        def reset(self, task_id: str, *, seed: int) -> Sample:
            raise MotorFault(motor="waist", fault="overheating")

    bench = Bench(tmp_path / "spool", driver=Stuck())
    bench.start()
    bench.lease()
    with pytest.raises(MotorFault, match="waist"):
        bench.create()
    assert bench.session.recording is None
    bench.die()
    bench.start()
    assert not bench.session.spool.is_lost("e1")
    bench.die()


def test_a_full_spool_stops_new_episodes_and_not_the_open_one(tmp_path):
    bench = Bench(tmp_path / "spool")
    bench.start(spool_limit=1)
    bench.lease()
    bench.create()
    bench.step(0)
    manifest = bench.session.finish("e1", "completed", bench.fence)
    with pytest.raises(SpoolFull, match="acknowledge") as refused:
        bench.create(episode_id="e2")
    assert refused.value.retryable
    bench.session.acknowledge("e1", manifest.digest)
    bench.create(episode_id="e2")
    bench.die()


def test_the_same_seed_makes_the_same_episode_but_for_its_id_and_times(bench):
    bench.lease()
    digests = []
    for episode, seed in (("a", 1), ("b", 1), ("c", 2)):
        bench.create(episode_id=episode, seed=seed)
        bench.step(0, forward(4), episode=episode)
        digests.append(bench.session.finish(episode, "completed", bench.fence).blobs)
    assert digests[0] == digests[1] != digests[2]


def test_each_episode_leaves_one_line_in_the_log(bench, caplog):
    caplog.set_level("INFO", logger="robot_bridge")
    bench.lease()
    bench.create()
    bench.step(0, forward(6, 0.03))
    bench.session.finish("e1", "completed", bench.fence)
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("episode spooled")]
    assert lines == ["episode spooled episode=e1 task=open_drawer outcome=completed steps=6 success=True"]
