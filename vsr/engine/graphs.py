"""CUDA graphs: work on fixed memory, enqueued by one call instead of one for each kernel.

Note [Captured after warm-ups]
    What is captured is recorded, not run: constants that it would make the first time would never
    be computed, and kernels that are tuned the first time would be timed in the middle of it. So
    the first batches of a kind run as they are, and are results like any other.

Note [One pool for all graphs]
    Each graph keeps the memory of its intermediate values. They all run on one stream, so none of
    them is needed once its graph has ended, and all graphs share one pool. What outlives a graph,
    the outputs, lies in memory that was there before.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch

__all__ = ["Graphs", "HoldsGraph"]

logger = logging.getLogger(__name__)

_WARM_UPS = 3
"""Batches of a kind before its first graph; a kernel may be tuned in more than one of them."""
_KINDS = 8
"""Kinds of batches with graphs: as many as the smallest cache of constants holds geometries."""
_capturing = threading.Lock()
"""PyTorch captures one graph at a time in a process."""


class HoldsGraph(Protocol):
    """The memory that a graph works on."""

    graph: torch.cuda.CUDAGraph | None
    """None before it was captured."""


class Graphs:
    """Runs work, and captures it for each memory that it is run on.

    Args:
        stream: on which everything runs.
        enabled: False runs everything as it is.
    """

    def __init__(self, stream: torch.cuda.Stream, *, enabled: bool = True) -> None:
        self._stream, self._enabled = stream, enabled
        self._pool: Any = None
        self._runs: Counter[Hashable] = Counter()

    def run(self, holder: HoldsGraph, kind: Hashable, work: Callable[[], None]) -> None:
        """Enqueue ``work`` on the stream, which is the current one.

        Args:
            holder: the memory that ``work`` reads and writes, and its graph.
            kind: what makes two pieces of work alike but for their memory.
            work: must wait for nothing, and do the same each time.
        """
        runs = self._runs.setdefault(kind, 0)
        if len(self._runs) > _KINDS:
            self._enabled = False  # see note [Few kinds]
        if not self._enabled:
            holder.graph = None
        elif holder.graph is None and runs >= _WARM_UPS:
            holder.graph = self._capture(work)
        if holder.graph is not None:
            holder.graph.replay()
        else:
            self._runs[kind] += 1
            work()

    def _capture(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        try:
            return self._record(work)
        except (RuntimeError, NotImplementedError) as error:
            self._enabled = False
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            logger.warning("CUDA graphs are not used, which costs speed alone: %s", *reason)
            return None

    def _record(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        mode = "thread_local"  # other threads decode and collect meanwhile
        with (
            _capturing,
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode=mode),
        ):
            work()
        return graph
