"""How long something takes on a CUDA device, and the key under which it is remembered."""

import statistics
from collections.abc import Callable
from functools import cache

import torch

import vsr

__all__ = ["device_name", "milliseconds"]

_ROUNDS = 5


@cache
def device_name(device: torch.device) -> str:
    """A device with the versions that decide how fast it is, of our kernels among them."""
    import triton

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{name}, torch {torch.__version__}, triton {triton.__version__}, vsr {vsr.__version__}"


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
