"""The tanh form of the Gaussian error linear unit, each time by the way that this machine computes fastest.

Checkpoints were trained with x (1 + tanh y) / 2, y = sqrt(2 / pi) (x + 0.044715 x^3), and in float32 that is
what comes out. The exact form x Phi(x) differs from it by less than 0.0005 everywhere, which is less than
bfloat16 rounds away once values pass 0.1, and a processor computes it five times as fast.

Source: Hendrycks and Gimpel 2016 (arXiv:1606.08415) section 2.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CUBIC = 0.044715  # of x cubed in the tanh form


def gelu(x: Tensor) -> Tensor:
    """The tanh form; on a processor in bfloat16 the exact form, with and without gradients alike.

    A processor computes a sigmoid faster than a hyperbolic tangent, and x sigmoid(2 y) is x (1 + tanh y) / 2:
    in float32, where no gradient needs the steps in between, that is what is computed.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    if x.dtype == torch.bfloat16:
        return F.gelu(x)
    if x.dtype != torch.float32 or torch.is_grad_enabled():
        return F.gelu(x, approximate="tanh")
    slope = 2 * math.sqrt(2 / math.pi)
    twice = torch.addcmul(x.new_full((), slope), x, x, value=CUBIC * slope).mul_(x)
    return twice.sigmoid_().mul_(x)


class Gelu(nn.Module):
    """`gelu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)
