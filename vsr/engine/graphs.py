"""CUDA graphs: work on fixed memory, enqueued by one call instead of one for each kernel.

Note [Captured after warm-ups]
    What is captured is recorded, not run: constants that it would make the first time would never
    be computed, and kernels that are tuned the first time would be timed in the middle of it. So
    the first batches of a kind run as they are, and are results like any other.

Note [One pool for all graphs]
    Each graph keeps the memory of its intermediate values. They all run on one stream, so none of
    them is needed once its graph has ended, and all graphs share one pool. What outlives a graph,
    the outputs, lies in memory that was there before.

Note [Few kinds]
    A graph reads constants (:mod:`vsr.constants`) where they were when it was captured, and keeps
    those that were asked for meanwhile. The caches inside an engine hold them for ``KINDS`` kinds
    of batches, so that after the warm-ups none has to be made in the middle of a capture. With more
    kinds a constant might have to be made during a capture, and every graph costs memory. So beyond
    ``KINDS`` graphs are given up.

Note [A capture that fails]
    PyTorch takes a capture for ended only if CUDA has ended it well. Else its allocator would go on
    as if one were under way, in which it frees nothing that streams share, and would ask the graph
    whether memory is for it: so the allocator is told, and the graph stays.
"""

import gc
import logging
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from vsr.constants import collected

__all__ = ["KINDS", "WARM_UPS", "Captured", "Graphs", "HoldsGraph"]

logger = logging.getLogger(__name__)

WARM_UPS = 3
"""Batches of a kind before its first graph; a kernel may be tuned in more than one of them."""
KINDS = 8
"""Kinds of batches with graphs; see note [Few kinds]."""
_capturing = threading.Lock()
"""PyTorch captures one graph at a time in a process."""
_failed: list[torch.cuda.CUDAGraph] = []
"""See note [A capture that fails]."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A captured graph, and the constants that it reads, which are kept for it."""

    graph: torch.cuda.CUDAGraph
    constants: Sequence[object]

    def replay(self) -> None:
        """Enqueue it on the current stream."""
        self.graph.replay()


class HoldsGraph(Protocol):
    """The memory that a graph works on."""

    graph: Captured | None
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
        if self._enabled and len(self._runs) > KINDS:
            self._enabled = False  # see note [Few kinds]
            logger.info("CUDA graphs are given up: more than %d kinds of batches", KINDS)
        if not self._enabled:
            holder.graph = None
        elif holder.graph is None and runs >= WARM_UPS:
            holder.graph = self._capture(work)
        if holder.graph is not None:
            holder.graph.replay()
        else:
            self._runs[kind] += 1
            work()

    def _capture(self, work: Callable[[], None]) -> Captured | None:
        try:
            return self._record(work)
        except (RuntimeError, NotImplementedError) as error:
            self._enabled = False
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            logger.warning("CUDA graphs are not used, which costs speed alone: %s", *reason)
            return None

    def _record(self, work: Callable[[], None]) -> Captured:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        mode = "thread_local"  # other threads decode and collect meanwhile
        with _capturing, _no_garbage_collection():
            try:
                with (
                    torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode=mode),
                    collected() as constants,
                ):
                    work()
            except BaseException:
                self._abandon(graph)
                raise
        return Captured(graph, constants)

    def _abandon(self, graph: torch.cuda.CUDAGraph) -> None:
        """End a capture for the allocator, too; see note [A capture that fails]."""
        with suppress(RuntimeError):  # of one that has ended, or not begun
            torch._C._cuda_endAllocateToPool(self._stream.device_index, self._pool)
            _failed.append(graph)
            torch._C._cuda_releasePool(self._stream.device_index, self._pool)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep graphs of engines that are no longer there from being destroyed inside a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
