"""What a recorded episode says of its subject, the thing its task is about, and how it looks without it."""

from __future__ import annotations

from dataclasses import replace

import torch

from daemon.learning.batch import Clip
from daemon.pretrain import recipe
from daemon.pretrain.cell_episodes import EpisodePlan, expert, record_all
from daemon.pretrain.clip_files import marks_of


def purple(clip: Clip) -> torch.Tensor:
    """Pixels of every frame that have the eggplant's colour, bool [T+1, H, W]."""
    red, green, blue = clip.frames.float().unbind(1)
    return (red > 2 * green + 20) & (blue > 1.2 * green + 20) & (blue < 1.5 * red)


def test_an_emptied_episode_is_the_same_one_without_its_eggplant() -> None:
    plan = EpisodePlan(task_id=recipe.EGGPLANT_TASKS[0], cell_seed=3, seed=1)
    (seen,) = record_all([plan], expert)
    (emptied,) = record_all([replace(plan, emptied=True)], expert)
    assert emptied.episode_id == f"{seen.episode_id}/emptied"
    assert torch.equal(emptied.actions, seen.actions)
    assert torch.equal(marks_of(emptied), marks_of(seen)), "the eggplant is there, it is only not shown"
    assert emptied.subject is not None and seen.subject is not None
    assert torch.equal(emptied.subject, seen.subject), "where it would be seen"
    assert int(purple(seen)[0].sum()) > 10
    assert not bool(purple(emptied).any())


def test_the_subject_of_an_eggplant_task_is_the_eggplant_wherever_it_goes() -> None:
    plan = EpisodePlan(task_id="put_eggplant_yellow_basket", cell_seed=3, seed=1)
    (clip,) = record_all([plan], expert)
    clip.validate()
    assert clip.success
    assert clip.subject is not None
    seen = purple(clip)
    assert bool((clip.subject | ~seen).all()), "every pixel that is purple shows it"
    assert 20 < float(clip.subject.sum((1, 2)).float().mean()) < 150
    first, last = (clip.subject[frame].nonzero().float().mean(0) for frame in (0, -1))
    assert float((first - last).abs().max()) > 10, "from the sink to the basket"


def test_the_subject_of_a_drawer_task_goes_along_with_the_drawer() -> None:
    plan = EpisodePlan(task_id="open_drawer", cell_seed=3, seed=1)
    (clip,) = record_all([plan], expert)
    assert clip.success
    assert clip.subject is not None
    first, last = (clip.subject[frame].nonzero().float().mean(0) for frame in (0, -1))
    assert float((first - last).abs().max()) > 5
    assert bool(clip.subject.any(dim=(1, 2)).all())
