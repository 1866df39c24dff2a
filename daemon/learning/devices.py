"""Where tensors live and how precisely they are multiplied: chosen by probing, never by a setting.

Trap that `autocast` must be kept small for: autocast remembers the low precision copies of weights until
the outermost context ends, so an optimizer step inside it trains on stale copies and nothing fails.
Enter it around a forward pass and its loss only.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

PROBE_SIDE = 512  # a matrix about as large as a nano layer's work
PROBE_ROUNDS = 5
WORTH_IT = 1.3  # bfloat16 must win by this factor before precision is given away for it

_chosen: dict[str, torch.dtype] = {}  # by type of device; probed once per process


def choose_device() -> torch.device:
    """The accelerator when there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(device_type: str = "cpu") -> torch.dtype:
    """bfloat16 where this machine multiplies it clearly faster than float32, else float32."""
    if device_type not in _chosen:
        _chosen[device_type] = _probed(device_type)
    return _chosen[device_type]


@contextmanager
def precision_of(device_type: str, precision: torch.dtype) -> Iterator[None]:
    """Inside, this precision is what is chosen, however fast the machine is: to do again what was done."""
    before = _chosen.get(device_type)
    _chosen[device_type] = precision
    try:
        yield
    finally:
        del _chosen[device_type]
        if before is not None:
            _chosen[device_type] = before


def _probed(device_type: str) -> torch.dtype:
    if device_type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    faster = _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)
    return torch.bfloat16 if faster > WORTH_IT else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Matrix products in `precision`; with float32 a context that does nothing."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


def _product_seconds(dtype: torch.dtype) -> float:
    """The fastest of a few products: the slowest ones measure other processes."""
    matrix = torch.ones(PROBE_SIDE, PROBE_SIDE, dtype=dtype)
    took = []
    for _ in range(PROBE_ROUNDS):
        before = time.perf_counter()
        matrix @ matrix
        took.append(time.perf_counter() - before)
    return min(took)
