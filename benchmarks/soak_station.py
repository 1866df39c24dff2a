"""The station of the soak: a simulated cell in which things go wrong. Started, killed and restarted by it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from robot_bridge.drivers.cell import cell_variant
from robot_bridge.drivers.fault_plan import FaultPlan, every_fault
from robot_bridge.drivers.faults import FaultyDriver
from robot_bridge.drivers.mujoco_widowx import MujocoWidowX
from robot_bridge.station.policy import StationPolicy
from robot_bridge.station.serve import Binding, serve_station
from robot_bridge.station.tokens import TokenFile

IMAGE = 64  # pixels: the soak is about what is kept, not about what is seen
POLICY = StationPolicy(hold_after_ms=600, abort_after_ms=2000, park_after_s=0.5)
FAULT_PER_STEP = 0.012  # about one in four episodes of twenty steps
FAULT_PER_RESET = 0.03


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--life", type=int, required=True, help="which life of the station this is, from 0")
    parser.add_argument("--faults", choices=["none", "all"], required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    plan = FaultPlan(seed=options.life)
    if options.faults == "all":
        plan = every_fault(seed=options.life, per_step=FAULT_PER_STEP, per_reset=FAULT_PER_RESET)
    cell = MujocoWidowX(cell=cell_variant(7), renderer="raycast", image_size=IMAGE)
    serve_station(
        FaultyDriver(cell, plan=plan, log=options.folder / f"motions-{options.life:03d}.jsonl"),
        spool=options.folder / "spool",
        station_id="soak",
        announce=(options.folder / "station.url").write_text,
        binding=Binding(port=options.port, tokens=TokenFile(options.folder / "tokens.json")),
        policy=POLICY,
    )


if __name__ == "__main__":
    main()
