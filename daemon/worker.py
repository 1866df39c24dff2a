"""A worker, put together: the only place that knows all three phases and what-ifs, and with them torch.

Started by `gymnastd serve`, or by hand with `gymnastd worker` on a machine that sees the same database
and data directory.
"""

import sys

import torch

from daemon.code_version import CPU_FACTS, processor_name
from daemon.learning.devices import choose_device
from daemon.phase_worker import Phase
from daemon.phases import collect, finetune_world_model, update_policy
from daemon.worker_process import run_worker_process
from daemon.worlds import imagining

PHASES: dict[str, Phase] = {
    "collect": collect.run,
    "finetune_world_model": finetune_world_model.run,
    "update_policy": update_policy.run,
}


def device_name() -> str:
    """The accelerator's name, or else the processor's model, and nothing more of the machine."""
    device = choose_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(CPU_FACTS)


def main(arguments: list[str] | None = None) -> int:
    """Run a worker with the three phases, and what-ifs between them; gives the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    return run_worker_process(PHASES, given, imagine=imagining.imagine, device=device_name)


if __name__ == "__main__":
    sys.exit(main())
