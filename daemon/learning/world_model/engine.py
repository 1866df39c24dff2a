"""How passes through the transformer are run: as written, compiled, or compiled and recorded as CUDA graphs.

All three give the same frames up to rounding. Compiling pays on long runs of one shape; graphs take the
processor out of the way where an accelerator is faster than its launches.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from daemon.learning.errors import LearningError

Engine: TypeAlias = Literal["eager", "compiled", "graphs"]
Chunk: TypeAlias = Callable[[Sequence[Tensor]], Tensor]

WARM_UPS = 3  # runs before a graph is recorded, so that every kernel is chosen by then


class EngineUnavailable(LearningError):
    """An engine that this machine cannot run."""

    code = "engine_unavailable"

    def __init__(self, *, engine: str, device: str) -> None:
        super().__init__(
            f"engine {engine} records CUDA graphs and the world model is on {device}. "
            "Use eager or compiled there."
        )


class Remembered(Protocol):
    """State that a recorded function changes: its tensors, always the same ones."""

    def tensors(self) -> Sequence[Tensor]: ...


def require_engine(engine: Engine, device: torch.device) -> None:
    """Refuse an engine that cannot work here.

    Raises:
        EngineUnavailable: graphs without a CUDA device.
    """
    if engine == "graphs" and device.type != "cuda":
        raise EngineUnavailable(engine=engine, device=device.type)


class RecordedChunk:
    """A chunk of imagination as one CUDA graph per shape; `state` is what the chunk changes in place."""

    def __init__(self, chunk: Chunk, state: Remembered) -> None:
        self._chunk, self._state = chunk, state
        self._graphs: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        shapes = tuple(part.shape for part in inputs)
        if shapes not in self._graphs:
            self._graphs[shapes] = self._recorded(inputs)
        graph, buffers, out = self._graphs[shapes]
        for buffer, part in zip(buffers, inputs, strict=True):
            buffer.copy_(part)
        graph.replay()
        return out.clone()

    def _recorded(self, inputs: Sequence[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        buffers = [part.clone() for part in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        before = [part.clone() for part in self._state.tensors()]
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._chunk(buffers)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        torch.clear_autocast_cache()  # weights cast outside of the graph would be gone when it is replayed
        with torch.cuda.graph(graph):
            out = self._chunk(buffers)
        torch.clear_autocast_cache()
        for part, kept in zip(self._state.tensors(), before, strict=True):
            part.copy_(kept)
        return graph, buffers, out
