"""What every AutoEval robot of a phase shares: the gateway that answers for our policy, and the settings.

AutoEval calls us, so one address of ours must stay the same while jobs run, also when the worker starts
again: the gateway listens where the settings say, and its folder outlives the process. Jobs are in
`autoeval_job`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from daemon.settings import Settings
from robot_bridge.autoeval.dataset import HubDataset
from robot_bridge.autoeval.gateway import Gateway, running_gateway
from robot_bridge.autoeval.scheduler import RobotStatus, SchedulerClient
from robot_bridge.autoeval.tasks import ROBOTS, AutoEvalTask, task_of
from robot_bridge.callback import PolicyLink
from robot_bridge.errors import RobotBridgeError
from robot_bridge.station.durable import replace_file

SUBMITTER_FILE: Final = "submitter_id"
PORT_IN_ADDRESS: Final = -1  # AutoEval's sign that an address is complete


class NoRobot(RobotBridgeError):
    code = "autoeval_no_robot"
    sentence = "scheduler {url} lists {found}; expected one of {expected}. Check the address of AutoEval."


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoEvalLink:
    """AutoEval as the settings name it, and our gateway, open for as long as the phase."""

    settings: Settings
    gateway: Gateway
    public_url: str
    policies: Mapping[str, PolicyLink]  # by checkpoint id
    submitter_id: str

    def scheduler(self) -> SchedulerClient:
        """A client of one's own: it is not thread safe."""
        return SchedulerClient(str(self.settings.autoeval_url), submitter_id=self.submitter_id)

    def dataset(self, robot: str) -> HubDataset:
        """The recordings, read with what one robot's thread knows of them."""
        settings = self.settings
        cache = autoeval_folder(settings) / "hub" / robot
        return HubDataset(settings.autoeval_dataset, cache=cache, endpoint=settings.autoeval_hub)

    def task(self, task_id: str) -> AutoEvalTask:
        """A task, with the box of the cells that the settings speak of."""
        low, high = self.settings.autoeval_boxes.get(task_id, (None, None))
        task = task_of(task_id)
        return task if low is None or high is None else replace(task, box_low=low, box_high=high)

    def policy_address(self, capability: str) -> str:
        """What AutoEval is told to call for one job; it goes with the port PORT_IN_ADDRESS."""
        return f"{self.public_url}/j/{capability}"

    def robots(self) -> dict[str, RobotStatus]:
        """AutoEval's robots that we know the tasks of.

        Raises:
            NoRobot: the scheduler has none of them.
            SchedulerError: it does not answer, or not as AutoEval's.
        """
        listed = self.scheduler().robots()
        found = {name: status for name, status in listed.items() if name in ROBOTS}
        if not found:
            names = ", ".join(listed) or "no robot"
            raise NoRobot(url=self.settings.autoeval_url, found=names, expected=", ".join(ROBOTS))
        return found


@contextmanager
def autoeval_link(settings: Settings, policies: Mapping[str, PolicyLink]) -> Iterator[AutoEvalLink]:
    """Serve the gateway while jobs are looked after; those of an earlier attempt can be opened in it again.

    Raises:
        GatewayBusy: another worker serves it.
        OSError: the address cannot be listened on.
    """
    folder = autoeval_folder(settings)
    gateway = Gateway(folder / "gateway")
    host, _, port = settings.gateway_bind.rpartition(":")
    with running_gateway(gateway, host=host, port=int(port)) as url:
        yield AutoEvalLink(
            settings=settings,
            gateway=gateway,
            public_url=settings.gateway_public_url or url,
            policies=policies,
            submitter_id=submitter_id(folder),
        )


def autoeval_folder(settings: Settings) -> Path:
    """Where all that outlives a phase is kept."""
    return settings.data_dir / "autoeval"


def submitter_id(folder: Path) -> str:
    """By what AutoEval knows this installation: made up once, and no secret."""
    file = folder / SUBMITTER_FILE
    if not file.exists():
        replace_file(file, f"gymnastd-{secrets.token_hex(8)}".encode())
    return file.read_text().strip()
