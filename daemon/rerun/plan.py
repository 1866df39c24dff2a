"""Which phases of an iteration can be done again, and with how many threads. No torch: it must not be loaded
before the number of threads is set.
"""

from collections.abc import Mapping
from typing import Any

from daemon.iteration import find_iteration
from daemon.iteration_diff import changes
from daemon.iteration_manifest import inputs_of
from daemon.rerun.errors import ManifestMissing
from storage import manifests
from storage.db import Database
from storage.manifests import KeptManifest

LEARNING = ("finetune_world_model", "update_policy")  # what can be done again: a robot cannot be wound back


def learning_phases(database: Database, number: int) -> list[KeptManifest]:
    """The finished learning phases of an iteration that left a manifest, in order.

    Raises:
        PageNotFound: there is no such iteration.
        ManifestMissing: it has no such phase.
    """
    with database.read() as session:
        kept = manifests.of_iteration(session, find_iteration(session, number).id)
    found = [kept[phase] for phase in LEARNING if phase in kept and kept[phase].run.state == "finished"]
    if not found:
        raise ManifestMissing(number=number)
    return found


def threads_of(kept: KeptManifest) -> int:
    """How many threads the phase computed with."""
    return int(inputs_of(kept)["environment"]["threads"])


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not as it was then, one sentence each: code, packages, machine, precision, threads."""
    return [
        f"{change['field']} was {change['from']}, is {change['to']}"
        for part in ("code", "environment")
        for change in changes(then[part], now[part])
    ]
