"""Float32 by our kernels, or bf16: what a processor with AMX does faster.

Where bf16 is computed by vector instructions, our kernels were faster wherever that was measured.
AMX multiplies matrices of bf16 several times as fast, if a machine has the unit to itself; a
virtual one may share it with its neighbours, and says nothing of that. So it is measured, once.
"""

import time
from collections.abc import Callable
from functools import cache, partial

import torch

import vsr
from vsr.runtimes.eager import EagerRuntime
from vsr.timings import compare, processor_name

__all__ = ["faster"]

_HEIGHT, _WIDTH = 180, 320
_TURNS = 4
_WORTH_ROUNDING = 0.9
"""Of the time of float32: what saves less is not worth a result that is rounded."""

_chosen: dict[str, bool] = {}
"""Within a process the choice stands, also where it cannot be remembered: frames that are rendered
side by side are rendered alike."""


def faster(
    exact: EagerRuntime, make_rounded: Callable[[], EagerRuntime], network: str
) -> EagerRuntime:
    """The faster of two runtimes on this CPU; one choice for any number of threads, as of frames.

    Args:
        exact: in float32.
        make_rounded: makes the other, in bf16, which is not made where it is known to be slower.
        network: what settles its speed.

    Returns:
        ``exact``, unless rounding saves a tenth of the time.
    """
    made = {"float32": lambda: exact, "bfloat16": make_rounded}
    if network not in _chosen:
        timers = {name: partial(_milliseconds, cache(make)) for name, make in made.items()}
        device = f"{processor_name()}, torch {torch.__version__}, vsr {vsr.__version__}"
        times = compare(device, network, timers, _TURNS)
        _chosen[network] = times["bfloat16"] < _WORTH_ROUNDING * times["float32"]
    return make_rounded() if _chosen[network] else exact


def _milliseconds(make: Callable[[], EagerRuntime]) -> float:
    """The time of a second run: the first one finds the caches full of what another way left."""
    run, picture = make(), torch.rand(1, 3, _HEIGHT, _WIDTH)
    run(picture)
    began = time.perf_counter()
    run(picture)
    return 1000 * (time.perf_counter() - began)
