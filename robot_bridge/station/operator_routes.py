"""What only somebody at the robot may ask for. The door lets nobody else in; no daemon has the scope."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from robot_bridge.addresses import is_loopback_peer
from robot_bridge.errors import Forbidden
from robot_bridge.protocol import ClearEStopRequest, Command, HumanDoneRequest, Maintenance
from robot_bridge.station.operations import Operations
from robot_bridge.station.plain_json import PlainJsonRoute
from robot_bridge.station.routes import require_version


async def require_local(request: Request) -> None:
    """The door asks for the scope `operate`; this asks once more that the caller sits at this machine.

    Raises:
        Forbidden: it does not.
    """
    peer = "(unknown)" if request.client is None else request.client.host
    if not is_loopback_peer(peer):
        call = f"{request.method} {request.url.path}"
        raise Forbidden(call=call, expected="operate at the station itself", name="(any)", found=peer)


class MaintenanceRequest(Command):
    """Nothing but the call itself."""


def operator_routes(operations: Operations) -> APIRouter:
    """Clear the emergency stop, say that a human has done what was asked, serve the motors."""
    needs = [Depends(require_version), Depends(require_local)]
    router = APIRouter(prefix="/v1", dependencies=needs, route_class=PlainJsonRoute)

    @router.post("/estop/clear", status_code=204)
    def clear(request: ClearEStopRequest) -> None:
        operations.clear_estop(request.nonce)

    @router.post("/human/done", status_code=204)
    def done(request: HumanDoneRequest | None = None) -> None:
        operations.human_done("" if request is None else request.note)

    @router.post("/maintenance/{action}", status_code=204)
    def maintain(action: Maintenance, request: MaintenanceRequest | None = None) -> None:
        operations.maintain(action)

    return router
