"""Decoded frames with their place in time, looked at before they are taken."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, pairwise

from av.video.frame import VideoFrame

from vsr.sources.planes import frame_bytes

__all__ = ["Lookahead", "TimedFrame", "with_next"]


def with_next[T](items: Iterable[T]) -> Iterator[tuple[T, T | None]]:
    """Each of ``items`` and the one after it, None after the last."""
    for item, coming in pairwise(chain(items, (None,))):
        assert item is not None
        yield item, coming


@dataclass(slots=True)
class TimedFrame:
    """A decoded frame with its place in time, in units of its reader and not shifted."""

    frame: VideoFrame
    pts: int
    repaired: bool = False
    damaged: bool = False
    sar: Fraction | None = None
    """Its own sample aspect ratio, None if unknown: a decoder that runs ahead tells of others."""
    icc: bytes | None = None
    """The ICC profile of its file, if that holds nothing else."""
    not_finite: bool = False
    """Whether samples are known to be no numbers, or infinite."""


Read = Callable[[], TimedFrame | None]
"""Gives the next frame of a reader; None at the end."""


class Lookahead(deque[TimedFrame]):
    """Frames that were decoded and not taken yet, in front of those that are still to be read."""

    def take(self, read: Read) -> TimedFrame | None:
        """The next frame, which ``read`` gives if none is held; None at the end."""
        return self.popleft() if self else read()

    def peek(self, read: Read, count: int, size: int) -> list[TimedFrame]:
        """Up to ``count`` of the coming frames, together about ``size`` bytes; they stay."""
        held = sum(frame_bytes(timed.frame) for timed in self)
        while len(self) < count and held < size and (timed := read()) is not None:
            self.append(timed)
            held += frame_bytes(timed.frame)
        return list(islice(self, count))
