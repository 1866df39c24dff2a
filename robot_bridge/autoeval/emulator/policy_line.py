"""How AutoEval calls a policy server: its address rules, its json_numpy bodies, and no patience limit.

json_numpy is written and read by hand: the real client patches the `json` module of its whole process.

Source: policy_clients.py (OpenWebClient) and utils of AutoEval at 3ea3ff4; json_numpy 2.1.1 for the encoding.
"""

from __future__ import annotations

import base64
import binascii
import json
import socket
import threading
from typing import Any, Final

import numpy as np
import requests
from numpy.typing import NDArray
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from robot_bridge.autoeval.emulator.errors import InvalidPolicyAction, PolicyResetFailed

ACTION_SHAPE: Final = (7,)
LONGEST_QUOTE: Final = 200  # characters of a wrong answer that go into the log


def policy_url(host: str, port: int, *, endpoint: str) -> str:
    """Where a policy server answers: an https scheme in the host is kept, a port below 0 is left out."""
    scheme = "https://" if host.startswith("https://") else "http://"
    bare = host.removeprefix("https://").removeprefix("http://")
    return f"{scheme}{bare}{f':{port}' if port >= 0 else ''}/{endpoint}"


def json_numpy(array: NDArray[Any]) -> dict[str, Any]:
    """An array as json_numpy writes it: base64 of the raw bytes, dtype, shape."""
    return {
        "__numpy__": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
        "dtype": array.dtype.str,
        "shape": list(array.shape),
    }


def read_answer(tree: Any) -> Any:
    """What json_numpy makes of a JSON tree: an array for its marked objects, the tree otherwise."""
    if not isinstance(tree, dict) or "__numpy__" not in tree:
        return tree
    try:
        numbers = np.frombuffer(base64.b64decode(tree["__numpy__"], validate=True), dtype=str(tree["dtype"]))
        return numbers.reshape(tree["shape"])
    except (KeyError, TypeError, ValueError, binascii.Error) as cause:
        raise InvalidPolicyAction(found=f"a broken json_numpy object ({cause})") from cause


class PolicyLine:
    """One keep-alive session to one policy server. `cut` may be called by any thread.

    Args:
        timeout_s: for each call; None waits for ever, as AutoEval does.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float | None = None) -> None:
        self._host, self._port, self._timeout = host, port, timeout_s
        self._sockets = _Sockets()
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _CuttableAdapter(self._sockets))

    def act(
        self, image: NDArray[np.uint8], proprio: NDArray[np.float32], *, instruction: str
    ) -> NDArray[np.float64]:
        """Ask for one action [7], whatever HTTP status the answer has.

        Raises:
            InvalidPolicyAction: the answer is not a list or array of 7 numbers.
            ConnectionError, requests.RequestException: no answer, or the line was cut.
        """
        body = {"image": json_numpy(image), "instruction": instruction, "proprio": json_numpy(proprio)}
        return checked_action(self._post("act", body).json())

    def reset(self) -> bool:
        """Tell the policy that an episode begins; False when it has no /reset.

        Raises:
            PolicyResetFailed: an answer that is neither 200 nor 404.
            ConnectionError, requests.RequestException: no answer, or the line was cut.
        """
        answer = self._post("reset", None)
        if answer.status_code not in {200, 404}:
            raise PolicyResetFailed(status=answer.status_code, text=answer.text[:LONGEST_QUOTE])
        return answer.status_code == 200

    def cut(self) -> None:
        """End the connection at once, also under a call that waits; every later call fails."""
        self._sockets.cut()

    def close(self) -> None:
        self._session.close()

    def _post(self, endpoint: str, body: dict[str, Any] | None) -> requests.Response:
        url = policy_url(self._host, self._port, endpoint=endpoint)
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        return self._session.post(url, data=content, headers=headers, timeout=self._timeout)


def checked_action(tree: Any) -> NDArray[np.float64]:
    """The action [7] in an answer, as float64 and unclipped; its numbers may still be wild.

    Raises:
        InvalidPolicyAction: it is not a list or array of 7 numbers.
    """
    answer = read_answer(tree)
    if not isinstance(answer, list | np.ndarray):
        raise InvalidPolicyAction(found=f"{type(answer).__name__} {str(answer)[:LONGEST_QUOTE]!r}")
    try:
        action = np.array(answer)
    except ValueError as cause:  # lists of different lengths
        raise InvalidPolicyAction(found=str(answer)[:LONGEST_QUOTE]) from cause
    if action.dtype.kind not in "iuf":
        raise InvalidPolicyAction(found=str(answer)[:LONGEST_QUOTE])
    if action.shape != ACTION_SHAPE:
        raise InvalidPolicyAction(found=f"shape {action.shape}")
    return action.astype(np.float64)


class _Sockets:
    """The open sockets of one line, so that they can be ended under whoever waits on them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._cut = False

    def add(self, opened: socket.socket) -> None:
        with self._lock:
            self._open = [known for known in self._open if known.fileno() >= 0]
            self._open.append(opened)
            if self._cut:
                _end(opened)

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            for opened in self._open:
                _end(opened)


def _end(opened: socket.socket) -> None:
    try:
        opened.shutdown(socket.SHUT_RDWR)
    except OSError:  # closed already: there is nothing to end
        return


class _CuttableAdapter(HTTPAdapter):
    """An adapter whose connections tell `_Sockets` when they open."""

    def __init__(self, sockets: _Sockets) -> None:
        self._sockets = sockets
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _pool_classes(self._sockets)


def _pool_classes(sockets: _Sockets) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
