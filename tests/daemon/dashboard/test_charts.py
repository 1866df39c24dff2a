"""Charts: the highest value on top, the first at the left, and a sentence for whoever does not see them."""

import pytest

from daemon.dashboard.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST_DRAWN,
    MOST_TICKS,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    Point,
    Series,
    drawn,
    points_of,
)


def a_chart(*points, **told):
    series = Series(name="loss", points=[Point(x=x, y=y) for x, y in points])
    return Chart(key="k", title="loss", series=[series], **told)


def test_the_curve_fills_its_box():
    chart = a_chart((1, 0.0), (2, 4.0), (3, 2.0))
    assert (chart.at_x(1), chart.at_x(3)) == (LEFT, WIDTH - RIGHT)
    assert (chart.at_y(0.0), chart.at_y(4.0)) == (HEIGHT - BOTTOM, TOP)
    assert chart.at_y(2.0) == pytest.approx((TOP + HEIGHT - BOTTOM) / 2)
    assert chart.line(chart.series[0]).startswith(f"{LEFT},{HEIGHT - BOTTOM} ")


def test_a_span_is_kept_and_what_is_beyond_stands_at_the_edge():
    chart = a_chart((1, 0.5), (2, 9.0), span=(0.0, 1.0))
    assert chart.at_y(9.0) == chart.at_y(1.0) == TOP
    assert chart.ticks_y == [0.0, 0.5, 1.0]


def test_intervals_are_inside_the_chart():
    points = [Point(x=1, y=0.5, low=0.2, high=0.9)]
    chart = Chart(key="k", title="t", series=[Series(name="s", points=points, dots=True)])
    assert chart.at_y(0.2) == HEIGHT - BOTTOM
    assert chart.at_y(0.9) == TOP


@pytest.mark.parametrize("points", [[], [(3, 1.0)], [(1, 2.0), (2, 2.0)]])
def test_a_chart_without_extent_is_drawn_all_the_same(points):
    chart = a_chart(*points)
    assert all(TOP <= chart.at_y(y) <= HEIGHT - BOTTOM for _, y in points)
    assert all(LEFT <= chart.at_x(x) <= WIDTH - RIGHT for x, _ in points)
    assert chart.ticks_x


@pytest.mark.parametrize("last", [1, 7, 8, 100, 12345])
def test_the_axis_has_few_whole_numbers(last):
    ticks = a_chart((1, 0.0), (last, 1.0)).ticks_x
    assert len(ticks) <= MOST_TICKS
    assert ticks[0] == 1
    assert all(tick == int(tick) for tick in ticks)


def test_a_chart_can_be_said():
    assert a_chart((1, 0.5), (3, 0.25)).says == "loss: 0.5 at iteration 1, 0.25 at 3"


def test_of_many_points_some_are_drawn_the_ends_the_lowest_and_the_highest_among_them():
    points = [Point(x=x, y=(x * 37 % 101) / 101) for x in range(1000)]
    points[500], points[777] = Point(x=500, y=-5.0), Point(x=777, y=5.0)
    found = drawn(points)
    assert len(found) == MOST_DRAWN
    assert (found[0].x, found[-1].x) == (0, 999)
    assert {points[500], points[777]} <= set(found)
    assert [point.x for point in found] == sorted({point.x for point in found})


def test_curves_go_by_step_and_leave_out_what_ran_away():
    assert [(p.x, p.y) for p in points_of({"10": 0.3, "2": None, "1": 0.1})] == [(1.0, 0.1), (10.0, 0.3)]
    assert [(p.x, p.y) for p in points_of([[2, 0.5], [1, 1.0]])] == [(1, 1.0), (2, 0.5)]
