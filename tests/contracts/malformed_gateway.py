"""What AutoEval would never send to a gateway, made by hand; for nothing of it may a policy be asked.

`{capability}` is the path of a job that is open and whose attempt runs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from robot_bridge.autoeval.wire import encode_array
from tests.contracts.malformed import JSON, Malformed, leaves, scrambled, spoiled
from tests.robot_bridge.autoeval.gateway_builders import a_proprio, a_tree

ACT, RESET, HEALTH = "/j/{capability}/act", "/j/{capability}/reset", "/j/{capability}/health"
SMALL = {"__numpy__": "AAAA", "dtype": "|u1", "shape": [1, 1, 3]}
DTYPES = (
    "|O",
    "O",
    "object",
    ">f4",
    "<f2",
    "<i8",
    "|b1",
    "|S8",
    "<U4",
    "<M8[s]",
    "f4,f4",
    "|V8",
    "",
    None,
    1,
    ["<f4"],
)
SHAPES = (
    [],
    [256],
    [3, 256, 256],
    [256, 256, 4],
    [-1],
    [256, 256, -3],
    [2**63],
    [10**400],
    [True],
    "(8,)",
    None,
    {},
)


def act(why: str, body: bytes) -> Malformed:
    return Malformed(why=why, path=ACT, parts=(body,))


def by_hand(*, scrambles: int) -> Iterator[Malformed]:
    """All of them; `scrambles` is how many scrambled bodies there are, and as many again within `encoded`."""
    small = a_tree(image=SMALL)  # its picture is wrong already; quick, and the text fails before
    for why, body in spoiled(small):
        yield act(why, body)
        yield act(f"encoded: {why}", json.dumps({"encoded": body.decode("latin-1")}).encode())
    for at, _ in leaves(a_tree()):
        for why, body in _whole_but(at):
            yield act(why, body)
    text = json.dumps(small).encode()
    for why, body in scrambled(text, count=scrambles, seed=1):
        yield act(why, body)
    for why, body in scrambled(text, count=scrambles, seed=2):
        yield act(f"encoded: {why}", json.dumps({"encoded": body.decode("latin-1")}).encode())
    yield from _arrays()
    yield from _arms()
    yield from _envelopes()
    yield from _http()


def _whole_but(at: tuple[Any, ...]) -> Iterator[tuple[str, bytes]]:
    """A body with a real picture of which one leaf is wrong."""
    tree = a_tree()
    holder: Any = tree
    for key in at[:-1]:
        holder = holder[key]
    for wrong in (None, True, -1, 2**70, [], {}, "", "\x00", "\ud800", 0.5, [[[[]]]]):
        holder[at[-1]] = wrong
        yield f"{at} is {wrong!a}", json.dumps(tree).encode()


def _arrays() -> Iterator[Malformed]:
    good = a_tree()
    for name in ("image", "proprio"):
        for dtype in DTYPES:
            yield act(
                f"{name} of {dtype}", json.dumps({**good, name: {**good[name], "dtype": dtype}}).encode()
            )
        for shape in SHAPES:
            yield act(
                f"{name} as {shape!s:.20}",
                json.dumps({**good, name: {**good[name], "shape": shape}}).encode(),
            )
        text = good[name]["__numpy__"]
        texts = (
            text[:-4],
            text + "AAAA",
            text[:-1] + "!",
            text[:-1] + "\n",
            "=" * len(text),
            "é" * len(text),
        )
        for found in (*texts, text[:-2] + "==", text[1:] + " ", "-" + text[1:], "\ud800" + text[1:]):
            yield act(
                f"{name}: base64", json.dumps({**good, name: {**good[name], "__numpy__": found}}).encode()
            )
        for more in ({"order": "F"}, {"__class__": "os.system"}, {"__reduce__": []}):
            yield act(f"{name} and {more}", json.dumps({**good, name: {**good[name], **more}}).encode())


def _arms() -> Iterator[Malformed]:
    nowhere = (np.nan, np.inf, -np.inf, 1e308)
    wrong = [(place, value) for place in range(3) for value in (*nowhere, 1e30, -1.0, 3e38)]
    wrong += [(place, value) for place in range(3, 8) for value in nowhere]
    for place, value in wrong:
        state = a_proprio().astype(np.float64)
        state[place] = value
        yield act(f"an arm with {value} at {place}", json.dumps(a_tree(proprio=encode_array(state))).encode())


def _envelopes() -> Iterator[Malformed]:
    good, whole = a_tree(), json.dumps(a_tree())
    once = json.dumps({"encoded": whole})
    yield act("encoded twice", json.dumps({"encoded": once}).encode())
    yield act("encoded and more", json.dumps({"encoded": whole, "more": 1}).encode())
    yield act("both forms", json.dumps({"encoded": whole, **good}).encode())
    yield act("encoded in bytes", json.dumps({"encoded": base64.b64encode(whole.encode()).decode()}).encode())
    yield act("a pickle", b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x8c\x06system\x93.")
    for found in (None, 1, True, [], {}, [whole], good):
        yield act(f"encoded as {type(found).__name__}", json.dumps({"encoded": found}).encode())
    for sentence in (
        "",
        "close the drawer",
        "Open the drawer",
        "open the drawer ",
        "open the drawer\x00",
        "x" * 501,
    ):
        yield act(f"told {sentence:.20}", json.dumps({**good, "instruction": sentence}).encode())
    for text, why in ((once, "encoded, cut"), (whole, "cut")):
        for end in range(len(text) // 40, len(text), len(text) // 40):
            yield act(why, text[:end].encode())
    for kind in ("utf-16", "utf-32", "utf-8-sig"):
        yield act(kind, whole.encode(kind))


def _http() -> Iterator[Malformed]:
    whole = json.dumps(a_tree()).encode()
    padded = whole + b" " * (1024 * 1024)
    pieces = tuple(padded[at : at + 65536] for at in range(0, len(padded), 65536))
    for path in (ACT, RESET):
        yield Malformed(why="too large", path=path, parts=(padded,))
        yield Malformed(why="too large in pieces", path=path, parts=pieces)
    yield Malformed(why="empty", path=ACT)
    for path in (ACT, RESET, HEALTH):
        for method in ("PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "HEAD", "BREW", "post", "", "CONNECT"):
            yield Malformed(why="method", method=method, path=path, parts=(whole,))
        for tail in ("/", "/..", "%00", "%2f", ";a", "%0d%0a", "/x"):
            yield Malformed(why="path", path=path + tail, parts=(whole,))
    names = (
        "",
        "x",
        "..",
        "%2e%2e",
        "%00",
        "%FF",
        "%ED%A0%80",
        "x" * 8000,
        "{capability}%20",
        "{capability}%0a",
        "*",
    )
    for name in (*names, "{capability}/j/{capability}"):
        for call in ("act", "reset", "Act", "act.php"):
            yield Malformed(why="path", path=f"/j/{name}/{call}", headers=(JSON,), parts=(whole,))
