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
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        trainer.advance()  # starting the profiler takes a while, which is not the training's
        torch.cuda.synchronize(trainer.device)
        began = time.perf_counter()
        for _ in range(steps):
            trainer.advance()
        torch.cuda.synchronize(trainer.device)
        seconds = time.perf_counter() - began
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA"
    )
    worked = _covered(spans) * steps / (steps + 1) / 1e6
    return worked / seconds, 1e3 * seconds / steps


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of ``spans``, which are sorted."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
