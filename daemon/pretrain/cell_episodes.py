"""Episodes of simulated cells for pretraining, recorded in this process through the station's own limits.

Real collection goes over HTTP (`daemon/phases/collect.py`). Here thousands of episodes are wanted, of many
cells, with the ground truth of every frame, so the driver is called directly; targets still pass through
`SafetyPipeline`, so that actions mean what they mean on a station.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from daemon.learning.batch import Clip, resize_frames
from daemon.learning.confines import Confines, let_through
from daemon.learning.policy.policy import Policy
from robot_bridge.drivers.cell import cell_variant
from robot_bridge.drivers.experts import scripted_action
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.drivers.tasks import task_of
from robot_bridge.safety import SafetyPipeline

STEPS = 40  # actions per episode at nano scale, real and imagined
SUBJECT_CONTRAST = 8  # of 255: a pixel that changes more when the subject moves shows it

Actor = Callable[[MujocoWidowX, NDArray[np.uint8], int], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodePlan:
    """One episode to record: which task in which cell, the seed of its scene, and how badly to act.

    Attributes:
        noise: 0 for the scripted expert as it is; more makes near-misses and failures.
        emptied: the frames show no eggplant, whatever happens to it.
    """

    task_id: str
    cell_seed: int
    seed: int
    noise: float = 0.0
    emptied: bool = False

    @property
    def name(self) -> str:
        shown = "/emptied" if self.emptied else ""
        return f"{self.task_id}/cell-{self.cell_seed}/seed-{self.seed}/noise-{self.noise:g}{shown}"


def expert(plan: EpisodePlan) -> Actor:
    """The scripted expert of a task, perturbed as the plan says."""
    rng = np.random.default_rng([plan.cell_seed, plan.seed, round(1000 * plan.noise)])
    return lambda driver, _image, _step: scripted_action(driver, rng, noise=plan.noise)


def policy_actor(policy: Policy, *, instruction: str, temperature: float, seed: int) -> Actor:
    """A policy that decides a chunk and executes it open loop, as it does on a station."""
    generator = torch.Generator().manual_seed(seed)
    waiting: list[NDArray[np.float32]] = []

    def act(_driver: MujocoWidowX, image: NDArray[np.uint8], _step: int) -> NDArray[np.float32]:
        if not waiting:
            chunk = policy.act(
                resize_frames(image[None]), [instruction], temperature=temperature, generator=generator
            )
            waiting.extend(chunk.actions[0].cpu().numpy().astype(np.float32))
        return waiting.pop(0)

    return act


def record(driver: MujocoWidowX, plan: EpisodePlan, actor: Actor) -> Clip:
    """Run one episode of STEPS actions to its end and keep every frame and whether it counted as success."""
    task = task_of(plan.task_id)
    pipeline = SafetyPipeline.of_station(driver, plan.task_id)
    first = driver.reset(plan.task_id, seed=plan.seed)
    pipeline.begin(first)
    image, limits = first.image, pipeline.limits
    confines = Confines.around(
        driver.target.position, low=limits.box_low, high=limits.box_high, step=limits.step_xyz_max
    )

    def shown() -> tuple[torch.Tensor, torch.Tensor]:
        as_is, otherwise = resize_frames(np.stack((image, driver.look_otherwise())))
        subject = (as_is.short() - otherwise.short()).abs().amax(0) > SUBJECT_CONTRAST
        return otherwise if plan.emptied else as_is, subject

    pictures, marks, asked, actions = [shown()], [driver.success()], [], []
    for step in range(STEPS):
        asked.append(actor(driver, image, step))
        command, outcome = pipeline.drive(driver, asked[-1])
        image = outcome.sample.image
        pictures.append(shown())
        marks.append(driver.success())
        actions.append(command.executed)
    frames, subject = (torch.stack(part) for part in zip(*pictures, strict=True))
    return Clip(
        frames=frames,  # [T+1, 3, 64, 64]
        subject=subject,  # [T+1, 64, 64]
        actions=torch.from_numpy(np.stack(actions)),  # [T, 7]
        instruction=task.instruction,
        episode_id=plan.name,
        success=marks[-1],
        success_by_frame=torch.tensor(marks),
        asked=let_through(torch.from_numpy(np.stack(asked)), confines),
    )


def record_all(plans: Sequence[EpisodePlan], actor_of: Callable[[EpisodePlan], Actor]) -> list[Clip]:
    """Record episodes in the given order, building each cell once for a run of plans that share it."""
    clips: list[Clip] = []
    driver: MujocoWidowX | None = None
    built = -1
    try:
        for plan in plans:
            if driver is None or plan.cell_seed != built:
                if driver is not None:
                    driver.close()
                driver, built = MujocoWidowX(cell=cell_variant(plan.cell_seed)), plan.cell_seed
            clips.append(record(driver, plan, actor_of(plan)))
    finally:
        if driver is not None:
            driver.close()
    return clips


def success_rates(clips: Sequence[Clip]) -> dict[str, tuple[int, int]]:
    """Successes and episodes per instruction, judged at the last frame."""
    counts: dict[str, tuple[int, int]] = {}
    for clip in clips:
        successes, episodes = counts.get(clip.instruction, (0, 0))
        counts[clip.instruction] = (successes + int(bool(clip.success)), episodes + 1)
    return counts
