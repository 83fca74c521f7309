"""How long a call takes on a device."""

import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch

__all__ = ["in_turn", "milliseconds", "synchronise"]


def synchronise(device: torch.device) -> None:
    """Wait until ``device`` has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(
    run: Callable[[], object], device: torch.device, calls: int = 5, *, enough: float = math.inf
) -> float:
    """Median time of a call, after one that compiles, chooses and warms.

    Args:
        run: on a GPU it enqueues on the current stream of ``device``.
        device: which is waited for before and after each call.
        calls: how many are timed.
        enough: milliseconds after which no further one is.
    """
    run()
    times: list[float] = []
    while not times or (len(times) < calls and sum(times) < enough):
        times.append(_once(run, device))
    return statistics.median(times)


def in_turn(
    runs: Mapping[str, Callable[[], object]], device: torch.device, turns: int
) -> dict[str, float]:
    """Median milliseconds of each of several calls, one after another in every turn.

    What else the machine does meanwhile slows all of them alike. One turn more than ``turns``, the
    first, compiles, chooses and warms.
    """
    rounds = [{name: _once(run, device) for name, run in runs.items()} for _ in range(turns + 1)]
    return {name: statistics.median(times[name] for times in rounds[1:]) for name in runs}


def _once(run: Callable[[], object], device: torch.device) -> float:
    """On a GPU between two events, of which the first waits for nothing that was told before."""
    synchronise(device)
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return 1000 * (time.perf_counter() - began)
    begin, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    begin.record(torch.cuda.current_stream(device))
    run()
    end.record(torch.cuda.current_stream(device))
    end.synchronize()
    return float(begin.elapsed_time(end))
