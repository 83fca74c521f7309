"""Frames asked of VapourSynth ahead of their reader, which can be given up.

Note [A frame that never comes]
    A filter may wait for ever: for a network, or for a frame that waits for this one. VapourSynth
    knows no way to take a request back, and frees nothing that one is under way for: to destroy the
    environment would wait, too, and so would the end of the interpreter. So who gives up waiting
    leaves all of it behind.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from vsr.sources.environment import Environment

__all__ = ["FrameRequests", "GivenUpError"]

_MOMENT = 0.1
_PATIENCE = 3.0
"""Seconds that a frame is waited for after it was said to stop; most come by then."""
_INTERRUPTED_PATIENCE = 1.0
"""The same after an exception that is no error, as Ctrl-C raises it."""


class GivenUpError(Exception):
    """A frame was not waited for any longer, because that was wanted."""


class FrameRequests:
    """Frames of a clip in order, some of them asked for ahead; for one thread at a time.

    Args:
        node: a ``vapoursynth.VideoNode``.
        environment: where it lives.
        first: number of the first frame.
        ahead: how many are made or held at a time.
        should_stop: polled while a frame is awaited; True ends the waiting after some seconds.

    Attributes:
        abandoned: whether frames are still being made that nobody waits for; see note [A frame that
            never comes].
    """

    def __init__(
        self, node: Any, environment: Environment, *, first: int, ahead: int,  # noqa: ANN401
        should_stop: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.abandoned = False
        self._node, self._environment, self._should_stop = node, environment, should_stop
        self._ahead, self._coming, self._count = ahead, first, node.num_frames
        self._requested: deque[Future[Any]] = deque()
        self._stopped_at: float | None = None

    def next(self) -> Any:  # noqa: ANN401
        """The next frame, to be closed; None after the last one.

        Raises:
            vapoursynth.Error: it cannot be made.
            GivenUpError: it did not come, and is not waited for any longer.
        """
        while len(self._requested) < self._ahead and self._coming < self._count:
            with self._environment.use():
                self._requested.append(self._node.get_frame_async(self._coming))
            self._coming += 1
        if not self._requested:
            return None
        try:
            self._await(self._requested[0])
        except GivenUpError:
            self.abandoned = True
            raise
        except BaseException:  # of a signal's handler
            self._await_rest(time.monotonic() + _INTERRUPTED_PATIENCE)
            raise
        return self._requested.popleft().result()

    def close(self) -> None:
        """Wait for the frames that were asked for, unless they are given up."""
        if self.abandoned:
            return
        try:
            self._await_rest(None)
        except BaseException:
            self.abandoned = True
            raise

    def _await_rest(self, until: float | None) -> None:
        try:
            while self._requested:
                self._await(self._requested[0], until)
                future = self._requested.popleft()
                if future.exception() is None:
                    future.result().close()
        except GivenUpError:
            self.abandoned = True

    def _await(self, future: "Future[Any]", until: float | None = None) -> None:
        """Wait for ``future`` to be done.

        Args:
            future: one that was requested.
            until: give up at this time, by the monotonic clock; None: when it was said to stop.

        Raises:
            GivenUpError: it is not.
        """
        while not _is_done(future):
            now = time.monotonic()
            if self._stopped_at is None and self._should_stop():
                self._stopped_at = now
            stopped = None if self._stopped_at is None else self._stopped_at + _PATIENCE
            if any(limit is not None and now >= limit for limit in (until, stopped)):
                raise GivenUpError


def _is_done(future: "Future[Any]") -> bool:
    """Whether it is done after a moment at the latest."""
    try:
        future.exception(timeout=_MOMENT)
    except TimeoutError:
        return future.done()
    return True
