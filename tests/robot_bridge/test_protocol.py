"""The messages of robot-station/v1: commands fail closed, answers tolerate what is newer than they are."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from pydantic import ValidationError

from robot_bridge import protocol
from robot_bridge.episode import PolicyRef
from robot_bridge.protocol import (
    AckRequest,
    Answer,
    ClearEStopRequest,
    Command,
    EpisodeRequest,
    EStopRequest,
    FinishRequest,
    HeartbeatRequest,
    HumanDoneRequest,
    LeaseAnswer,
    LeaseRequest,
    NarrowedLimits,
    ResetRequest,
    StartRequest,
    StepsRequest,
)
from tests.robot_bridge.builders import a_request, forward

COMMANDS: list[Command] = [
    LeaseRequest(holder="daemon"),
    HeartbeatRequest(seq=1),
    a_request(episode_id="e1", limits=NarrowedLimits(step_xyz_max=0.01)),
    StepsRequest(t=0, actions=forward(2)),
    FinishRequest(),
    AckRequest(manifest_sha256="0" * 64),
    EStopRequest(),
    StartRequest(),
    ResetRequest(task_id="open_drawer"),
    HumanDoneRequest(note="the eggplant is back"),
    ClearEStopRequest(nonce="n"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_a_command_comes_back_from_its_json_and_knows_nothing_unknown(command):
    kind = type(command)
    assert kind.model_validate_json(command.model_dump_json()) == command
    with pytest.raises(ValidationError, match="surprise"):
        kind.model_validate({**command.model_dump(), "surprise": 1})


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_a_command_does_not_change_after_it_was_made(command):
    name = next(iter(type(command).model_fields), None)
    if name is None:
        return
    with pytest.raises(ValidationError, match="frozen"):
        setattr(command, name, getattr(command, name))


def test_every_command_and_answer_of_the_module_keeps_to_its_kind():
    assert all(kind.model_config["extra"] == "forbid" for kind in Command.__subclasses__())
    assert all(kind.model_config["extra"] == "ignore" for kind in Answer.__subclasses__())
    ours = {kind for kind in Command.__subclasses__() if kind.__module__ == protocol.__name__}
    assert {type(command) for command in COMMANDS} | {NarrowedLimits} == ours


def test_an_answer_of_a_later_minor_version_is_read_without_what_it_adds():
    answer = {
        "lease_id": "x",
        "fence": 1,
        "ttl_s": 30.0,
        "heartbeat_s": 10.0,
        "station_time": 5.0,
        "mood": "fine",
    }
    assert LeaseAnswer.model_validate(answer).fence == 1


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (LeaseRequest, {"holder": "x", "ttl_s": 60.1}),
        (LeaseRequest, {"holder": "x", "ttl_s": -1}),
        (LeaseRequest, {"holder": "x", "ttl_s": math.nan}),
        (LeaseRequest, {"holder": "x" * 201}),
        (HeartbeatRequest, {"seq": -1}),
        (NarrowedLimits, {"step_xyz_max": math.inf}),
        (NarrowedLimits, {"box_low": (0.0, 0.0)}),
        (NarrowedLimits, {"step_rot_max": 0.0}),
        (StepsRequest, {"t": 0, "actions": []}),
        (StepsRequest, {"t": 0, "actions": forward(65)}),
        (StepsRequest, {"t": 1000, "actions": forward()}),
        (StepsRequest, {"t": 0, "actions": forward(), "infer_ms": math.nan}),
        (StepsRequest, {"t": 0, "actions": forward(), "ttl_ms": 0}),
        (StepsRequest, {"t": 0, "actions": forward(), "issued_at": math.inf}),
        (FinishRequest, {"reason": "aborted_hw"}),  # only the station says that of itself
        (AckRequest, {"manifest_sha256": "0" * 63}),
        (AckRequest, {"manifest_sha256": "G" * 64}),
        (EStopRequest, {"reason": "x" * 501}),
    ],
)
def test_a_command_out_of_its_bounds_is_refused(kind, fields):
    with pytest.raises(ValidationError):
        kind(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"episode_id": ""},
        {"episode_id": "a/b"},
        {"episode_id": ".."},
        {"episode_id": "a" * 101},
        {"task_id": ""},
        {"max_steps": 0},
        {"max_steps": 1001},
        {"seed": -1},
        {"seed": 2**63},
        {"mode": "telepathy"},
        {"policy_endpoint": "http://" + "x" * 500},
        {"instruction": "x" * 501},
        {"metadata": {str(n): "" for n in range(51)}},
        {"policy": PolicyRef(name="x").model_dump() | {"weights": "y"}},
    ],
)
def test_an_episode_request_out_of_its_bounds_is_refused(fields):
    with pytest.raises(ValidationError):
        a_request(**fields)


def test_an_early_end_is_spoken_of_only_where_it_is_wanted():
    """A station of 1.1 refuses fields that it does not know, and has to take all other episodes."""
    ordinary, early = a_request(episode_id="e"), a_request(episode_id="e", may_end_early=True)
    assert "may_end_early" not in ordinary.model_dump_json()
    assert '"may_end_early":true' in early.model_dump_json()
    for request in (ordinary, early):
        assert EpisodeRequest.model_validate_json(request.model_dump_json()) == request
    with pytest.raises(ValidationError):
        a_request(may_end_early="true")


def test_two_requests_without_an_id_are_two_episodes():
    assert a_request().episode_id != a_request().episode_id
    assert isinstance(a_request(), EpisodeRequest)


def test_a_steps_request_carries_nan_to_the_safety_pipeline_which_names_it():
    assert math.isnan(StepsRequest(t=0, actions=[[math.nan] * 7]).actions[0][0])


def test_the_clients_side_loads_neither_a_server_nor_a_simulator_nor_a_learner():
    program = (
        "import sys, robot_bridge.client, robot_bridge.episode, robot_bridge.safety;"
        "heavy = {'torch', 'sqlalchemy', 'mujoco', 'fastapi', 'uvicorn', 'storage', 'daemon'};"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_station_loads_neither_a_simulator_nor_a_learner():
    program = (
        "import sys, robot_bridge.station.serve;"
        "heavy = {'torch', 'sqlalchemy', 'mujoco', 'storage', 'daemon'};"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
