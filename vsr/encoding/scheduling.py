"""Threads that run like all others, whatever an encoder asks of the system.

Note [SVT-AV1 takes the processor]
    As root, which one is in most containers, SVT-AV1 puts the thread that opens it, and all of its
    own, under the real-time policy SCHED_FIFO with priority 99, above nearly everything else on the
    machine; each thread that is started from there inherits that. Opened once to see whether it
    takes a size, it would do so to the decoder and the network too, whose threads wait for each
    other in loops that expect to share their cores.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["usual_scheduling"]

_TAKERS = ("libsvtav1",)
_THREADS = Path("/proc/self/task")


@contextmanager
def usual_scheduling(codec: str) -> Iterator[None]:
    """What FFmpeg's encoder ``codec`` starts in the block is scheduled as the calling thread is.

    See note [SVT-AV1 takes the processor].
    """
    if codec not in _TAKERS or not _THREADS.is_dir():
        yield
        return
    before = _threads()
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in {threading.get_native_id(), *(_threads() - before)}:
            with suppress(OSError):  # it has ended
                os.sched_setscheduler(thread, policy, priority)


def _threads() -> set[int]:
    """All threads of this process."""
    return {int(path.name) for path in _THREADS.iterdir()}
