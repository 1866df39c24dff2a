"""What nobody may say to a station, made by hand; nothing of it may move the arm, whoever says it.

`{fence}`, `{lease_id}` and `{episode_id}` are live ones when there are, see `malformed.Malformed`. Three
steps of the episode are done: the next one is 3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.contracts.malformed import JSON, Header, Malformed, scrambled, spoiled

NEXT = 3  # the step that would be welcome
DONE = [0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]  # what the three steps were
ACTION = [0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
FENCE: Header = (b"fence", b"{fence}")
LIVE = (JSON, FENCE)
EPISODE = "/v1/episodes/{episode_id}"
STEPS = f"{EPISODE}/steps"
STEP: dict[str, Any] = {"t": NEXT, "actions": [ACTION], "infer_ms": 1.5}
CREATE: dict[str, Any] = {
    "episode_id": "next-one",
    "task_id": "open_drawer",
    "instruction": "open it",
    "mode": "stepped",
    "max_steps": 5,
    "policy": {"name": "script"},
    "seed": 3,
    "limits": {"box_low": [0.15, -0.1, 0.1], "step_xyz_max": 0.02},
    "metadata": {"a": "b"},
}
RESET: dict[str, Any] = {"task_id": "open_drawer", "seed": 4, "max_attempts": 1}
GOOD: dict[str, tuple[dict[str, Any], frozenset[str]]] = {  # what could be left out is in the second place
    STEPS: (STEP, frozenset({"infer_ms"})),
    "/v1/episodes": (CREATE, frozenset({"episode_id", "instruction", "mode", "limits", "metadata"})),
    "/v1/resets": (RESET, frozenset({"seed", "max_attempts"})),
    "/v1/leases": ({"holder": "me", "ttl_s": 30.0}, frozenset({"ttl_s"})),
    "/v1/leases/{lease_id}/heartbeat": ({"seq": 9}, frozenset()),
    f"{EPISODE}/finish": ({"reason": "completed"}, frozenset({"reason"})),
    f"{EPISODE}/labels": ({"success": True, "source": "human", "judge": "me"}, frozenset()),
    f"{EPISODE}/ack": ({"manifest_sha256": "a" * 64}, frozenset()),
    "/v1/estop/clear": ({"nonce": "abc"}, frozenset()),
    "/v1/human/done": ({"note": "done"}, frozenset({"note"})),
}
MOVING = (STEPS, "/v1/episodes", "/v1/resets")
NULLABLE = ("('instruction',): null", "('success',): null", "('limits',): null", "('success',): false")


def by_hand(*, scrambles: int) -> Iterator[Malformed]:
    """All of them; `scrambles` is how many scrambled bodies each moving call gets."""
    for path, (tree, free) in GOOD.items():
        for why, body in spoiled(tree, free=free):
            if not (_is_fine(why) or (why == "only b'null'" and "human" in path)):
                yield Malformed(why=why, path=path, headers=LIVE, parts=(body,))
    for number, path in enumerate(MOVING):
        whole = json.dumps(GOOD[path][0]).encode()
        for why, body in scrambled(whole, count=scrambles, seed=number):
            yield Malformed(why=why, path=path, headers=LIVE, parts=(body,))
    yield from _steps()
    yield from _episodes()
    yield from _sizes_and_types()
    yield from _headers()
    yield from _paths_and_methods()


def _is_fine(why: str) -> bool:
    """Whether what was put there is allowed there: null for what may be null, true for a verdict."""
    if why in NULLABLE or why.startswith(("('success',): true", "('limits', 'step_xyz_max'): null")):
        return True
    return why in {"('note',): nul", "('metadata', 'a'): too long"}


def step(why: str, **changes: Any) -> Malformed:
    """A step of the live episode that is wrong in one way."""
    return Malformed(why=why, path=STEPS, headers=LIVE, parts=(json.dumps({**STEP, **changes}).encode(),))


def _steps() -> Iterator[Malformed]:
    for length in (0, 1, 2, 5, 6, 8, 9, 14, 100):
        yield step(f"an action of {length} numbers", actions=[[0.01] * length])
        yield step(f"a second action of {length} numbers", actions=[ACTION, [0.01] * length])
    for actions in (
        [],
        [[]],
        [[ACTION]],
        [ACTION] * 65,
        [None],
        {},
        [ACTION, None],
        [[ACTION], ACTION],
        "[]",
    ):
        yield step("actions of another shape", actions=actions)
    for number in (
        float("nan"),
        float("inf"),
        -float("inf"),
        1e308,
        -1e308,
        3.5e38,
        10**400,
        True,
        "0.01",
        None,
    ):
        for place in range(7):
            action: list[Any] = [*ACTION]
            action[place] = number
            yield step(f"{number} in an action", actions=[action])
            yield step(f"{number} in the last of five", actions=[ACTION] * 4 + [action])
    for t in (
        -1,
        -(2**63),
        0,
        1,
        2,
        4,
        5,
        999,
        1000,
        1001,
        2**31,
        2**63,
        2**64,
        10**30,
        3.5,
        1e300,
        "3",
        True,
    ):
        yield step(f"step {t}", t=t)
    for infer_ms in (-1, float("nan"), float("inf"), "1", True):
        yield step(f"infer_ms {infer_ms}", infer_ms=infer_ms)
    for late in (
        {"issued_at": -1e9, "ttl_ms": 1},
        {"issued_at": 0, "ttl_ms": 0.001},
        {"ttl_ms": 0},
        {"ttl_ms": -5},
    ):
        yield step(f"stale {late}", **late)


def _episodes() -> Iterator[Malformed]:
    limits = [{"box_low": corner} for corner in ([-9, -9, -9], [0.3], [0.1] * 4, [float("nan")] * 3, "low")]
    limits += [{"step_xyz_max": far} for far in (0, -1, 9.0, float("inf"), 1e308, "1", True)]
    limits += [{"box_low": [0.3, 0.1, 0.2], "box_high": [0.2, 0.0, 0.1]}, {"speed": 1}]
    wrong: list[dict[str, Any]] = [{"limits": found} for found in limits]
    names = ("", ".", "..", "../../etc/passwd", "a/b", "a\\b", "a\n", "a\x00", "x" * 101, "-a", "é", "\ud800")
    wrong += [{"episode_id": name} for name in names]
    wrong += [{"task_id": task} for task in ("", "no_such_task", "x" * 101, "open_drawer\x00", "\ud800")]
    wrong += [{"max_steps": count} for count in (0, -1, 1001, 2**63, 1.5, "5", True)]
    wrong += [{"seed": seed} for seed in (-1, 2**63, 2**64, 0.5, "3", True)]
    wrong += [{"mode": mode} for mode in ("", "STEPPED", "free", 1)]
    endpoints = (
        "",
        "file:///etc/passwd",
        "http://192.0.2.1/",
        "http://127.0.0.1@192.0.2.1",
        "//x",
        "http://[::1",
        "x",
    )
    wrong += [
        {"mode": "callback", "policy_endpoint": found} for found in (None, *endpoints, "http://127.0.0.1\\@x")
    ]
    wrong += [{"metadata": found} for found in ({"a": 1}, {"a": None}, {str(n): "" for n in range(51)}, [])]
    for change in wrong:
        body = json.dumps({**CREATE, **change}).encode()
        yield Malformed(why=f"episode with {change!a:.60}", path="/v1/episodes", headers=LIVE, parts=(body,))


def _sizes_and_types() -> Iterator[Malformed]:
    for path in MOVING:
        whole = json.dumps(GOOD[path][0]).encode()
        padded = whole + b" " * (256 * 1024)
        yield Malformed(why="too large", path=path, headers=LIVE, parts=(padded,))
        pieces = tuple(padded[at : at + 4096] for at in range(0, len(padded), 4096))
        yield Malformed(why="too large in pieces", path=path, headers=LIVE, parts=pieces)
        for length in (b"262145", b"99999999999999999999"):
            headers = (*LIVE, (b"content-length", length))
            yield Malformed(why=f"length {length!r}", path=path, headers=headers, parts=(whole,))
        types = (
            b"text/plain",
            b"text/json",
            b"application/xml",
            b"multipart/form-data; boundary=x",
            b"",
            b"json",
        )
        for kind in (
            *types,
            b"application/x-www-form-urlencoded",
            b"application/octet-stream",
            b"\xff/\x00",
            b";",
        ):
            yield Malformed(
                why=f"type {kind!r}", path=path, headers=((b"content-type", kind), FENCE), parts=(whole,)
            )
        yield Malformed(why="no type", path=path, headers=(FENCE,), parts=(whole,))
        yield Malformed(why="empty", path=path, headers=LIVE, parts=(b"", b"", b""))


def _headers() -> Iterator[Malformed]:
    fences = b"|-1|0|99|9223372036854775807|9223372036854775808|nan|1e0|null|true|0x1|{fence},{fence}".split(
        b"|"
    )
    for path in MOVING:
        body = json.dumps(GOOD[path][0]).encode()
        for fence in (*fences, b"9" * 5000, b"{fence}\x00", b"\xd9\xa1", b"\xff"):
            headers = (JSON, (b"fence", fence))
            yield Malformed(why=f"fence {fence[:9]!r}", path=path, headers=headers, parts=(body,))
        yield Malformed(why="no fence", path=path, headers=(JSON,), parts=(body,))
        more: tuple[Header, ...] = (
            FENCE,
            (b"station-protocol", b"2.0"),
            (b"station-protocol", b""),
            (b"station-protocol", b"\xff\xfe"),
            (b"station-protocol", b"one"),
            (b"origin", b"http://example.org"),
            (b"authorization", b"Bearer gst_nobody"),
            (b"authorization", b"Basic \xff"),
            (b"authorization", b"Bearer"),
        )
        for header in more:
            yield Malformed(why=f"also {header!r}", path=path, headers=(*LIVE, header), parts=(body,))
        for query in ("token=gst_x", "access_token=1", "Authorization=x", "a=gst_b"):
            yield Malformed(why=f"query {query}", path=path, query=query, headers=LIVE, parts=(body,))


def _paths_and_methods() -> Iterator[Malformed]:
    body = json.dumps(STEP).encode()
    names = (
        "%00",
        "..",
        "%2e%2e",
        "..%2f..%2fetc",
        "%ED%A0%80",
        "%FF%FE",
        "%C0%AE",
        "x" * 8000,
        "%",
        "%zz",
        "%0d%0a",
    )
    for name in (
        *names,
        "other",
        "{episode_id}%00",
        "{episode_id}%20",
        "{episode_id}%0a",
        "%F0%9F%A6%BE",
        ";",
        "*",
    ):
        for call in ("steps", "start", "finish"):
            path = f"/v1/episodes/{name}/{call}"
            sent = b"{}" if call != "steps" else body
            yield Malformed(why="path", path=path, headers=LIVE, parts=(sent,))
    for path in (
        "/v2/episodes",
        "/v1",
        "/",
        "/v1//episodes",
        "/V1/EPISODES",
        "/v1/maintenance/dance",
        "*",
        "",
    ):
        yield Malformed(why="path", path=path, headers=LIVE, parts=(body,))
    for path in (*MOVING, f"{EPISODE}/start", "/v1/maintenance/wake", "/v1/estop/clear"):
        for method in (
            "PUT",
            "PATCH",
            "DELETE",
            "TRACE",
            "OPTIONS",
            "CONNECT",
            "BREW",
            "post",
            "",
            "POST\x00",
        ):
            yield Malformed(why="method", method=method, path=path, headers=LIVE, parts=(body,))
    for action in ("wake", "sleep", "reboot_motors"):
        for wrong in (b"[]", b'{"a": 1}', b"{", b"\xff", b"0"):
            path = f"/v1/maintenance/{action}"
            yield Malformed(why="maintenance", path=path, headers=LIVE, parts=(wrong,))
