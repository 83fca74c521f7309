"""How much of a training's time a GPU works."""

import time

import torch
from torch.profiler import ProfilerActivity, profile

from training.trainer import Trainer

__all__ = ["busy_share"]

_WARM_UP = 5


def busy_share(trainer: Trainer, steps: int = 20) -> tuple[float, float]:
    """Train a few steps under the profiler.

    Args:
        trainer: on a GPU; it advances by a few steps.
        steps: how many are timed.

    Returns:
        The share of the time in which a kernel ran, 0 to 1 (kernels that overlap count once), and
        milliseconds a step.
    """
    for _ in range(_WARM_UP):
        trainer.advance()
    torch.cuda.synchronize(trainer.device)
    began = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(steps):
            trainer.advance()
        torch.cuda.synchronize(trainer.device)
        seconds = time.perf_counter() - began
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA"
    )
    return _covered(spans) / 1e6 / seconds, 1e3 * seconds / steps


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of ``spans``, which are sorted."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
