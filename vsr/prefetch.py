"""A thread boundary: what one stage of a run makes, on a thread of its own, ahead of the next."""

import queue
import threading
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass

from vsr.progress import Boundary

__all__ = ["prefetch"]


@dataclass(slots=True)
class _End:
    error: BaseException | None = None


def prefetch[T](
    upstream: Iterable[T], *, depth: int, boundary: Boundary
) -> Generator[T, None, None]:
    """Run ``upstream`` on its own thread, at most ``depth`` items ahead of the reader.

    An error upstream is raised here, after the items that preceded it, with a note that names the
    stage. Closing the generator early stops the thread and closes ``upstream``; it waits for the
    item that the thread is making. Hold it in ``contextlib.closing``.

    Args:
        upstream: what to iterate; closed on its thread if it has ``close``.
        depth: how many finished items may wait.
        boundary: clock of this thread boundary, its name is the stage's.
    """
    ready: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    stop, over = threading.Event(), threading.Event()

    def work() -> None:
        end = _End()
        try:
            _pump(upstream, ready, stop, boundary)
        except BaseException as error:  # noqa: BLE001 - it is raised again at the reader
            end.error = _reported(error, boundary.name)
        try:
            if not stop.is_set():
                ready.put(end)
        finally:
            over.set()

    thread = threading.Thread(target=work, name=f"vsr-{boundary.name}", daemon=True)
    thread.start()
    try:
        while not isinstance(item := _timed_get(ready, boundary), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        _end(thread, over, ready, stop)


def _end[T](
    thread: threading.Thread,
    over: threading.Event,
    ready: "queue.Queue[T]",
    stop: threading.Event,
) -> None:
    """Wait for the item that the thread is making, when interrupted as well.

    A thread that outlived the interpreter would abort the process from within the C++ that it runs.
    It says itself that it is ``over``: an interrupted ``join`` takes a thread that runs for a
    stopped one (CPython 3.12).
    """
    interrupt = None
    while not over.is_set():
        try:
            stop.set()
            _discard(ready)  # makes room for a put() that is blocked
            over.wait(0.01)
        except KeyboardInterrupt as error:
            interrupt = error
    thread.join()
    if interrupt is not None:
        raise interrupt


def _reported(error: BaseException, stage: str) -> BaseException:
    """``error`` with a note of where it was; what would end a thread in silence has words."""
    found = error
    if not isinstance(error, Exception):  # SystemExit would end the process as if all were well
        found = RuntimeError(f"the thread of stage {stage!r} has died of {type(error).__name__}")
        found.__cause__ = error
    found.add_note(f"in stage {stage!r}")
    return found


def _pump[T](
    upstream: Iterable[T], ready: "queue.Queue[T | _End]", stop: threading.Event, clock: Boundary
) -> None:
    """Move items from ``upstream`` to ``ready`` until either end is done."""
    items = iter(upstream)
    try:
        while not stop.is_set():
            started = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                made = time.perf_counter()
                clock.producing += made - started
            ready.put(item)
            clock.blocked_put += time.perf_counter() - made
            clock.items += 1
    finally:
        if hasattr(items, "close"):
            items.close()


def _timed_get[T](ready: "queue.Queue[T]", boundary: Boundary) -> T:
    started = time.perf_counter()
    item = ready.get()
    boundary.blocked_get += time.perf_counter() - started
    return item


def _discard[T](ready: "queue.Queue[T]") -> None:
    try:
        while True:
            ready.get_nowait()
    except queue.Empty:
        return
