"""What a run is told from outside: stop, stop at once, and that nobody listens any more.

Note [Until the process is over]
    While Python ends itself, it answers a signal by dying of it, or with the traceback of what it
    was ending. The exit code is known by then, so nothing is heeded any more: the film may be
    complete, and who has stopped a run by two signals gets the code for that.

Note [A terminal that closes]
    The processes of a terminal that closes get SIGHUP, and what they then write to it fails with
    EIO; behind ``2>&1 | head`` it fails with EPIPE. The signal means stop, as SIGTERM does, unless
    whoever started the run wants it to go on (``nohup`` ignores the signal for it). A message that
    cannot be written is no reason to lose a film, so :func:`lasting_stderr` drops it.

Note [Amid an import]
    An exception out of a signal's handler leaves a module half imported, or is taken for a reason
    not to use it: NumPy cannot be loaded then, and what is said is an internal error. PyTorch takes
    seconds to load, in which nothing is written yet.

Note [In the middle of a line]
    A signal may come while the main thread writes to stderr, and a buffer of Python's refuses to be
    entered twice: what the handler says goes past it.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from vsr.cli.command import discard_rest
from vsr.completion import Stage, enter, reached
from vsr.stdout import is_waiting

__all__ = ["Interrupts", "ending_at_once", "heed_no_more", "lasting_stderr"]

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_ALARM: signal.Signals | None = getattr(signal, "SIGALRM", None)
_PATIENCE = 5.0  # seconds
_ANSWERS = {
    Stage.WORKING: "stopping after this frame",
    Stage.COMPLETING: "all frames are done: completing the output",
}
_POLITENESS = 0.5  # seconds, in which who waits for standard input may see that it is over


class Interrupts:
    """First Ctrl-C (or SIGTERM, or SIGHUP): end cleanly after this frame. Second: abort.

    Before there is a frame to end after, the first one aborts. A reader of standard output that
    takes nothing for some seconds after the first is not waited for any longer: a clean end would
    never come. When all frames are done, the first one only says so, and when the output gets its
    name, none does anything; see note [Too late to stop] in :mod:`vsr.completion`.

    Attributes:
        stopping: set by the first.
        begun: to be set when a frame is done.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.begun = False
        self._hurried = False

    def _handle(self, number: int, frame: object) -> None:
        if reached() is Stage.NAMING:
            return
        if self.stopping.is_set():
            raise KeyboardInterrupt
        self.stopping.set()
        if _ALARM is not None:
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE if self.begun else _POLITENESS, 1)
        if self.begun:
            _say(f"\n{_ANSWERS[reached()]}; press Ctrl-C again to abort\n")

    def _hurry(self, number: int, frame: object) -> None:
        if reached() is Stage.NAMING:
            return
        if is_waiting():
            raise KeyboardInterrupt
        if not self.begun and not self._hurried:  # once: what tidies up is left in peace
            self._hurried = True
            raise KeyboardInterrupt

    @contextmanager
    def installed(self) -> Iterator["Interrupts"]:
        """Handle signals in this block, if it runs on the main thread; ignored ones stay so."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        enter(Stage.WORKING)
        heeded = [s for s in _known() if signal.getsignal(s) != signal.SIG_IGN]
        previous = {s: signal.signal(s, self._handle) for s in heeded}
        if _ALARM is not None:
            previous[_ALARM] = signal.signal(_ALARM, self._hurry)
        try:
            yield self
        finally:
            if _ALARM is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextmanager
def ending_at_once(code: int) -> Iterator[None]:
    """In this block, if it runs on the main thread, a signal ends the process; after it, none does.

    Unless the output has its name already. See notes [Amid an import] and [Until the process is
    over].

    Args:
        code: that the process ends with.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        if reached() is not Stage.NAMING:
            _say("aborted\n")
            os._exit(code)

    enter(Stage.WORKING)
    for number in _known():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        heed_no_more()


def heed_no_more() -> None:
    """Ignore what asks for an end; see note [Until the process is over]."""
    if threading.current_thread() is threading.main_thread():
        for number in _known():
            signal.signal(number, signal.SIG_IGN)


def _say(text: str) -> None:
    """Write to stderr, if anybody listens; see note [In the middle of a line]."""
    with suppress(OSError, ValueError, AttributeError):  # closed, or without a number, or none
        os.write(sys.stderr.fileno(), text.encode())


def _known() -> list[signal.Signals]:
    """Those that the system has."""
    return [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]


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
        try:
            before.flush()
        except (OSError, ValueError):
            discard_rest(before)
