"""The numbers of the nano base checkpoints: which episodes of which cells, how many updates of what.

Nothing is computed here. Cells 1 to 99 are never trained on: they are where the checkpoints are measured and
where the demo and its tests run.
"""

from __future__ import annotations

from dataclasses import replace

from daemon.pretrain.cell_episodes import EpisodePlan

TASKS = ("open_drawer", "close_drawer", "put_eggplant_blue_sink", "put_eggplant_yellow_basket")

TRAINING_CELLS = range(1000, 1090)
# the supervised policy's own episodes by temperature: greedy ones fail as on a robot, warm ones more often
ON_POLICY_CELLS = {1.0: range(1200, 1250), 0.0: range(1250, 1350), 0.5: range(1350, 1450)}
# eggplants slip by a pixel: the policy's own attempts at them are wanted most
EGGPLANT_CELLS = {0.5: range(1450, 1600), 1.0: range(1600, 1700)}
EGGPLANT_TASKS = TASKS[2:]
# pictures without the eggplant, by which nobody can tell: imagination may lose it on its way
EMPTIED_CELLS = range(1700, 1750)
MEASURING_CELLS = range(1, 9)
SHARD = 240  # episodes per file

POLICY_UPDATES = 380
AUTOENCODER_UPDATES = 3000
WORLD_MODEL_UPDATES = 6000
WORLD_MODEL_LEARNING_RATE = 8e-3  # Muon's
WORLD_MODEL_BATCH = 16  # windows per update
WORLD_MODEL_FRAMES = 12  # frames per window
CORRECTED_UPDATES = 2600  # further ones: a policy's chunk at a time, told the path, by its own imagination
CORRECTED_LEARNING_RATE = 5e-3
CORRECTED_BATCH = 32
STRIDE = 5  # actions of a chunk: between two looks of the policy nothing need be imagined
CORRECTED_FRAMES = 8  # frames per window, in training and in imagination: 35 steps of an episode's 40
OWN_CONTEXT = 0.5  # of the windows of those show the model's own imagination
OWN_SHARE = 0.45  # of the first stage's windows from the supervised policy's own episodes
GRASP_SHARE = 0.3  # from moments at which the hand closes or opens around one, the others from experts
CORRECTED_OWN_SHARE = 0.65  # of the second's, which are nearly whole episodes and need no such moments
DENOISE_STEPS = 2  # one imagines the mean of what may happen, which a policy can exploit; two decide
JUDGE_UPDATES = 2500
LOOK_UPDATES = 1500  # of the head that finds what an instruction is about

# Near-misses and failures teach the world model what success is not: a third of what it sees fails.
NOISES = (0.0, 0.4, 0.7, 1.0)

# Few demonstrations on purpose: the policy must have room to improve. Closing the drawer is the easiest task.
DEMONSTRATIONS = {
    "open_drawer": 6,
    "close_drawer": 1,
    "put_eggplant_blue_sink": 32,
    "put_eggplant_yellow_basket": 48,
}


def world_model_plans() -> list[EpisodePlan]:
    """Perturbed expert episodes of every training cell, task and noise."""
    return [
        EpisodePlan(task_id=task, cell_seed=cell, seed=10 * cell + index, noise=noise)
        for cell in TRAINING_CELLS
        for task in TASKS
        for index, noise in enumerate(NOISES)
    ]


def demonstration_plans() -> list[EpisodePlan]:
    """The few clean episodes that the supervised policy imitates, each from a cell of its own."""
    return [
        EpisodePlan(task_id=task, cell_seed=cell, seed=10 * cell)
        for task, count in DEMONSTRATIONS.items()
        for cell in TRAINING_CELLS[:count]
    ]


def on_policy_plans(temperature: float) -> list[EpisodePlan]:
    """Episodes that the supervised policy acts itself: the failures that imagination must know."""
    return _own_plans(ON_POLICY_CELLS[temperature], TASKS)


def eggplant_plans(temperature: float) -> list[EpisodePlan]:
    """More of the supervised policy's own episodes, of the tasks at which a pixel decides."""
    return _own_plans(EGGPLANT_CELLS[temperature], EGGPLANT_TASKS)


def emptied_plans() -> list[EpisodePlan]:
    """The supervised policy's own episodes as they would look if there were no eggplant."""
    return [replace(plan, emptied=True) for plan in _own_plans(EMPTIED_CELLS, EGGPLANT_TASKS)]


def _own_plans(cells: range, tasks: tuple[str, ...]) -> list[EpisodePlan]:
    """Two episodes of each task in each cell."""
    return [
        EpisodePlan(task_id=task, cell_seed=cell, seed=10 * cell + index)
        for cell in cells
        for task in tasks
        for index in range(2)
    ]


def measuring_plans(*, episodes_per_cell: int) -> list[EpisodePlan]:
    """Episodes of cells that nothing was trained on."""
    return [
        EpisodePlan(task_id=task, cell_seed=cell, seed=7_000 + index)
        for cell in MEASURING_CELLS
        for task in TASKS
        for index in range(episodes_per_cell)
    ]
