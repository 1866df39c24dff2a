"""One whole job: submitted, driven through the gateway by the emulator, found in its dataset, joined."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from robot_bridge.autoeval.dataset import HubDataset
from robot_bridge.autoeval.emulator.quirks import Quirks
from robot_bridge.autoeval.emulator.serve import running_emulator
from robot_bridge.autoeval.gateway import Gateway, GatewayJob, running_gateway
from robot_bridge.autoeval.join import Joined, JoinJob, join
from robot_bridge.autoeval.scheduler import JobRequest, JobRow, SchedulerClient, description_of
from robot_bridge.autoeval.tasks import task_of
from robot_bridge.callback import PolicyActAnswer, PolicyActRequest, PolicyReadyAnswer, PolicyResetRequest
from robot_bridge.episode import PolicyRef
from tests.robot_bridge.autoeval.rollouts import JOB_ID

TASK = task_of("put_eggplant_blue_sink")
STEPS, EPISODES, CAPABILITY, ME = 6, 2, "c" * 32, "gymnastd_test"
DEADLINE_S = 120.0


class Wandering:
    """A policy that draws its actions from the seed of each session."""

    def reset(self, request: PolicyResetRequest) -> PolicyReadyAnswer:
        self.draw = np.random.default_rng(request.seed)
        return PolicyReadyAnswer(session=request.session, policy=PolicyRef(name="wandering"), chunk=1)

    def act(self, request: PolicyActRequest) -> PolicyActAnswer:
        action = [*self.draw.uniform(-0.015, 0.015, 6).tolist(), float(self.draw.integers(0, 2))]
        return PolicyActAnswer(session=request.session, t=request.t, actions=[action], infer_ms=1.0)


def ended(client: SchedulerClient, job_id: str) -> JobRow:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        row = client.row(job_id)
        if row.is_over:
            return row
        time.sleep(0.05)
    raise AssertionError(f"job {job_id} is not over: {client.output(job_id)}")


def joined_through_the_emulator(root: Path, *, quirks: Quirks, rotation: str) -> Joined:
    description = description_of(JOB_ID, None)
    gateway = Gateway(root / "gateway", deadline_s=20.0)
    job = GatewayJob(
        job_id=JOB_ID,
        capability=CAPABILITY,
        task_id=TASK.task_id,
        instruction=TASK.instruction,
        max_steps=STEPS,
        seed=7,
        rotation=rotation,
    )
    with running_emulator(root / "emulator", quirks=quirks) as url, running_gateway(gateway) as base:
        gateway.open(job, Wandering())
        client = SchedulerClient(url, submitter_id=ME)
        remote = client.submit(
            JobRequest(
                description=description,
                robot=TASK.robot,
                task=TASK.task,
                policy_server_ip=f"{base}/j/{CAPABILITY}",
                policy_server_port=-1,
                num_episodes=EPISODES,
                max_steps=STEPS,
                submitter_id=ME,
                policy_name="wandering",
            )
        )
        row = ended(client, remote)
        assert row.status == "completed", client.output(remote)
        gateway.close(JOB_ID)
        dataset = HubDataset(cache=root / "cache", endpoint=url)
        run = dataset.find_run(description)
        assert run is not None
        told = JoinJob(
            job_id=JOB_ID,
            task=TASK,
            station_id="autoeval-widowx_sink",
            max_steps=STEPS,
            success_rate=row.success_rate,
        )
        return join(told, gateway.attempts(JOB_ID), dataset.stream(run))


@pytest.mark.slow
@pytest.mark.parametrize("rotation", ["raw", "bridge_compensated"])
def test_a_job_with_a_motor_failure_comes_back_as_whole_episodes_and_a_retry(
    tmp_path: Path, rotation: str
) -> None:
    quirks = Quirks(motor_failures=frozenset({(0, 0, 3)}))
    joined = joined_through_the_emulator(tmp_path, quirks=quirks, rotation=rotation)
    assert (joined.state, joined.reasons) == ("joined", ())
    assert (joined.matched, joined.retries, joined.hub_only, joined.disputed) == (EPISODES, 1, 0, 0)
    assert joined.mean_of_labels == joined.success_rate
    for episode in joined.episodes:
        episode.validate()
        assert episode.manifest.convention.rotation == rotation
        predicted, achieved = episode.steps.predicted_executed, episode.steps.achieved_action
        assert predicted is not None
        assert achieved is not None
        assert np.abs(predicted[:, :3] - achieved[:, :3]).max() < 0.02  # the arm follows what is predicted


@pytest.mark.slow
def test_a_job_whose_upload_was_lost_is_partial(tmp_path: Path) -> None:
    quirks = Quirks(lost_uploads=frozenset({"traj_1.pkl"}), numpy_module="numpy._core")
    joined = joined_through_the_emulator(tmp_path, quirks=quirks, rotation="raw")
    assert (joined.state, joined.matched, joined.unpublished) == ("partial", EPISODES - 1, 1)
    assert "1 whole attempts were never published" in joined.reasons
