"""What only somebody at the robot may ask for. The door lets nobody else in; no daemon has the scope."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from robot_bridge.protocol import ClearEStopRequest, Command, HumanDoneRequest, Maintenance
from robot_bridge.station.operations import Operations
from robot_bridge.station.routes import REFUSALS, require_version


class MaintenanceRequest(Command):
    """Nothing but the call itself."""


def operator_routes(operations: Operations) -> APIRouter:
    """Clear the emergency stop, say that a human has done what was asked, serve the motors."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(require_version)], responses=REFUSALS)

    @router.post("/estop/clear", status_code=204)
    def clear(request: ClearEStopRequest) -> None:
        operations.clear_estop(request.nonce)

    @router.post("/human/done", status_code=204)
    def done(request: HumanDoneRequest) -> None:
        operations.human_done(request.note)

    @router.post("/maintenance/{action}", status_code=204)
    def maintain(action: Maintenance, request: MaintenanceRequest) -> None:
        operations.maintain(action)

    return router
