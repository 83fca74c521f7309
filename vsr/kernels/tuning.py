"""How long something takes on a CUDA device, and what settles that beside the device."""

import statistics
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

__all__ = ["device_name", "difference", "milliseconds"]

_ROUNDS = 5
_OVERALL, _ANYWHERE = 0.03, 0.2
"""How far results may be apart, as parts of what they are: on average (root mean square), and at
the worst place. Rounding to bfloat16 takes a third of that, an edge that was left out is all."""


@cache
def device_name(device: torch.device) -> str:
    """A device with the versions that decide how fast it is."""
    import triton

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{name}, torch {torch.__version__}, triton {triton.__version__}"


def difference(found: Tensor, expected: Tensor) -> str | None:
    """In words, how ``found`` differs from ``expected`` by more than rounding; None if it does not.

    Args:
        found: what kernels made.
        expected: what they should have made, of the same shape and device.
    """
    apart, size = (found.float() - expected.float()).abs(), expected.float().abs()
    overall = float(apart.square().mean().sqrt() / size.square().mean().sqrt())
    worst = float(apart.max() / size.max())
    if overall <= _OVERALL and worst <= _ANYWHERE:  # not so of what is no number
        return None
    return f"{overall:.1%} on average, {worst:.1%} at the worst place"


def milliseconds(run: Callable[[], object]) -> float:
    """Median time of ``run`` on the current CUDA device, after one call that compiles and warms."""
    run()
    times = []
    for _ in range(_ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return float(statistics.median(times))
