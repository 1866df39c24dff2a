"""The test call before a submission: is the port open, and does a blank picture get seven numbers?

Whoever may ask this can make the host connect anywhere; that is so at the real one too.

Source: job_scheduler.py (test_policy_server) of AutoEval at 3ea3ff4.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import requests

from robot_bridge.autoeval.emulator.errors import InvalidPolicyAction
from robot_bridge.autoeval.emulator.policy_line import json_numpy, policy_url, read_answer
from robot_bridge.conventions import IMAGE_SIZE

PORT_TIMEOUT_S: Final = 2.0
ACT_TIMEOUT_S: Final = 8.0
INSTRUCTION: Final = "test connection"
SHAPE: Final = (7,)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAnswer:
    """HTTP status and body of the answer to a test."""

    status: int
    body: dict[str, Any]


def check_connection(host: str, port: int) -> CheckAnswer:
    """Call a policy server as AutoEval does before it lets somebody submit."""
    address = policy_url(host, port, endpoint="").rstrip("/")
    problem = _port_problem(host, port)
    if problem is not None:
        message = f"Could not connect to policy server at {address}. {problem}"
        return _error(400, message, error_type="port_closed")
    try:
        answer = requests.post(
            policy_url(host, port, endpoint="act"),
            data=_blank(),
            headers={"Content-Type": "application/json"},
            timeout=ACT_TIMEOUT_S,
        )
    except requests.Timeout:
        message = f"Connection to policy server at {address} timed out. It might be busy or unreachable."
        return _error(400, message, error_type="timeout_error")
    except requests.ConnectionError:
        message = f"Could not connect to policy server at {address}. Please check the IP and port."
        return _error(400, message, error_type="connection_error")
    except requests.RequestException as error:
        message = f"Error connecting to policy server at {address}. {error}"
        return _error(400, message, error_type="request_error")
    return _read(answer)


def _blank() -> bytes:
    image = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    proprio = np.zeros(8, dtype=np.float32)
    tree = {"image": json_numpy(image), "proprio": json_numpy(proprio), "instruction": INSTRUCTION}
    return json.dumps(tree).encode()


def _port_problem(host: str, port: int) -> str | None:
    """Why no connection can be made, or None; below port 0 only the name is looked up."""
    try:
        if port < 0:
            socket.gethostbyname(host)
            return None
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(PORT_TIMEOUT_S)
            code = probe.connect_ex((host, port))
    except (socket.gaierror, UnicodeError):
        return f"Could not resolve hostname: {host}"
    except (OSError, OverflowError) as error:
        return f"Socket error: {error}"
    return None if code == 0 else f"Port is closed or unreachable (error code: {code})"


def _read(answer: requests.Response) -> CheckAnswer:
    try:
        tree = read_answer(answer.json())
    except (ValueError, InvalidPolicyAction):
        message = f"Policy server did not return valid JSON. Response: {answer.text[:100]}..."
        return _error(400, message)
    shape = _shape(tree)
    if shape == SHAPE:
        message = f"Policy server returned an action with shape {SHAPE}"
        return CheckAnswer(status=200, body={"status": "success", "message": message, "shape": str(SHAPE)})
    found = str(shape) if shape is not None else f"type: {type(tree).__name__} with value: {tree}"
    return _error(200, f"Policy server returned an action with unexpected shape: {found}", shape=found)


def _shape(tree: Any) -> tuple[int, ...] | None:
    """The shape of a list or array; None for what is neither."""
    try:
        return np.shape(tree) if isinstance(tree, list | np.ndarray) else None
    except ValueError:  # lists of different lengths
        return None


def _error(status: int, message: str, **facts: str) -> CheckAnswer:
    return CheckAnswer(status=status, body={"status": "error", "message": message, **facts})
