"""What a run is told from outside: stop, stop at once, and that nobody listens any more.

Note [A terminal that closes]: its processes get SIGHUP, and what they then write to it fails with
EIO; behind ``2>&1 | head`` it fails with EPIPE. The signal means stop, as SIGTERM does, unless
whoever started the run wants it to go on (``nohup`` ignores the signal for it). A message that
cannot be written is no reason to lose a film, so :func:`lasting_stderr` drops it.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

__all__ = ["Interrupts", "lasting_stderr"]

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """First Ctrl-C (or SIGTERM, or SIGHUP): end cleanly after this frame. Second: abort.

    Attributes:
        stopping: set by the first.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()

    def _handle(self, number: int, frame: object) -> None:
        if self.stopping.is_set():
            raise KeyboardInterrupt
        self.stopping.set()
        sys.stderr.write("\nstopping after this frame; press Ctrl-C again to abort\n")
        sys.stderr.flush()

    @contextmanager
    def installed(self) -> Iterator["Interrupts"]:
        """Handle signals in this block, if it runs on the main thread; ignored ones stay so."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        known = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
        heeded = [s for s in known if signal.getsignal(s) != signal.SIG_IGN]
        previous = {s: signal.signal(s, self._handle) for s in heeded}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class _Lasting:
    """A text stream on which writing never fails; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text`` if anybody listens."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: it is closed
            return len(text)

    def flush(self) -> None:
        """Flush if anybody listens."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._stream, name)


@contextmanager
def lasting_stderr() -> Iterator[None]:
    """In this block, what is written to ``sys.stderr`` may be lost, but does not fail."""
    before = sys.stderr
    if before is None:  # a process without one
        yield
        return
    sys.stderr = cast(TextIO, _Lasting(before))
    try:
        yield
    finally:
        sys.stderr = before
