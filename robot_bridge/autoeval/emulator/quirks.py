"""Which of AutoEval's oddities an emulator shows, and how slowly. Numbers only; who obeys them is elsewhere.

The defaults keep what an adapter can trip over and drop the waiting, so that tests are quick.
`Quirks.lifelike()` has the real AutoEval's times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from robot_bridge.autoeval.emulator.errors import BadQuirk, UnknownQuirk
from robot_bridge.drivers.rendering import RendererChoice

WORK_S: Final = 6 * 3600.0
REST_S: Final = 20 * 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """One AutoEval. All durations are seconds.

    Attributes:
        poll_s: how often the scheduler looks at its queues.
        launch_s: from `evaluating` to the first motion (tmux, conda, classifier).
        env_reset_s: the blocking move to the start pose.
        scene_reset_s: the reset policy between two episodes.
        step_s: one step of the arm, without the policy's own time.
        act_timeout_s: how long a policy may take; None, the real value, waits for ever.
        work_s, rest_s: after this much work, counted from a robot's first job, its motors rest that long.
        effort_limit_mA: a joint current above it turns the next action into -0.5 times itself; the real web
            jobs have 700. None leaves it out: no adapter can predict it.
        motor_failure_probability: chance per step; 1 re-runs an episode for ever, as the real one does.
        motor_failures: (episode, attempt, step) at which motors fail for certain, all counted from 0.
        failed_resets: episodes before which all three scene resets fail, so that the job waits for a human.
        human_answers: False leaves such a job waiting until POST /emulator/human/{robot_index}.
        classifier_noise: chance that a verdict is the wrong word.
        stale_observation: the sink's verdict is on the picture from before the arm moves away.
        upload_delay_s: from the end of an episode to its file on the hub.
        lost_uploads: file names, such as "traj_1.pkl", that never get there.
        numpy_module: where pickles say numpy's array constructor lives; numpy 1 has "numpy.core".
        hub_page: entries per page of a file listing.
        renderer: of the simulated cells. Not a quirk: AutoEval has cameras.
    """

    poll_s: float = 0.01
    launch_s: float = 0.0
    env_reset_s: float = 0.0
    scene_reset_s: float = 0.0
    step_s: float = 0.0
    act_timeout_s: float | None = None
    work_s: float = WORK_S
    rest_s: float = REST_S
    effort_limit_mA: float | None = None  # noqa: N815 - mA is the unit
    motor_failure_probability: float = 0.0
    motor_failures: frozenset[tuple[int, int, int]] = frozenset()
    failed_resets: frozenset[int] = frozenset()
    human_answers: bool = True
    classifier_noise: float = 0.0
    stale_observation: bool = True
    upload_delay_s: float = 0.0
    lost_uploads: frozenset[str] = frozenset()
    numpy_module: str = "numpy.core"
    hub_page: int = 1000
    renderer: RendererChoice = "auto"

    def __post_init__(self) -> None:
        for name in ("motor_failure_probability", "classifier_noise"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise BadQuirk(name=name, expected="between 0 and 1", found=getattr(self, name))
        for name in ("poll_s", "launch_s", "env_reset_s", "scene_reset_s", "step_s", "upload_delay_s"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise BadQuirk(name=name, expected="at least 0 seconds", found=getattr(self, name))
        if self.hub_page < 1:
            raise BadQuirk(name="hub_page", expected="at least 1", found=self.hub_page)

    @classmethod
    def lifelike(cls) -> Quirks:
        """The real AutoEval's times; a 70-step episode takes about a minute.

        Source: job_scheduler.py, run_eval.py and gym_wrappers.py of AutoEval at 3ea3ff4.
        """
        return cls(
            poll_s=2.0,
            launch_s=10.0,
            env_reset_s=4.0,
            scene_reset_s=30.0,
            step_s=0.3,
            effort_limit_mA=700.0,
            motor_failure_probability=1e-4,
            classifier_noise=0.02,
            upload_delay_s=10.0,
        )


def with_texts(quirks: Quirks, texts: Sequence[str]) -> Quirks:
    """Quirks changed by texts such as "classifier_noise=0.1"; a set of things is written as a JSON list.

    Raises:
        UnknownQuirk: no quirk has that name.
        BadQuirk: a text without "=", or a value that is not of the quirk's kind.
    """
    changes: dict[str, Any] = {}
    known = {field.name: str(field.type) for field in fields(Quirks)}
    for text in texts:
        name, equals, value = text.partition("=")
        if name not in known:
            raise UnknownQuirk(name=name, known=", ".join(sorted(known)))
        if not equals:
            raise BadQuirk(name=name, expected=f"written as {name}=VALUE", found=text)
        changes[name] = _read(name, value, kind=known[name])
    return replace(quirks, **changes)


def _read(name: str, value: str, *, kind: str) -> Any:
    if value == "none" and kind.endswith("| None"):
        return None
    reader = _READERS[kind.removesuffix(" | None")]
    try:
        return reader(value)
    except (ValueError, TypeError, KeyError) as cause:
        raise BadQuirk(name=name, expected=f"a {kind}", found=value) from cause


def _triples(value: str) -> frozenset[tuple[int, int, int]]:
    return frozenset((int(episode), int(attempt), int(step)) for episode, attempt, step in json.loads(value))


def _choice(value: str) -> str:
    return {"auto": "auto", "gl": "gl", "raycast": "raycast"}[value]


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "float": float,
    "int": int,
    "str": str,
    "bool": lambda value: {"true": True, "false": False}[value],
    "RendererChoice": _choice,
    "frozenset[int]": lambda value: frozenset(int(number) for number in json.loads(value)),
    "frozenset[str]": lambda value: frozenset(str(name) for name in json.loads(value)),
    "frozenset[tuple[int, int, int]]": _triples,
}
