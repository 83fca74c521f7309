"""Standard input as FFmpeg reads it: it can be given up, and what lacks at its end is known."""

import select
import sys
from collections.abc import Callable
from io import BufferedReader
from typing import cast

from vsr.errors import SourceError
from vsr.sources.breaks import PieceCounter
from vsr.sources.ts_packets import TS_TAIL, missing_of_ts

__all__ = ["Stdin", "open_stdin"]

_HEADS = 64  # bytes that the heads of a block take
_MOMENT = 0.1  # seconds


class Stdin:
    """Standard input as FFmpeg reads it, its bytes and pieces counted.

    Whoever writes it may fall silent, and what waits for that within FFmpeg heeds no signal: so it
    is waited for here, and given up when that is wanted.

    Args:
        stream: to read from.
        should_stop: polled while there is nothing to read; True ends it as its end would.
    """

    def __init__(self, stream: BufferedReader, should_stop: Callable[[], bool]) -> None:
        self.total = 0
        """Bytes read so far."""
        self.given_up = False
        """Whether it was not waited for any longer."""
        self._should_stop = should_stop
        self._pieces = PieceCounter()
        self._tail = b""
        self._ended = False
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        while not self._is_ready():
            if self._should_stop():
                self.given_up = True
                return b""
        data = self._stream.read1(size)
        self.total += len(data)
        self._pieces.feed(data)
        self._tail = (self._tail + data)[-TS_TAIL:]
        self._ended = not data
        return data

    def _is_ready(self) -> bool:
        """Whether there is something to read, or an end, after a moment at the latest.

        What stands in for standard input in memory, without a descriptor, always has.
        """
        try:
            return bool(select.select([self._stream], [], [], _MOMENT)[0])
        except (OSError, ValueError):
            return True

    def missing(self, furthest: int | None) -> int:
        """Bytes that a piece of a Matroska, MP4, NUT or FLV stream lacks at its end, at least.

        Args:
            furthest: where FFmpeg found the last packet, None if packets lie deep within pieces. If
                it is far inside the piece that seems to be cut, its length is damaged.
        """
        damaged = furthest is not None and furthest > self._pieces.begin + _HEADS
        return self._pieces.missing if self._ended and not damaged else 0

    @property
    def missing_of_ts(self) -> int:
        """Bytes that the last packet of a transport stream lacks."""
        return missing_of_ts(self._tail) if self._ended else 0


def open_stdin(should_stop: Callable[[], bool]) -> Stdin:
    """Standard input.

    Args:
        should_stop: polled while it is awaited; True ends it as its end would.

    Raises:
        SourceError: it is a terminal, or closed.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise SourceError("standard input: is closed")
    if sys.stdin.isatty():
        raise SourceError("standard input: is a terminal, not a pipe")
    return Stdin(cast(BufferedReader, sys.stdin.buffer), should_stop)
