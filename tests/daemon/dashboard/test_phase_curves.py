"""Curves of a phase: the most telling are drawn, the rest is counted, and no spike is lost on the way."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

from daemon.curves import append_moment, curves_path
from daemon.dashboard.charts import MOST_DRAWN, drawn
from daemon.dashboard.phase_curves import MOST_CURVES, charts_of, phase_curves

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def moments_of(*names, once=()):
    """Two moments with all of these, the first also with those of `once`."""
    moment = dict.fromkeys(names, 0.5)
    return [(1.0, {**moment, **dict.fromkeys(once, 0.5)}), (2.0, moment)]


def titles(*names):
    return [chart.title for chart in charts_of(moments_of(*names), phase="update_policy").charts]


def test_what_tells_most_comes_first_and_single_instructions_last():
    names = ["aaa", "imagined_success/open the drawer", "loss", "approx_kl", "imagined_success"]
    assert titles(*names) == [
        "imagined_success", "loss", "approx_kl", "aaa", "imagined_success/open the drawer",
    ]  # fmt: skip


def test_the_loss_is_drawn_however_many_instructions_there_are_and_the_others_are_counted():
    names = [f"imagined_success/{place:03d}" for place in range(40)]
    found = charts_of(moments_of(*names, "loss", "zzz"), phase="update_policy")
    drawn_names = [chart.title for chart in found.charts]
    assert drawn_names[:2] == ["loss", "zzz"]
    assert (len(drawn_names), found.more) == (MOST_CURVES, 42 - MOST_CURVES)


def test_a_curve_of_one_point_takes_nobodys_place():
    short = [f"a{place}" for place in range(MOST_CURVES)]
    found = charts_of(moments_of("loss", once=short), phase="collect")
    assert ([chart.title for chart in found.charts], found.more) == (["loss"], 0)
    assert found.charts[0].across == "episode"


def test_a_spike_of_one_update_in_ten_thousand_is_drawn_from_the_file_to_the_chart(tmp_path):
    spikes = {4321: 99.0, 8765: -9.0}
    path = curves_path(tmp_path, "run")
    path.parent.mkdir(parents=True)
    moments = ({"update": at, "loss": spikes.get(at, 1.0 + at % 7 / 100)} for at in range(10_000))
    path.write_text("\n".join(json.dumps(moment) for moment in moments))
    (chart,) = phase_curves(tmp_path, [SimpleNamespace(id="run", phase="update_policy")])[
        "update_policy"
    ].charts
    shown = drawn(chart.series[0].points)
    assert len(shown) <= MOST_DRAWN
    assert {(4321, 99.0), (8765, -9.0)} <= {(point.x, point.y) for point in shown}
    assert (shown[0].x, shown[-1].x) == (0, 9999)


def test_of_several_attempts_the_last_counts_and_a_phase_without_curves_is_absent(tmp_path):
    for name, value in (("first", 1.0), ("second", 2.0)):
        for update in (1, 2):
            append_moment(curves_path(tmp_path, name), {"update": update, "loss": value}, now=NOW)
    runs = [SimpleNamespace(id=name, phase="update_policy") for name in ("first", "second")]
    found = phase_curves(tmp_path, [*runs, SimpleNamespace(id="none", phase="collect")])
    assert list(found) == ["update_policy"]
    assert {point.y for point in found["update_policy"].charts[0].series[0].points} == {2.0}
