"""Curves as runs of Weights & Biases, one for each phase run; needs the extra `wandb`.

Where they go, and who is allowed to, is said in W&B's own variables: with `WANDB_MODE=offline` nothing leaves
the machine, and `wandb sync` sends the folder later. Numbers and their names are all that is written: no
settings, no environment, no code, no output, nothing of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import wandb

from daemon.curve_export import RunCurves
from daemon.errors import SinkRefused
from daemon.redaction import Redactor
from storage.interchange.tensorboard import Scalar

STEP = "step"
TOLD = "told"  # folder of marks: whose curves are there whole


@dataclass(frozen=True, slots=True, kw_only=True)
class WandbRuns:
    """A project, by way of a folder. A phase run goes there once, when it is over.

    `wait_s` is how long the service may take to answer at the beginning of a run.
    """

    folder: Path
    project: str
    redactor: Redactor = field(default_factory=Redactor)
    wait_s: float = 30.0
    _sent: list[Path] = field(default_factory=list)  # marks of what may still be on its way

    def write(self, curves: RunCurves) -> bool:
        """As `Sink`.

        Raises:
            SinkRefused: the service is away, or does not know us.
        """
        mark = self.folder / TOLD / curves.run_id
        if not curves.is_over:
            return False
        if mark.exists():
            return True
        mark.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._send(curves)
        except wandb.Error as refused:
            reason = self.redactor.clean(str(refused))
            raise SinkRefused(sink="Weights & Biases", reason=reason) from None
        self._sent.append(mark)
        return True

    def close(self) -> None:
        """Wait for W&B's own process to have written, or sent, everything; then mark what is there."""
        wandb.teardown()
        while self._sent:
            self._sent.pop().touch()

    def _send(self, curves: RunCurves) -> None:
        run = wandb.init(
            project=self.project,
            dir=str(self.folder),
            id=curves.run_id,
            name=f"iteration {curves.iteration} {curves.phase} attempt {curves.attempt}",
            group=f"iteration {curves.iteration}",
            job_type=curves.phase,
            config={"iteration": curves.iteration, "lineage": curves.lineage, "attempt": curves.attempt},
            settings=self._settings(),
            reinit="create_new",
        )
        run.define_metric("*", step_metric=STEP)
        for moment in moments_of(curves.scalars):
            run.log(moment)
        run.finish()

    def _settings(self) -> Any:
        return wandb.Settings(
            init_timeout=self.wait_s,
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )


def moments_of(scalars: Sequence[Scalar]) -> Iterator[dict[str, float]]:
    """The numbers that were recorded together, with their step, and their time where W&B looks for it."""
    for (step, at), group in groupby(scalars, key=lambda scalar: (scalar.step, scalar.at)):
        yield {STEP: step, "_timestamp": at, **{scalar.tag: scalar.value for scalar in group}}
