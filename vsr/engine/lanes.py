"""A CPU's cores, dealt out to pictures that are rendered at the same time.

Note [Two pictures at a time]
    Convolutions spread over all cores well. What surrounds them does not (reading samples,
    resampling chroma, measuring the result), and after each of them the threads wait for the last,
    which an encoder may have put off its core. Two pictures, each on half of the cores, do not wait
    for each other.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from queue import SimpleQueue

import torch

from vsr.prefetch import prefetch
from vsr.progress import Boundary

__all__ = ["in_lanes", "share_of_cores"]

_AHEAD = 32
"""Items that cost nothing and may be taken ahead of one that does."""


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
    items: Iterable[T], work: Callable[[int, T], R], lanes: int, *,
    costs_nothing: Callable[[T], bool] = lambda _: False,
) -> Generator[R, None, None]:  # fmt: skip
    """What ``work`` makes of ``items``, in order; each lane is a thread with its share of cores.

    A result is given as soon as it and those ahead of it are there, however long the next item is
    in coming. An error in ``items`` is raised after the results of what came before it. Closing the
    generator waits for what is being made.

    Args:
        items: iterated on a thread of its own, at most ``lanes + 1`` that cost something ahead of
            the results.
        work: gets the number of the lane, which does one thing at a time, and an item.
        lanes: how many work at the same time.
        costs_nothing: whether an item needs no lane; its result is made where it is taken, on lane
            0 by name.
    """
    with share_of_cores(lanes) as share, ExitStack() as stack:
        pool = ThreadPoolExecutor(lanes, "vsr-lane", torch.set_num_threads, (share,))
        stack.callback(pool.shutdown, cancel_futures=True)
        dealt = _Lanes(work, lanes, pool)
        begun = dealt.begin(items, costs_nothing)
        ahead = prefetch(begun, depth=lanes + _AHEAD, boundary=Boundary("lanes"))
        stack.enter_context(closing(ahead))
        stack.callback(dealt.stop)
        for future in ahead:
            yield dealt.result(future)


class _Lanes[T, R]:
    """Hands items to lanes that are idle, and waits where too many results are not taken yet."""

    def __init__(self, work: Callable[[int, T], R], lanes: int, pool: ThreadPoolExecutor) -> None:
        self._work, self._pool = work, pool
        self._room = threading.Semaphore(lanes + 1)
        self._stopped = False
        self._idle = SimpleQueue[int]()
        for lane in range(lanes):
            self._idle.put(lane)

    def begin(
        self, items: Iterable[T], costs_nothing: Callable[[T], bool]
    ) -> Iterator[Future[R] | R]:
        """The result of each item, now or later."""
        for item in items:
            if costs_nothing(item):
                yield self._work(0, item)
                continue
            self._room.acquire()
            if self._stopped:
                return
            yield self._pool.submit(self._on_a_lane, item)

    def result(self, begun: Future[R] | R) -> R:
        """Wait for one of :meth:`begin`."""
        if not isinstance(begun, Future):
            return begun
        try:
            return begun.result()
        finally:
            self._room.release()

    def stop(self) -> None:
        """Begin no more, also where there was no room for it."""
        self._stopped = True
        self._room.release()

    def _on_a_lane(self, item: T) -> R:
        lane = self._idle.get()
        try:
            return self._work(lane, item)
        finally:
            self._idle.put(lane)
