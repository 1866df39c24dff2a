"""Policy, world model and judge may have other picture sizes: they act, judge and learn all the same."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from daemon.learning.policy.nano_vla import NanoVLA, NanoVLAConfig
from daemon.learning.policy.policy import Policy, new_policy
from daemon.learning.world_model.autoencoder import NanoAutoencoder
from daemon.learning.world_model.model import WorldModel
from daemon.phases import collect, finetune_world_model, update_policy
from storage import checkpoints
from tests.daemon.phases.conftest import Lab, tiny_models
from tests.robot_bridge.toy_driver import TASKS

COARSE = "imagination is coarser than the robot"


def a_policy_of(size: int) -> Policy:
    """The tiny policy of the lab, for pictures of so many pixels on a side."""
    known = new_policy(tuple(TASKS.values()), seed=0, width=16, layers=1)
    sizes = {"vocabulary": len(known.tokenizer), "width": 16, "layers": 1}
    return Policy(NanoVLA(NanoVLAConfig(image_size=size, **sizes)), known.tokenizer, binning=known.binning)


@pytest.fixture(params=[32, 64, 128])
def model_files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The lab's models: the world model's pictures have 64 pixels on a side, the policy's `request.param`."""
    files = tiny_models(tmp_path_factory.mktemp("models"))
    if request.param == "world model of 128":
        small = WorldModel.load(files["world_model"])
        autoencoder = NanoAutoencoder(latent_channels=4, image_size=128)
        WorldModel(small.transformer, autoencoder.eval()).save(files["world_model"], {})
    else:
        a_policy_of(request.param).save(files["policy"], {"size": request.param})
    return files


def test_it_acts_on_the_robot_and_learns_in_imagination(
    lab: Lab, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    size = request.node.callspec.params["model_files"]
    lab.do("collect", collect.run)
    with caplog.at_level(logging.WARNING, logger="daemon.phases.update_policy"):
        outcome = lab.do("update_policy", update_policy.run)
    assert outcome["optimizer_steps"] > 0
    with lab.database.read() as session:
        row = checkpoints.get(session, outcome["made"]["policy"])
        made = Policy.load(checkpoints.path(row, lab.blobs))
    assert made.image_size == size
    assert (f"{COARSE} policy_pixels={size} world_model_pixels=64" in caplog.text) is (size > 64)


@pytest.mark.parametrize("model_files", ["world model of 128"], indirect=True)
def test_a_classifier_of_smaller_pictures_judges_and_learns_from_a_larger_world(lab: Lab) -> None:
    lab.do("collect", collect.run)
    outcome = lab.do("finetune_world_model", finetune_world_model.run)
    assert set(outcome["film_strips"]) == set(outcome["judge_along"]) == {"open_drawer", "close_drawer"}
    assert "judge" in outcome["made"]
    assert lab.do("update_policy", update_policy.run)["updates"] == 1
