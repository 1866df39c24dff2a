"""One job over a toy cell and a toy policy: every step of run_eval that an adapter can notice."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import requests

from robot_bridge.autoeval.emulator.arm import MgArm
from robot_bridge.autoeval.emulator.errors import (
    EvaluationKilled,
    InvalidPolicyAction,
    NothingEvaluated,
    PolicyResetFailed,
)
from robot_bridge.autoeval.emulator.evaluation import Bench, Evaluation, Job, KillSwitch
from robot_bridge.autoeval.emulator.live import LiveView
from robot_bridge.autoeval.emulator.policy_line import read_answer
from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.robots import ROBOTS
from tests.robot_bridge.autoeval.emulator.conftest import until
from tests.robot_bridge.autoeval.emulator.records import actions, metadata, the_run, trajectory
from tests.robot_bridge.autoeval.emulator.toy_policy import FORWARD, SILENCE, STAY, ToyPolicy, always
from tests.robot_bridge.toy_driver import ToyDriver

SUCCEEDS = 8  # steps forward after which the toy counts as done


class SinkCell(ToyDriver):
    """Two trays as the toy sees them: done once the gripper has let go. It starts closed."""

    @property
    def description(self):
        described = super().description
        tray = described.tasks[0].__class__(
            task_id="put_eggplant_blue_sink",
            instruction="put the eggplant in the blue sink",
            box_low=described.tasks[0].box_low,
            box_high=described.tasks[0].box_high,
        )
        return described.__class__(
            **{name: getattr(described, name) for name in described.__slots__ if name != "tasks"},
            tasks=(tray,),
        )

    def reset(self, task_id, *, seed):
        return super().reset("open_drawer", seed=seed)

    def success(self):
        return self._finger > 0.03


class Desk:
    """Makes evaluations over one toy cell; keyword arguments are quirks and numbers of the job."""

    def __init__(self, root: Path, policy: ToyPolicy) -> None:
        self.root, self.policy, self.live, self.switch = root, policy, LiveView(), KillSwitch()

    def job(self, *, episodes=1, steps=2, robot="widowx_drawer", task="open_drawer") -> Job:
        return Job(
            job_id="5f0c",
            robot=ROBOTS[robot],
            task=ROBOTS[robot].task(task),
            description="dyna:42",
            host="127.0.0.1",
            port=self.policy.port,
            num_episodes=episodes,
            max_steps=steps,
        )

    def evaluation(self, job: Job | None = None, cell: ToyDriver | None = None, **quirks) -> Evaluation:
        bench = Bench(
            arm=MgArm(cell or ToyDriver()),
            live=self.live,
            temporary=self.root / "tmp",
            quirks=Quirks(**quirks),
        )
        return Evaluation(job or self.job(), bench, switch=self.switch)

    def record(self, index: int) -> dict:
        return trajectory(the_run(self.root) / f"traj_{index}.pkl")


@pytest.fixture
def desk(tmp_path: Path, policy: ToyPolicy) -> Desk:
    return Desk(tmp_path, policy)


def test_an_episode_is_one_reset_and_then_a_call_per_step(desk, policy):
    desk.evaluation(desk.job(episodes=2, steps=3)).run()
    assert policy.endpoints() == ["/reset", "/act", "/act", "/act"] * 2


def test_there_is_no_word_at_the_end_of_an_episode_nor_of_the_job(desk, policy):
    desk.evaluation(desk.job(episodes=1, steps=2)).run()
    assert policy.endpoints()[-1] == "/act"
    assert len(the_images(policy)) == 2  # the third picture, after the last action, was never sent


def the_images(policy: ToyPolicy) -> list[np.ndarray]:
    return [read_answer(call.tree["image"]) for call in policy.acts()]


def test_success_does_not_end_an_episode(desk, policy):
    policy.act = always(FORWARD)
    assert desk.evaluation(desk.job(steps=SUCCEEDS + 4)).run() == 1.0
    assert len(policy.acts()) == SUCCEEDS + 4


def test_the_policy_sees_before_a_step_what_the_record_has_after_the_one_before(desk, policy):
    policy.act = lambda index: (200, json.dumps([0.02, 0.004 * index, 0, 0, 0, 0, index % 2]).encode())
    desk.evaluation(desk.job(steps=4)).run()
    record = desk.record(0)
    sent = the_images(policy)
    kept = record["obs"]["image_primary"]
    assert len(kept) == len(sent) == 4
    for later, earlier in zip(sent[1:], kept[:-1], strict=True):
        np.testing.assert_array_equal(later, earlier)
    proprios = [read_answer(call.tree["proprio"]) for call in policy.acts()]
    np.testing.assert_array_equal(proprios[1:], record["proprio"][:-1])
    assert (kept[-1] != sent[-1]).any()


def test_the_record_has_the_action_as_it_was_answered_not_as_it_ran(desk, policy):
    wild = [0.5, -0.123456789, 7.0, 9.0, 0.0, -1e3, 0.7]
    policy.act = always(wild)
    desk.evaluation().run()
    assert actions(desk.record(0)).tolist() == [wild, wild]


def test_the_rate_is_the_mean_of_the_verdicts_to_four_decimals(desk, policy):
    policy.act = lambda index: (200, json.dumps(FORWARD if index < 2 * SUCCEEDS else STAY).encode())
    assert desk.evaluation(desk.job(episodes=3, steps=SUCCEEDS)).run() == 0.6667
    assert [desk.record(index)["success"] for index in range(3)] == [True, True, False]


def test_the_record_is_found_by_the_jobs_description_and_the_log_names_its_folder(desk):
    evaluation = desk.evaluation()
    evaluation.run()
    folder = the_run(desk.root)
    assert metadata(folder)["eval_name"] == "dyna:42"
    log = "\n".join(evaluation.log)
    found = re.search(r"Eval data saved to (\S+) on HuggingFace repo zhouzypaul/auto_eval", log)
    assert found is not None and found[1] == str(folder)
    assert f"Specific run dir is {folder}" in log


def test_the_log_ends_with_the_result_as_json(desk):
    evaluation = desk.evaluation()
    rate = evaluation.run()
    start, end = evaluation.log.index("RESULT_START"), evaluation.log.index("RESULT_END")
    result = json.loads(evaluation.log[start + 1])
    assert end == start + 2
    assert result == {"status": "completed", "success_rate": rate, "wandb_url": evaluation.wandb_url}
    assert result["wandb_url"].startswith("https://wandb.ai/")


def test_a_motor_failure_begins_the_episode_again_and_drops_what_was_recorded(desk, policy):
    policy.act = lambda index: (200, json.dumps([0.001 * index, 0, 0, 0, 0, 0, 1]).encode())
    desk.evaluation(desk.job(episodes=2, steps=3), motor_failures=frozenset({(0, 0, 1)})).run()
    broken, whole = ["/reset", "/act", "/act"], ["/reset", "/act", "/act", "/act"]
    assert policy.endpoints() == [*broken, *whole, *whole]
    first = desk.record(0)
    assert actions(first)[:, 0].tolist() == [0.002, 0.003, 0.004]  # those of the second attempt
    assert (first["num_eval_retries"], first["experienced_motor_failure"]) == (1, 1)
    second = desk.record(1)
    assert (second["num_eval_retries"], second["experienced_motor_failure"]) == (0, 0)


def test_a_motor_failure_after_the_task_is_done_is_a_short_success(desk, policy):
    policy.act = always(FORWARD)
    job = desk.job(steps=SUCCEEDS + 9)
    rate = desk.evaluation(job, motor_failures=frozenset({(0, 0, SUCCEEDS)})).run()
    record = desk.record(0)
    assert rate == 1.0
    assert policy.endpoints().count("/reset") == 1
    assert len(record["action"]) == SUCCEEDS + 1
    assert (record["num_eval_retries"], record["experienced_motor_failure"]) == (0, 1)


def test_motors_that_always_fail_are_tried_for_ever(desk, policy):
    evaluation = desk.evaluation(motor_failure_probability=1.0)
    worker = threading.Thread(target=ignoring_kill, args=(evaluation,))
    worker.start()
    policy.wait_for(40)
    assert worker.is_alive()
    assert set(policy.endpoints()[:40:2]) == {"/reset"}  # each attempt: a reset, one step, and again
    desk.switch.kill()
    worker.join(timeout=20)
    assert not worker.is_alive()


def ignoring_kill(evaluation: Evaluation) -> None:
    try:
        evaluation.run()
    except (EvaluationKilled, requests.RequestException):
        return


def test_a_classifier_that_always_errs_says_the_other_word(desk, policy):
    policy.act = always(FORWARD)
    evaluation = desk.evaluation(desk.job(steps=SUCCEEDS), classifier_noise=1.0)
    assert evaluation.run() == 0.0
    assert "is the drawer open? answer yes or no no" in evaluation.log
    assert desk.record(0)["success"] is False


def test_a_classifier_errs_as_often_as_it_is_told(desk):
    rate = desk.evaluation(desk.job(episodes=60, steps=1), classifier_noise=0.3).run()
    assert 0.1 < rate < 0.5


def test_the_sinks_verdict_is_on_the_picture_from_before_the_arm_moved_away(desk, policy):
    """The arm still holds the eggplant in the tray when the picture is taken: done a moment later."""
    policy.act = always([0.0] * 7)
    sink = desk.job(robot="widowx_sink", task="put_eggplant_blue_sink")
    assert desk.evaluation(sink, SinkCell()).run() == 0.0
    assert desk.evaluation(sink, SinkCell(), stale_observation=False).run() == 1.0


def test_the_drawers_arm_does_not_move_away_before_the_verdict(desk, policy):
    policy.act = always(FORWARD)
    assert desk.evaluation(desk.job(steps=SUCCEEDS), stale_observation=False).run() == 1.0


def test_a_failed_scene_reset_waits_for_a_human(desk):
    evaluation = desk.evaluation(
        desk.job(episodes=2), failed_resets=frozenset({1}), human_answers=False, scene_reset_s=0.001
    )
    worker = threading.Thread(target=evaluation.run)
    worker.start()
    until(lambda: desk.live.words(0).get("waiting_for_human"))
    assert not (the_run(desk.root) / "traj_1.pkl").exists()
    desk.live.answer(0)
    worker.join(timeout=20)
    assert desk.live.words(0)["waiting_for_human"] is False
    assert [desk.record(index)["need_human_intervention"] for index in (0, 1)] == [0, 1]


def test_an_answer_from_before_the_question_does_not_count(desk):
    desk.live.answer(0)
    evaluation = desk.evaluation(failed_resets=frozenset({0}), human_answers=False)
    worker = threading.Thread(target=ignoring_kill, args=(evaluation,))
    worker.start()
    until(lambda: desk.live.words(0).get("waiting_for_human"))
    assert desk.policy.calls == []
    desk.switch.kill()
    worker.join(timeout=20)
    assert not worker.is_alive()


def test_an_arm_that_starts_astray_needs_a_human_and_goes_on(desk):
    class Astray(ToyDriver):
        def reset(self, task_id, *, seed):
            super().reset(task_id, seed=seed)
            self._target = self._target.__class__(np.array([0.4, 0.2, 0.15]), self._target.rotation)
            return self._sample()

    desk.evaluation(cell=Astray()).run()
    record = desk.record(0)
    assert (record["pre_rollout_checks_failed"], record["need_human_intervention"]) == (1, 1)


def test_an_arm_that_ends_on_the_table_needs_a_human(desk):
    class Fallen(ToyDriver):
        def step(self, target, gripper):
            self._target = self._target.__class__(np.array([0.25, 0.0, -0.01]), self._target.rotation)
            return super().step(self._target, gripper)

    desk.evaluation(cell=Fallen()).run()
    assert desk.record(0)["post_rollout_checks_failed"] == 1


def test_the_live_page_follows(desk, policy):
    pages = []
    policy.act = lambda index: (pages.append(desk.live.words(0)), (200, json.dumps(STAY).encode()))[1]
    desk.evaluation(desk.job(episodes=2, steps=2)).run()
    assert [(page["episode"], page["timestep"]) for page in pages] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert {page["language_instruction"] for page in pages} == {"open the drawer"}
    assert desk.live.picture(0) is not None
    assert desk.live.picture(1) is None


def test_a_policy_without_reset_is_evaluated(desk, policy):
    policy.reset = always({}, status=404)
    desk.evaluation().run()
    assert len(policy.acts()) == 2


def test_a_policy_that_answers_error_ends_the_job(desk, policy):
    policy.act = lambda index: (200, b'"error"' if index == 1 else json.dumps(STAY).encode())
    with pytest.raises(InvalidPolicyAction, match="error"):
        desk.evaluation(desk.job(episodes=3)).run()
    assert len(policy.acts()) == 2
    assert not (the_run(desk.root) / "traj_0.pkl").exists()


def test_a_reset_that_fails_ends_the_job(desk, policy):
    policy.reset = always({}, status=500)
    with pytest.raises(PolicyResetFailed):
        desk.evaluation().run()
    assert policy.acts() == []


def test_a_policy_that_hangs_holds_the_robot_until_somebody_kills_the_job(desk, policy):
    policy.act = SILENCE
    evaluation = desk.evaluation()
    worker = threading.Thread(target=ignoring_kill, args=(evaluation,))
    worker.start()
    policy.wait_for(2)
    assert worker.is_alive()
    desk.switch.kill()
    worker.join(timeout=20)
    assert not worker.is_alive()
    assert policy.gone.wait(timeout=20)


def test_a_kill_in_a_motion_leaves_the_arm_where_it_is(desk, policy):
    class Watched(ToyDriver):
        def step(self, target, gripper):
            outcome = super().step(target, gripper)
            desk.switch.kill()
            return outcome

    cell = Watched()
    policy.act = always(FORWARD)
    with pytest.raises(EvaluationKilled, match="5f0c"):
        desk.evaluation(cell=cell).run()
    assert cell.moves == 1
    assert cell.calls == []  # neither held nor parked


def test_a_kill_before_the_first_motion_is_heard_too(desk, policy):
    desk.switch.kill()
    with pytest.raises(EvaluationKilled):
        desk.evaluation().run()
    assert policy.calls == []


@pytest.mark.parametrize(("episodes", "steps"), [(0, 5), (5, 0), (-1, 5)])
def test_a_job_without_episodes_or_steps_fails(desk, episodes, steps):
    with pytest.raises(NothingEvaluated, match="at least one of each"):
        desk.evaluation(desk.job(episodes=episodes, steps=steps)).run()


def test_the_same_job_meets_the_same_scenes_again_and_every_attempt_another(desk):
    seeds = []

    class Noting(ToyDriver):
        def reset(self, task_id, *, seed):
            seeds.append(seed)
            return super().reset(task_id, seed=seed)

    failing = frozenset({(0, 0, 0)})
    desk.evaluation(desk.job(episodes=2), Noting(), motor_failures=failing).run()
    desk.evaluation(desk.job(episodes=2), Noting(), motor_failures=failing).run()
    assert seeds[:3] == seeds[3:]
    assert len(set(seeds)) == 3
