"""A way of running a network as the engine runs it on a GPU: in CUDA graphs."""

from collections.abc import Callable

import torch
from torch import Tensor

from vsr.engine.graphs import WARM_UPS, Captured, Graphs

__all__ = ["graphed"]

Run = Callable[[Tensor], Tensor]


class _Place:
    """What a graph of ``run`` reads and writes."""

    def __init__(self, run: Run, source: Tensor) -> None:
        self.source = self.result = source
        self.graph: Captured | None = None
        self._run = run

    def work(self) -> None:
        """One run; what a graph repeats."""
        self.result = self._run(self.source)


def graphed(run: Run, device: torch.device) -> Run:
    """``run`` in CUDA graphs on ``device``, one for each size of picture.

    The first call of a size runs it as it is, and captures it. The result is overwritten by the
    next call of the same size.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    graphs, places = Graphs(stream), dict[torch.Size, _Place]()

    def replay(picture: Tensor) -> Tensor:
        current = torch.cuda.current_stream(device)
        stream.wait_stream(current)
        with torch.inference_mode(), torch.cuda.stream(stream):
            calls = 1
            if picture.shape not in places:
                places[picture.shape] = _Place(run, picture.clone())
                calls += WARM_UPS
            place = places[picture.shape]
            place.source.copy_(picture)
            for _ in range(calls):
                graphs.run(place, picture.shape, place.work)
        current.wait_stream(stream)
        return place.result

    return replay
