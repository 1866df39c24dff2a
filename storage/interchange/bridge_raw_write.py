"""Episodes out as folders of raw BridgeData V2, which its own tools convert on.

`actions` is what the policy asked for. Pictures are the recorded JPEGs, byte for byte.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from storage.interchange import bridge_raw_layout as layout
from storage.interchange.plain_pickle import Plain, plain_pickle
from storage.interchange.record import Record, write_side
from storage.interchange.writer import Part, Writer, Written


class BridgeRawWriter(Writer):
    """A trajectory's folder belongs to it alone."""

    format = layout.FORMAT
    version = 1

    def __init__(self, folder: Path) -> None:
        notes = {
            "action": "raw_action: what the policy asked for; executed_action is in _gymnastd",
            "frames": "jpeg, byte for byte as they were recorded",
            "pickles": "numbers, text, lists, dicts and numpy arrays alone",
        }
        super().__init__(folder, notes=notes, options={})

    def add(self, record: Record) -> Written:
        """Append one episode as a trajectory of its own."""
        manifest, frames = record.episode.manifest, record.episode.frames
        place = layout.trajectory_folder(
            scene=manifest.station_id,
            task=manifest.task_id,
            at=manifest.started_at,
            number=len(self.places),
        )
        folder = self._folder / place
        if folder.exists():  # half written, and then begun anew
            shutil.rmtree(folder)
        (folder / layout.CAMERA).mkdir(parents=True, exist_ok=True)
        for t in range(len(frames)):
            (folder / layout.CAMERA / f"im_{t}.jpg").write_bytes(frames.jpeg(t))
        actions = record.episode.steps.raw_action.astype(np.float64)
        policy: list[Plain] = [{"actions": action, "policy_type": manifest.policy.name} for action in actions]
        camera: dict[str, Plain] = {"device_name": "primary", "width": frames.width, "height": frames.height}
        pickles: dict[str, Plain] = {
            layout.OBSERVATIONS: _observations(record),
            layout.POLICY: policy,
            layout.AGENT: {"traj_ok": manifest.outcome == "completed", "camera_info": {"camera0": camera}},
        }
        for name, value in pickles.items():
            (folder / name).write_bytes(plain_pickle(value))
        if manifest.instruction:
            (folder / layout.LANGUAGE).write_text(manifest.instruction + "\n", encoding="utf-8")
        self.places[place] = manifest.episode_id
        parts = (Part(name=place), *write_side(self._folder, record))
        return Written(episode_id=manifest.episode_id, place=place, parts=parts, facts={})


def _observations(record: Record) -> dict[str, Plain]:
    """T + 1 rows of each."""
    steps = record.episode.steps
    states = steps.state.astype(np.float64)
    done = np.zeros(len(states), bool)
    done[-1] = True
    found: dict[str, Plain] = {
        "full_state": states,
        "state": states,
        "time_stamp": steps.t_obs,
        "env_done": done,
    }
    if steps.qpos is not None:
        found["qpos"] = steps.qpos.astype(np.float64)
    if steps.effort_mA is not None:
        found["joint_effort"] = steps.effort_mA.astype(np.float64)
    return found
