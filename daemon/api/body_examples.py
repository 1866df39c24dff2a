"""An example of every body that can be sent, for the OpenAPI document. A test holds each to its schema."""

from collections.abc import Mapping
from typing import Any, Final

Document = dict[str, Any]

WHY: Final = {"lineage": "main", "reason": "the gripper was repaired; the trial before says nothing"}
DOT: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
BODIES: Final[Mapping[str, Document]] = {
    "POST /v1/iterations": {
        "tasks": ["open_drawer", "close_drawer"],
        "collect": {"episodes_per_task": 24},
        "world_model": {"updates": 100},
        "policy": {"updates": 15, "groups": 16},
    },
    "POST /v1/iterations/{number}/skip": {"phase": "finetune_world_model"},
    "POST /v1/episodes/{episode_id}/labels": {
        "success": False,
        "labeller": "ann",
        "note": "the drawer came back open",
    },
    "POST /v1/episodes/{episode_id}/notes": {
        "text": "the gripper's cable snagged at step 20",
        "author": "ann",
    },
    "POST /v1/policies/{checkpoint_id}/promote": WHY,
    "POST /v1/policies/{checkpoint_id}/rollback": WHY,
    "POST /v1/schedules": {
        "name": "nightly",
        "trigger": {"kind": "cron", "expression": "0 20 * * mon-fri", "timezone": "Europe/Berlin"},
        "spec": {"collect": {"episodes_per_task": 24}},
    },
    "PATCH /v1/schedules/{schedule_id}": {"enabled": False},
    "PUT /v1/stations/{station_id}/hours": {
        "timezone": "Europe/Berlin",
        "open": [{"days": ["mon", "tue", "wed", "thu", "fri"], "begins": "20:00", "ends": "06:00"}],
        "minutes_per_hour": 45,
    },
    "POST /v1/estop": {"reason": "somebody is in the cell"},
    "POST /v1/worlds/what-if": {
        "episode": "0b5c5e0e-4d0c-4f4e-9d53-4a2f3c1d7a10",
        "step": 0,
        "instruction": "open the drawer",
        "rollouts": 8,
    },
    "POST /v1/start-images": {
        "image": DOT,
        "task": "open_drawer",
        "instruction": "open the drawer",
    },
    "POST /v1/tokens": {"name": "ann", "scopes": ["read", "operate"], "expires_at": "2027-01-01T00:00:00Z"},
}


def show_body(operation: Document, call: str) -> None:
    """Write the example of what a call is sent into its part of the document."""
    if call in BODIES:
        operation["requestBody"]["content"]["application/json"]["example"] = BODIES[call]
