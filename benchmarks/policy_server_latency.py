"""What serving a policy over HTTP costs on top of the policy's own thinking; prints one ratio per call.

Baseline: the time of `Policy.act` inside the very call that is measured, as the server reports it. Everything
else of the round trip counts as overhead: the client's HTTP, decoding and shrinking the picture, the server.
What a robot does before it has a request to send (a JPEG, base64 of raw pixels) does not. The server is
`gymnastd policy-server` in a process of its own; the clients are the station's link and a client that speaks
as AutoEval's does. Calls within a chunk, which think nothing, are listed apart.

Run: OMP_NUM_THREADS=1 python -m benchmarks.policy_server_latency
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import requests

from robot_bridge.autoeval.wire import encode_array
from robot_bridge.callback import PolicyActRequest, PolicyResetRequest
from robot_bridge.frames import encode_jpeg
from robot_bridge.policy_link import HttpPolicyLink
from robot_bridge.protocol import ObservationAnswer

BUDGET_MS = 3.0  # over the policy's own time, half of all calls
WARM_UP = 20
SERVER = "import typer; from daemon.cli_policy import policy_server; typer.run(policy_server)"
SENTENCE = "open the drawer"
STARTS_WITHIN_S = 120.0

Timing = tuple[float, float]  # milliseconds of a round trip, and of the thinking in it


@contextmanager
def served(checkpoint: str) -> Iterator[str]:
    """The real command, in a process of its own; gives its URL."""
    with tempfile.TemporaryDirectory() as folder:
        announced = Path(folder) / "url"
        options = ["--checkpoint", checkpoint, "--port", "0", "--announce", str(announced)]
        process = subprocess.Popen([sys.executable, "-c", SERVER, *options], stdout=subprocess.DEVNULL)
        try:
            began = time.monotonic()
            while not announced.exists():
                if process.poll() is not None or time.monotonic() - began > STARTS_WITHIN_S:
                    raise SystemExit("the policy server did not start")
                time.sleep(0.05)
            yield announced.read_text().strip()
        finally:
            process.terminate()
            process.wait()


def pictures(count: int) -> list[np.ndarray]:
    """Pictures uint8 [256, 256, 3] of blocks and noise; as JPEGs 16 kB, like those of a camera."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (count, 16, 16, 3)).repeat(16, axis=1).repeat(16, axis=2)
    noisy = blocks + rng.normal(0, 2, (count, 256, 256, 3))
    return list(noisy.clip(0, 255).astype(np.uint8))


def of_callback(url: str, calls: int) -> list[Timing]:
    """A station's calls: every one decides a chunk. The picture is encoded already, for the recording."""
    link, timings = HttpPolicyLink(url, timeout_s=30.0), []
    reset = PolicyResetRequest(
        session="benchmark", task_id="open_drawer", instruction=SENTENCE, control_hz=5.0, seed=0
    )
    sent = [encode_jpeg(picture) for picture in pictures(16)]
    chunk = link.reset(reset).chunk
    for number in range(calls + WARM_UP):
        t, episode = number % 100 * chunk, number // 100
        session = f"benchmark-{episode}"
        if t == 0:
            link.reset(reset.model_copy(update={"session": session}))
        began = time.perf_counter()
        observation = ObservationAnswer(
            t=t,
            jpeg=base64.b64encode(sent[number % len(sent)]).decode(),
            proprio=[0.1] * 7,
            qpos=[],
            captured_at=0.0,
        )
        answer = link.act(PolicyActRequest(session=session, t=t, observation=observation))
        timings.append((1000.0 * (time.perf_counter() - began), answer.infer_ms))
    link.close()
    return timings[WARM_UP:]


def of_autoeval(url: str, calls: int) -> list[Timing]:
    """AutoEval's calls: one action each, the raw picture in base64; most are answered within a chunk."""
    proprio, timings = encode_array(np.zeros(8)), []
    bodies = [
        json.dumps({"image": encode_array(picture), "instruction": SENTENCE, "proprio": proprio}).encode()
        for picture in pictures(16)
    ]
    with requests.Session() as session:
        session.trust_env = False
        session.post(url + "/reset", timeout=30.0)
        for number in range(calls + WARM_UP):
            body = bodies[number % len(bodies)]
            began = time.perf_counter()
            answer = session.post(
                url + "/act", data=body, headers={"Content-Type": "application/json"}, timeout=30.0
            )
            answer.json()
            took_ms = 1000.0 * (time.perf_counter() - began)
            answer.raise_for_status()
            parts = dict(part.split(";dur=") for part in answer.headers["Server-Timing"].split(", "))
            timings.append((took_ms, float(parts["infer"])))
    return timings[WARM_UP:]


def of_nothing(url: str, calls: int) -> list[Timing]:
    """The cheapest call there is: what HTTP alone costs on this machine now."""
    timings = []
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(calls):
            began = time.perf_counter()
            session.post(url + "/reset", timeout=30.0)
            timings.append((1000.0 * (time.perf_counter() - began), 0.0))
    return timings


def report(name: str, timings: Sequence[Timing]) -> float:
    """Print one line; gives the p50 of the overhead."""
    trip, thought = np.array(timings).T
    over50, over99 = np.percentile(trip - thought, [50, 99])
    own, ratio = np.median(thought), np.median(trip) / max(float(np.median(thought)), 1e-9)
    beside = f"{ratio:5.2f} times the policy's own {own:6.2f} ms" if own > 0 else "no thinking"
    print(f"{name:34} {len(timings):5} calls  overhead p50 {over50:5.2f} ms, p99 {over99:6.2f} ms  {beside}")
    return float(over50)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", default="base")
    parser.add_argument("--calls", type=int, default=500)
    options = parser.parse_args()
    with served(options.checkpoint) as url:
        callback = of_callback(url, options.calls)
        acts = of_autoeval(url, options.calls)
        empty = of_nothing(url, options.calls)
        health = requests.get(url + "/health", timeout=30.0).json()
    deciding = [timing for timing in acts if timing[1] > 0]
    within = [timing for timing in acts if timing[1] == 0]
    measured = [report("/v1/policy/act", callback), report("/act, all", acts)]
    report("/act, those that decide", deciding)
    report("/act, those within a chunk", within)
    report("an empty call, for comparison", empty)
    print(f"the server's own count, overhead: {health['overhead_ms']}")
    worst = max(measured)
    held = "held" if worst <= BUDGET_MS else "BROKEN"
    print(f"budget: p50 within {BUDGET_MS} ms over the policy's own time {held}, worst {worst:.2f} ms")
    return 0 if worst <= BUDGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
