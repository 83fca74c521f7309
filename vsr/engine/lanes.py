"""A CPU's cores, dealt out to pictures that are rendered at the same time.

Note [Two pictures at a time]
    Convolutions spread over all cores well. What surrounds them does not (reading samples,
    resampling chroma, measuring the result), and after each of them the threads wait for the last,
    which an encoder may have put off its core. Two pictures, each on half of the cores, do not wait
    for each other.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import torch

from vsr.prefetch import prefetch
from vsr.progress import Boundary

__all__ = ["in_lanes", "share_of_cores"]


@contextmanager
def share_of_cores(lanes: int) -> Iterator[int]:
    """Within the block PyTorch takes, and gives to new threads, one lane's share of its threads.

    Args:
        lanes: how many there are.

    Yields:
        The share.
    """
    threads = torch.get_num_threads()
    share = max(1, threads // lanes)
    torch.set_num_threads(share)
    try:
        yield share
    finally:
        torch.set_num_threads(threads)


def in_lanes[T, R](
    items: Iterable[T], work: Callable[[int, T], R], lanes: int
) -> Generator[R, None, None]:
    """What ``work`` makes of ``items``, in order; each lane is a thread with its share of cores.

    A result is given as soon as it and those ahead of it are there, however long the next item is
    in coming. An error in ``items`` is raised after the results of what came before it. Closing the
    generator waits for what is being made.

    Args:
        items: iterated on a thread of its own, at most ``lanes + 1`` ahead of the results.
        work: gets the number of the lane, which does one thing at a time, and an item.
        lanes: how many work at the same time, two at least.
    """
    with share_of_cores(lanes) as share, ExitStack() as stack:
        workers = [
            stack.enter_context(ThreadPoolExecutor(1, "vsr-lane", torch.set_num_threads, (share,)))
            for _ in range(lanes)
        ]
        under_way = (
            workers[count % lanes].submit(work, count % lanes, item)
            for count, item in enumerate(items)
        )
        ahead = prefetch(under_way, depth=lanes - 1, boundary=Boundary("lanes"))
        for result in stack.enter_context(closing(ahead)):
            yield result.result()
