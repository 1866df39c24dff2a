"""The link to bridge_data_robot's service: status codes, its first start, its motors, its installation."""

from __future__ import annotations

import io
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from robot_bridge.conventions import compose_target
from robot_bridge.drivers.lab_package import LabPackageMissing
from robot_bridge.drivers.widowx_envs import MODULE, WidowXEnvsLink
from robot_bridge.errors import DriverDisconnected, MotorFault
from tests.robot_bridge.drivers_real import fake_widowx_envs
from tests.robot_bridge.drivers_real.labs import Lab, install, widowx_envs_lab

TASK = "open_drawer"


def step(lab: Lab, dx: float = 0.01) -> None:
    lab.driver.step(compose_target(lab.driver.target, [dx, 0, 0, 0, 0, 0, 1]), 1.0)


def test_only_absolute_moves_gripper_and_observations_go_over_the_line(envs):
    envs.driver.reset(TASK, seed=0)
    step(envs)
    envs.driver.park()
    assert set(envs.line.calls) == {"hash", "obs", "gripper", "move"}


def test_no_message_asks_for_a_long_way(envs):
    """A non-blocking move may ignore its duration (bridge_data_robot#10): it must not matter."""
    envs.driver.reset(TASK, seed=0)
    envs.driver.park()
    commands = [fake_widowx_envs.NEUTRAL, *envs.arm.commands]
    longest = max(float(np.abs(b - a).max()) for a, b in pairwise(commands))
    assert longest < 0.2


def test_an_initialised_service_is_left_as_it_is(envs):
    envs.driver.reset(TASK, seed=0)
    assert "init" not in envs.line.calls


def test_a_service_nobody_initialised_is_started_by_the_first_reset_only(monkeypatch):
    lab = widowx_envs_lab(monkeypatch, initialised=False)
    with pytest.raises(DriverDisconnected, match="Reset the arm"):
        lab.driver.look()
    assert lab.server.params is None
    sample = lab.driver.reset(TASK, seed=0)
    assert lab.server.params == {"move_duration": 0.2, "action_clipping": "xyz", "camera_topics": []}
    assert sample.image.max() > 150
    lab.driver.reset(TASK, seed=0)
    assert lab.line.calls.count("init") == 1


def test_the_labs_own_parameters_are_taken_when_given(monkeypatch):
    lab = widowx_envs_lab(monkeypatch, initialised=False)
    params = {"move_duration": 0.2, "camera_topics": [{"name": "/cam"}]}
    link = WidowXEnvsLink("127.0.0.1", 5556, env_params=params, clock=lab.time, sleep=lab.time.sleep)
    link.prepare()
    assert lab.server.params == params


def test_a_service_that_never_gets_ready_is_given_up(monkeypatch):
    lab = widowx_envs_lab(monkeypatch, initialised=False)
    monkeypatch.setattr(fake_widowx_envs, "INIT_S", 1000.0)
    lab.server.camera.dead = True
    with pytest.raises(DriverDisconnected, match="init"):
        lab.driver.reset(TASK, seed=0)


def test_a_service_started_anew_under_the_station_is_not_driven_blindly(envs):
    envs.driver.reset(TASK, seed=0)
    envs.server.ready_at = float("inf")
    with pytest.raises(DriverDisconnected, match="not initialised: it was started anew"):
        step(envs)


def test_too_much_effort_is_a_motor_fault_that_stands_until_a_reboot(envs):
    envs.driver.reset(TASK, seed=0)
    envs.arm.efforts[1] = -1900.0
    with pytest.raises(MotorFault, match="opened the gripper and drove to its neutral pose"):
        step(envs)
    assert all(motor.error for motor in envs.driver.motors())
    envs.arm.efforts[1] = -300.0
    with pytest.raises(MotorFault):
        envs.driver.reset(TASK, seed=0)
    envs.driver.reboot_motors()
    assert len(envs.server.reboots) == 7
    envs.driver.reset(TASK, seed=0)
    step(envs)


def test_a_client_without_a_reboot_says_what_to_do(envs, monkeypatch):
    """In some versions `reboot_motor` is indented out of the class."""
    envs.driver.reset(TASK, seed=0)
    envs.arm.efforts[1] = 1900.0
    with pytest.raises(MotorFault):
        step(envs)
    monkeypatch.delattr(fake_widowx_envs.WidowXClient, "reboot_motor")
    with pytest.raises(MotorFault, match="power-cycle"):
        envs.driver.reboot_motors()


@pytest.mark.parametrize("status", [7, -1, None, "SUCCESS"])
def test_a_status_the_service_does_not_have_is_no_success(envs, monkeypatch, status):
    envs.driver.reset(TASK, seed=0)
    monkeypatch.setattr(fake_widowx_envs.WidowXClient, "move", lambda *_, **__: status)
    with pytest.raises(DriverDisconnected, match="move"):
        step(envs)


def test_currents_and_joints_are_taken_where_the_service_sends_them(envs):
    assert envs.driver.look().effort_mA.tolist() == [0.0] * 7
    assert all(motor.current_mA is None for motor in envs.driver.motors())
    envs.server.knows_joints = True
    sample = envs.driver.look()
    np.testing.assert_allclose(sample.effort_mA[:6], envs.arm.efforts[:6])
    np.testing.assert_allclose(sample.qpos[:6], envs.arm.joints, atol=1e-6)
    assert envs.driver.motors()[1].current_mA == pytest.approx(-320.0)


def test_a_picture_that_was_left_as_jpeg_is_decoded_with_its_colours_right(envs, monkeypatch):
    envs.driver.reset(TASK, seed=0)
    observe = fake_widowx_envs.Service.observe

    def with_jpeg(service: fake_widowx_envs.Service) -> dict[str, object]:
        answer = observe(service)
        swapped = np.ascontiguousarray(answer["full_image"][..., ::-1])  # an encoder that takes RGB for BGR
        buffer = io.BytesIO()
        Image.fromarray(swapped).save(buffer, format="JPEG", quality=95)
        return {**answer, "full_image": buffer.getvalue()}

    monkeypatch.setattr(fake_widowx_envs.Service, "observe", with_jpeg)
    image = envs.driver.look().image
    gripper = image[image[..., 0] > 180]
    assert gripper[:, 0].mean() > gripper[:, 2].mean() + 80


def test_one_lost_observation_is_asked_for_again_and_two_are_told(envs):
    envs.driver.reset(TASK, seed=0)
    envs.line.mute = 1
    assert envs.driver.look().seq > 0
    envs.line.mute = 2
    with pytest.raises(DriverDisconnected, match="2 tries"):
        envs.driver.look()


def test_torque_stays_on_because_the_service_cannot_switch_it_and_the_log_says_so(envs, caplog):
    envs.driver.reset(TASK, seed=0)
    envs.driver.sleep()
    assert envs.arm.torque.all()
    assert "torque stays on interface=widowx_envs" in caplog.text


def test_without_the_labs_package_the_error_says_what_to_install_and_what_not(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)
    with pytest.raises(LabPackageMissing, match="bridge_data_robot") as caught:
        WidowXEnvsLink("127.0.0.1", 5556)
    assert "the `edgeml` on PyPI is an unrelated package" in str(caught.value)
    assert "youliangtan/edgeml" in str(caught.value)


def test_without_a_service_at_the_address_opening_is_refused(monkeypatch, envs):
    envs.cut()
    with pytest.raises(DriverDisconnected, match="Failed to connect"):
        WidowXEnvsLink("127.0.0.1", 5556)


def test_closing_ends_the_connection_also_when_the_package_chokes_on_it(envs, monkeypatch, caplog):
    envs.driver.close()
    assert envs.line.calls[-1] == "stop"

    def choke(_: object) -> None:
        raise RuntimeError("socket is gone")

    monkeypatch.setattr(fake_widowx_envs.WidowXClient, "stop", choke)
    envs.driver.close()
    assert "not closed cleanly" in caplog.text


def test_the_address_reaches_the_package(monkeypatch):
    lab = widowx_envs_lab(monkeypatch)
    install(monkeypatch, fake_widowx_envs.module(lab.server))
    WidowXEnvsLink("10.0.0.7", 6001)
    assert lab.server.address == ("10.0.0.7", 6001)
