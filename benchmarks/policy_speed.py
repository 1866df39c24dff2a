"""How fast the nano policy thinks and learns, and what its choices are worth; prints one ratio per claim.

Run: OMP_NUM_THREADS=1 python benchmarks/policy_speed.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from daemon.learning.devices import choose_device, choose_precision
from daemon.learning.policy.nano_vla import attend
from daemon.learning.policy.policy import Policy, new_policy
from daemon.learning.reward.classifier import new_judge

BATCH = 96
BUDGET_S = 0.25  # one forward pass of 96 pictures on one core
ROUNDS = 7
INSTRUCTIONS = ("open the drawer", "put the eggplant in the yellow basket")


def fastest(action: Callable[[], object]) -> float:
    """Seconds of the fastest of a few rounds: the others measure other processes."""
    action()
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return min(took)


def learn_once(policy: Policy, images: Tensor, sentences: list[str]) -> None:
    policy.model.zero_grad(set_to_none=True)
    logits = policy.logits(images, sentences)
    F.cross_entropy(
        logits.flatten(0, 2), torch.zeros(logits[..., 0].numel(), dtype=torch.int64).to(logits.device)
    ).backward()


def attention(kernel: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], None]:
    """Forward and backward pass of one attention of the policy's size."""
    tensors = [torch.randn(BATCH, 4, 107, 32).to(torch.bfloat16).requires_grad_() for _ in range(3)]

    def once() -> None:
        torch.autograd.grad(kernel(*tensors).float().sum(), tensors)

    return once


def main() -> int:
    device, precision = choose_device(), choose_precision(choose_device().type)
    policy = new_policy(INSTRUCTIONS, seed=0)
    policy.model.to(device)
    judge = new_judge(INSTRUCTIONS, seed=0)
    judge.model.to(device)
    images = torch.randint(0, 256, (BATCH, 3, 64, 64), dtype=torch.uint8)
    sentences = [INSTRUCTIONS[b % 2] for b in range(BATCH)]
    print(f"{device}, {torch.get_num_threads()} thread(s), precision {precision}, batch {BATCH}")

    full = fastest(lambda: policy.act(images, sentences))
    policy.precision = judge.precision = precision
    act = fastest(lambda: policy.act(images, sentences))
    learn = fastest(lambda: learn_once(policy, images, sentences))
    films = images[:, None].expand(-1, 3, -1, -1, -1)
    verdict = fastest(lambda: judge.judge(films, sentences))
    print(f"act            {act:7.3f} s   {full / act:5.1f} times as fast as in float32")
    print(f"learn          {learn:7.3f} s   {learn / act:5.1f} times an act")
    print(f"judge 3 frames {verdict:7.3f} s   {verdict / act:5.1f} times an act")
    if device.type == "cpu":
        fused = fastest(attention(F.scaled_dot_product_attention))
        written = fastest(attention(lambda q, k, v: attend(q, k, v, visible=None)))
        print(f"attention written out: {fused / written:.1f} times as fast as the fused kernel, both passes")
    held = "held" if act < BUDGET_S else "BROKEN"
    print(f"budget: act within {BUDGET_S} s on one core {held}, {act / BUDGET_S:.2f} of it used")
    return 0 if act < BUDGET_S else 1


if __name__ == "__main__":
    sys.exit(main())
