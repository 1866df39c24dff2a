"""One cell as two MuJoCo models: the arm on its table, with the drawer or with the trays.

The text is MJCF, made from primitive shapes only; `fixtures` holds the furniture, `kinematics` the measures
of the arm. What happens in the scene over time is not here.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from robot_bridge.drivers import fixtures
from robot_bridge.drivers.cell import CellVariant, Vector
from robot_bridge.drivers.kinematics import (
    FINGER_HIGH,
    FINGER_LOW,
    GRIPPER_OFFSET,
    JOINT_AXES,
    JOINT_HIGH,
    JOINT_LOW,
    JOINT_NAMES,
    JOINT_OFFSETS,
)
from robot_bridge.drivers.mjcf import rgba, row

SceneName = Literal["drawer", "trays"]

PHYSICS_STEP: Final = 0.002  # seconds
CAMERA: Final = "primary"
LARGEST_IMAGE: Final = 640  # pixels, of the buffer GL draws into

# The camera of BridgeData V2: robot base frame, 640x480 pixels before the squash to a square.
CAMERA_POSITION: Final = (0.0, -0.16, 0.336)
CAMERA_RIGHT: Final = (0.44721, -0.89443, 0.0)
CAMERA_UP: Final = (0.59629, 0.29814, 0.74536)
CAMERA_PIXELS: Final = (640, 480)
CAMERA_FOCAL: Final = 623.588  # pixels

PAD_FRICTION: Final = 3.0
PAD_INNER: Final = 0.010  # metres from a finger's joint position to its inner face
PAD_HALF: Final = (0.0225, 0.005, 0.009)  # metres
PAD_CENTRE: Final = 0.083  # metres along the gripper's x; the tips are 12 mm beyond the gripper point
SERVO_KP: Final = (400.0, 400.0, 400.0, 120.0, 200.0, 80.0)  # Nm/rad
SERVO_LIMIT: Final = (12.0, 24.0, 18.0, 4.0, 7.0, 3.0)  # Nm
FINGER_KP: Final = 1500.0  # N/m
FINGER_KV: Final = 40.0  # N s/m
FINGER_FORCE: Final = 12.0  # N


def scene_xml(scene: SceneName, variant: CellVariant) -> str:
    """MJCF of one scene of one cell."""
    things = fixtures.drawer_xml(variant)
    if scene == "trays":
        things = fixtures.trays_xml(variant) + fixtures.eggplant_xml(variant)
    drawer_exclude = '<exclude body1="cabinet" body2="drawer"/>' if scene == "drawer" else ""
    return f"""
<mujoco model="widowx_cell_{scene}">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{PHYSICS_STEP}" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <visual>
    <global offwidth="{LARGEST_IMAGE}" offheight="{LARGEST_IMAGE}"/>
    <quality offsamples="0" shadowsize="0"/>
    <map znear="0.02" zfar="20"/>
    <headlight ambient="{row([variant.ambient] * 3)}" diffuse="0 0 0" specular="0 0 0"/>
  </visual>
  <default>
    <geom condim="4" friction="{row(fixtures.OBJECT_FRICTION)}"/>
    <default class="look"><geom contype="0" conaffinity="0" mass="0"/></default>
  </default>
  <worldbody>
    <light name="lamp" type="directional" pos="0 0 2" dir="{row(variant.light_direction)}" castshadow="false"
      ambient="0 0 0" diffuse="{row([variant.diffuse] * 3)}" specular="0 0 0"/>
    {_camera_xml(variant)}
    <geom name="table" type="plane" size="3 3 0.1" {rgba(variant.palette.table)}/>
    {_arm_xml(variant)}
    {things}
  </worldbody>
  <contact><exclude body1="left_finger" body2="right_finger"/>{drawer_exclude}</contact>
  <equality>
    <joint joint1="left_finger" joint2="right_finger" polycoef="0 1 0 0 0"/>
  </equality>
  <actuator>{_actuators_xml()}</actuator>
</mujoco>"""


def _camera_xml(variant: CellVariant) -> str:
    position = np.add(CAMERA_POSITION, variant.camera_shift).tolist()
    right, up = camera_axes(variant.camera_turn)
    width, height = CAMERA_PIXELS
    return (
        f'<camera name="{CAMERA}" pos="{row(position)}" xyaxes="{row(right)} {row(up)}" '
        f'resolution="{width} {height}" sensorsize="{width * 1e-5} {height * 1e-5}" '
        f'focalpixel="{CAMERA_FOCAL} {CAMERA_FOCAL}"/>'
    )


def camera_axes(turn: Vector) -> tuple[Vector, Vector]:
    """Right and up axes of the camera after a small turn (rotation vector [3] in the camera's own axes)."""
    right, up = np.array(CAMERA_RIGHT), np.array(CAMERA_UP)
    axes = np.stack([right, up, np.cross(right, up)], axis=1)  # [3, 3]
    rx, ry, rz = turn
    bent = axes @ (np.eye(3) + np.array([[0.0, -rz, ry], [rz, 0.0, -rx], [-ry, rx, 0.0]]))
    right = bent[:, 0] / np.linalg.norm(bent[:, 0])
    up = bent[:, 1] - right * (right @ bent[:, 1])
    up = up / np.linalg.norm(up)
    return (right[0], right[1], right[2]), (up[0], up[1], up[2])


_LINK_SHAPES: Final = (  # what each link looks like, in its own frame; links touch nothing
    '<geom class="look" type="cylinder" size="0.045 0.03" pos="0 0 0" {0}/>',
    '<geom class="look" type="capsule" size="0.028" fromto="0 0 0 0 0 0.25" {0}/>'
    '<geom class="look" type="capsule" size="0.024" fromto="0 0 0.25 0.04975 0 0.25" {0}/>',
    '<geom class="look" type="capsule" size="0.024" fromto="0 0 0 0.15 0 0" {0}/>',
    '<geom class="look" type="capsule" size="0.022" fromto="-0.02 0 0 0.06 0 0" {0}/>',
    '<geom class="look" type="capsule" size="0.020" fromto="0 0 0 0.045 0 0" {0}/>',
    '<geom name="palm" type="box" size="0.016 0.034 0.020" pos="0.040 0 0" mass="0.07" {0}/>'
    '<geom class="look" type="capsule" size="0.018" fromto="-0.01 0 0 0.03 0 0" {0}/>',
)
_LINK_MASSES: Final = (0.4809, 0.4308, 0.2346, 0.2210, 0.0850, 0.0729)  # kg


def _arm_xml(variant: CellVariant) -> str:
    colour = rgba(variant.palette.arm)
    opening, closing = "", ""
    rows = zip(JOINT_NAMES, JOINT_OFFSETS, JOINT_AXES, _LINK_SHAPES, _LINK_MASSES, strict=True)
    for index, (name, offset, axis, shape, mass) in enumerate(rows):
        vector = {"x": "1 0 0", "y": "0 1 0", "z": "0 0 1"}[axis]
        opening += f"""
    <body name="{name}" pos="{row(offset)}" gravcomp="1">
      <inertial pos="0 0 0" mass="{mass}" diaginertia="0.0006 0.0006 0.0006"/>
      <joint name="{name}" axis="{vector}" range="{JOINT_LOW[index]} {JOINT_HIGH[index]}" armature="0.1"/>
      {shape.format(colour)}"""
        closing += "</body>"
    base = f'<geom class="look" type="cylinder" size="0.055 0.03" pos="0 0 0.03" {colour}/>'
    site = f'<site name="gripper" pos="{GRIPPER_OFFSET} 0 0"/>'
    return base + opening + site + _fingers_xml(variant) + closing


def _fingers_xml(variant: CellVariant) -> str:
    out, colour = "", rgba(variant.palette.arm)
    for side, sign in (("left", 1), ("right", -1)):
        centre = sign * (PAD_HALF[1] - PAD_INNER)
        out += f"""
      <body name="{side}_finger" gravcomp="1">
        <joint name="{side}_finger" type="slide" axis="0 {sign} 0" range="{FINGER_LOW} {FINGER_HIGH}"
          armature="0.02"/>
        <geom name="{side}_pad" type="box" size="{row(PAD_HALF)}" pos="{PAD_CENTRE} {centre} 0" mass="0.0162"
          condim="6" friction="{PAD_FRICTION * variant.friction} 0.05 0.002" priority="1" {colour}/>
      </body>"""
    return out


def _actuators_xml() -> str:
    out = ""
    for name, kp, limit in zip(JOINT_NAMES, SERVO_KP, SERVO_LIMIT, strict=True):
        servo = f'kp="{kp}" dampratio="1" forcerange="{-limit} {limit}"'
        out += f'<position name="{name}" joint="{name}" {servo}/>\n'
    for name in ("left_finger", "right_finger"):
        out += (
            f'<position name="{name}" joint="{name}" kp="{FINGER_KP}" kv="{FINGER_KV}" '
            f'forcerange="{-FINGER_FORCE} {FINGER_FORCE}"/>\n'
        )
    return out
