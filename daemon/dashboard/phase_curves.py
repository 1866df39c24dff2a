"""The training curves of each phase as charts: the most telling first, and how many are not drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.curves import PlacedMoment, curve, curves_path, lengths, placed_moments
from daemon.dashboard.charts import MOST_DRAWN, Chart, Series, points_of
from storage.tables import PhaseRunRow

MOST_CURVES = 12  # of one phase
TELLING = (
    "imagined_success", "loss", "approx_kl", "clip_fraction", "entropy", "grad_norm",
    "informative_share", "known_share", "kl", "imitation", "anchor", "judge_loss", "judge_accuracy",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCurves:
    """What is drawn of one phase; `more` curves are not."""

    charts: Sequence[Chart]
    more: int


def phase_curves(data_dir: Path, runs: Sequence[PhaseRunRow]) -> dict[str, PhaseCurves]:
    """By phase, where one left curves with more than one point; of several attempts the last counts."""
    last = {run.phase: curves_path(data_dir, run.id) for run in runs}
    found = {phase: charts_of(placed_moments(path), phase=phase) for phase, path in last.items()}
    return {phase: own for phase, own in found.items() if own.charts}


def charts_of(moments: Sequence[PlacedMoment], *, phase: str) -> PhaseCurves:
    """The curves of one phase that tell most, those of single tasks or instructions last."""
    long = [name for name, points in lengths(moments).items() if points > 1]
    shown = sorted(long, key=_importance)[:MOST_CURVES]
    charts = [
        Chart(
            key=f"{phase}-{place}",
            title=name,
            series=[Series(name=name, points=points_of(curve(moments, name, most=MOST_DRAWN)))],
            across="update" if phase != "collect" else "episode",
        )
        for place, name in enumerate(shown)
    ]
    return PhaseCurves(charts=charts, more=len(long) - len(shown))


def _importance(name: str) -> tuple[bool, int, str]:
    """By what names are sorted; `imagined_success/open the drawer` is one of many of its kind."""
    return "/" in name, TELLING.index(name) if name in TELLING else len(TELLING), name
