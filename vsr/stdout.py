"""Standard output as a stream of bytes, kept clean of everything else that is printed."""

import ctypes
import errno
import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vsr.errors import ConfigError

__all__ = ["ReaderGone", "Stdout", "is_waiting", "printing_aside", "reserve_stdout"]

_STDOUT, _STDERR = 1, 2
_waiting = False


def is_waiting() -> bool:
    """Whether a write to standard output is under way right now, and may block.

    Python repeats an ``os.write`` that a signal interrupted (PEP 475), and FFmpeg, which called it,
    checks for none: so only an exception from the signal handler ends such a write.
    """
    return _waiting


class ReaderGone(BrokenPipeError):
    """Whoever read standard output does not any more: no error, but the end of the run."""


class Stdout:
    """The way to standard output's reader; in order and complete, no going back."""

    def __init__(self, descriptor: int) -> None:
        self.gone = False
        """Whether the reader has gone away."""
        self._descriptor = descriptor

    def write(self, data: bytes | memoryview) -> int:
        """Write all of ``data``, however long the reader takes; returns its length in bytes.

        Raises:
            ReaderGone: nobody reads; or the wait was interrupted, now or before.
            OSError: e.g. standard output is a file and the disk is full.
        """
        if self.gone:
            raise ReaderGone(errno.EPIPE, "the reader of standard output has gone")
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self._write_some(rest) :]
        return memoryview(data).nbytes

    def _write_some(self, data: memoryview) -> int:
        global _waiting
        _waiting = True
        try:
            return os.write(self._descriptor, data)
        except KeyboardInterrupt:
            self.gone = True
            raise ReaderGone(errno.EPIPE, "standard output is not read") from None
        except BrokenPipeError as error:
            self.gone = True
            raise ReaderGone(error.errno, "the reader of standard output has gone") from error
        except BlockingIOError:  # a descriptor that another process has set not to block
            select.select([], [self._descriptor], [])
            return 0
        finally:
            _waiting = False


@contextmanager
def reserve_stdout() -> Iterator[Stdout]:
    """Keep standard output for a stream: in this block everything that is printed goes to stderr.

    That includes what C libraries print: the descriptor itself is redirected.

    Raises:
        ConfigError: standard output is a terminal, or closed.
    """
    with suppress(AttributeError, ValueError, OSError):  # none, or closed
        sys.stdout.flush()
    try:
        stream = os.dup(_STDOUT)
    except OSError:
        raise ConfigError("standard output is closed: there is nowhere to write to") from None
    try:
        if os.isatty(stream):
            raise ConfigError("standard output is a terminal: pipe it to a program or a file")
        os.dup2(_STDERR, _STDOUT)
        try:
            yield Stdout(stream)
        finally:
            _flush_everything()
            os.dup2(stream, _STDOUT, inheritable=True)
    finally:
        os.close(stream)


def _flush_everything() -> None:
    """Print what Python and C still hold back, before it could go the wrong way."""
    with suppress(AttributeError, ValueError, OSError):
        sys.stdout.flush()
    with suppress(OSError, TypeError):  # where no C library is found in this way
        ctypes.CDLL(None).fflush(None)


_lock = threading.Lock()
_depth = 0
_usual = _aside = sys.stdout


@contextmanager
def printing_aside() -> Iterator[None]:
    """What Python prints in the block goes to standard error.

    While any thread is in such a block, that is so for all: ``redirect_stdout`` would leave it so
    if they overlap. What somebody else has made ``sys.stdout`` meanwhile is left there.
    """
    global _depth, _usual, _aside
    with _lock:
        if not _depth:
            _usual, sys.stdout = sys.stdout, sys.stderr
            _aside = sys.stdout
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth and sys.stdout is _aside:
                sys.stdout = _usual
