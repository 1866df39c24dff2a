"""Batches hold pools in the shares asked for, newer clips more often where wanted, nothing too often."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from daemon.learning.batch import NoWindow
from daemon.learning.world_model.latents import LatentClip, LatentClips
from daemon.learning.world_model.windows import Pool, SharesInvalid, WindowSource, cut, divided


def numbered(name: str, frames: int = 9, *, offset: int = 0) -> LatentClip:
    numbers = torch.arange(frames).float() + offset
    return LatentClip(
        latents=numbers[:, None, None, None].expand(-1, 4, 8, 8).half(),
        actions=numbers[:-1, None].expand(-1, 10).contiguous(),
        episode_id=name,
    )


def pool(*clips: LatentClip, name: str = "all", **rest: float) -> Pool:
    return Pool(name=name, clips=LatentClips(clips), **rest)


def source(*pools: Pool, batch: int = 8, frames: int = 4, seed: int = 0) -> WindowSource:
    return WindowSource(pools, batch=batch, frames=frames, seed=seed)


@pytest.mark.parametrize(
    ("count", "shares", "by", "parts"),
    [
        (8, [1.0], 0.9, [8]),
        (8, [0.5, 0.25, 0.25], 0.3, [4, 2, 2]),
        (8, [0.5, 0.25, 0.25], 0.0, [4, 2, 2]),  # whole parts are given whole
        (10, [0.55, 0.45], 0.4, [6, 4]),  # positions 0.4, 1.4, …, 9.4: six below 5.5
        (10, [0.55, 0.45], 0.6, [5, 5]),
        (3, [0.0, 1.0], 0.2, [0, 3]),
        (2, [0.5, 0.3, 0.2], 0.1, [1, 1, 0]),  # 0.1 and 1.1; ends at 1.0, 1.6, 2.0
        (2, [0.5, 0.3, 0.2], 0.7, [1, 0, 1]),
    ],
)
def test_a_batch_is_divided_into_parts_rounded_up_or_down(
    count: int, shares: list[float], by: float, parts: list[int]
):
    assert divided(count, shares, by=by) == parts


@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_batches_of_any_size_hold_the_shares_on_average(count: int):
    shares = [0.315, 0.315, 0.07, 0.3]
    parts = torch.tensor([divided(count, shares, by=(i + 0.5) / 1000) for i in range(1000)]).double()
    assert bool((parts.sum(1) == count).all())
    assert torch.allclose(parts.mean(0), count * torch.tensor(shares).double(), atol=2e-3)
    assert float((parts - count * torch.tensor(shares).double()).abs().max()) < 1


def test_a_batch_of_one_draws_from_every_pool_in_the_end():
    pools = [pool(numbered(name), name=name, share=share) for name, share in (("a", 0.7), ("b", 0.3))]
    found = source(*pools, batch=1)
    drawn = Counter(found.draw().episode_ids[0] for _ in range(600))
    assert drawn["b"] / 600 == pytest.approx(0.3, abs=0.06)


def test_windows_are_mixed_in_the_shares_asked_for():
    pools = (
        pool(numbered("fresh"), name="fresh", share=0.5),
        pool(numbered("older"), name="older", share=0.25),
        pool(numbered("base"), name="base", share=0.25),
    )
    assert Counter(source(*pools).draw().episode_ids) == {"fresh": 4, "older": 2, "base": 2}


def test_pools_without_a_window_leave_their_share_to_the_others():
    pools = (
        pool(numbered("fresh"), name="fresh", share=0.5),
        pool(numbered("short", frames=3), name="older", share=0.3),
        pool(name="base", share=0.2),
    )
    found = source(*pools)
    assert found.left_out == ("short",)
    twice = source(pool(numbered("long")), pool(numbered("short", 2), numbered("short", 3), name="grasps"))
    assert twice.left_out == ("short",), "named once"
    assert set(found.draw().episode_ids) == {"fresh"}


def test_a_share_of_none_is_never_drawn():
    found = source(pool(numbered("a"), share=0.0), pool(numbered("b"), share=1.0))
    assert set(found.draw().episode_ids) == {"b"}


@pytest.mark.parametrize("shares", [(0.0, 0.0), (-0.5, 1.0)])
def test_shares_that_divide_nothing_are_refused(shares: tuple[float, float]):
    with pytest.raises(SharesInvalid, match="at least 0 and one of them more"):
        source(*(pool(numbered("a"), share=share) for share in shares))


def test_where_nothing_is_long_enough_it_says_what_the_longest_is():
    with pytest.raises(NoWindow, match="none of 2 clips holds a window of 20 frames; the longest has 9"):
        source(pool(numbered("a")), pool(numbered("b", frames=4)), frames=20)


def test_without_a_half_life_every_window_is_equally_likely():
    found = source(pool(numbered("long", frames=13), numbered("short", frames=4)), batch=4000)
    drawn = Counter(found.draw().episode_ids)
    assert drawn["long"] / 4000 == pytest.approx(10 / 11, abs=0.02)


def test_a_clip_one_half_life_older_is_drawn_half_as_often():
    clips = [numbered(str(age)) for age in (4, 2, 0)]
    ages = {"0": 0, "2": 1, "4": 2}
    found = source(pool(*clips, half_life=1.0), batch=7000)
    drawn = Counter(found.draw().episode_ids)
    for name, age in ages.items():
        assert drawn[name] / 7000 == pytest.approx(0.5**age / 1.75, abs=0.02)


def test_a_clip_of_greater_odds_is_drawn_as_much_more_often_and_its_parts_too():
    likely = replace(numbered("likely", frames=9), odds=3.0)
    found = source(pool(likely, numbered("other")), batch=4000)
    assert Counter(found.draw().episode_ids)["likely"] / 4000 == pytest.approx(3 / 4, abs=0.02)
    found = source(pool(likely.part(2, 8), numbered("other", frames=6)), batch=4000)
    assert Counter(found.draw().episode_ids)["likely"] / 4000 == pytest.approx(3 / 4, abs=0.02)


def test_odds_and_age_are_multiplied():
    clips = replace(numbered("old"), odds=4.0), numbered("new")
    drawn = Counter(source(pool(*clips, half_life=1.0), batch=4000).draw().episode_ids)
    assert drawn["old"] / 4000 == pytest.approx(2 / 3, abs=0.02)


def test_a_window_holds_consecutive_frames_and_the_actions_between_them():
    for half_life in (None, 2.0):
        windows = source(
            pool(numbered("a"), numbered("b", 6, offset=50), half_life=half_life), batch=60
        ).draw()
        numbers = windows.latents[:, :, 0, 0, 0]
        assert windows.latents.dtype == torch.float32
        assert torch.equal(numbers, numbers[:, :1] + torch.arange(4.0))
        assert torch.equal(windows.actions[..., 0], numbers[:, :3])
        assert [name == "b" for name in windows.episode_ids] == (numbers[:, 0] >= 50).tolist()
        assert {int(n) for n in numbers[:, 0]} == {*range(6), *range(50, 53)}, "all places are drawn"


def test_the_seed_decides_the_draws_and_the_generators_state_goes_on_with_them():
    pools = pool(numbered("a", frames=40), half_life=1.0)
    one, two, other = source(pools, seed=1), source(pools, seed=1), source(pools, seed=2)
    first = one.draw().latents
    assert torch.equal(first, two.draw().latents)
    assert not torch.equal(first, other.draw().latents)
    other.generator.set_state(one.generator.get_state())
    assert torch.equal(one.draw().latents, other.draw().latents)


def test_updates_end_where_a_pool_would_be_drawn_more_often_than_allowed():
    """20 frames, 10 samples of each: 200 frames; a batch draws 4 windows of 4 from it."""
    fresh = pool(numbered("a", 9), numbered("b", 11), name="fresh", share=0.5, samples_per_insert=10)
    older = pool(numbered("c", 9), name="older", share=0.5)
    found = source(fresh, older)
    assert found.updates_allowed(100) == 200 // 16
    assert found.updates_allowed(5) == 5
    assert source(pool(numbered("a"))).updates_allowed(100) == 100, "no limit"


def test_an_episode_that_is_in_another_pool_too_is_drawn_from_both():
    """Half of the windows are of "fresh"; of the other half, which is of parts, two of three are as well."""
    fresh, older = numbered("a", 10), numbered("b", 10)
    parts = fresh.part(0, 5), fresh.part(5, 10), older.part(0, 5)
    found = source(
        pool(fresh, name="fresh", share=0.5, samples_per_insert=10),
        pool(*parts, name="grasps", share=0.5),
    )
    assert found.updates_allowed(100) == int(10 * 10 / (8 * 4 * (0.5 + 0.5 * 2 / 3)))


def test_a_little_is_always_learned():
    assert source(pool(numbered("a"), samples_per_insert=0.01)).updates_allowed(100) == 1


def test_a_cut_is_a_copy_in_full_precision():
    clip = numbered("a")
    window = cut([(clip, 2)], frames=3)
    window.latents[:] = -1
    assert float(clip.latents[2, 0, 0, 0]) == 2


def test_a_window_knows_the_path_from_the_beginning_of_its_episode():
    clip = numbered("a")
    windows = cut([(clip, 0), (clip, 4), (clip.part(2, 9), 2)], frames=3)
    assert windows.paths.tolist() == [[0.0] * 6, [6.0] * 6, [6.0] * 6]  # 0 + 1 + 2 + 3


def test_a_window_carries_what_errors_cost_in_its_frames():
    emphasis = torch.arange(9.0)[:, None, None].expand(-1, 8, 8).half()
    told = replace(numbered("told"), emphasis=emphasis)
    windows = cut([(told, 2), (numbered("untold"), 4)], frames=4)
    assert windows.weights[0, :, 0, 0].tolist() == [3, 4, 5, 6]
    assert torch.equal(windows.weights[1], torch.ones(4, 8, 8))
    assert windows.weights.dtype == torch.float32
