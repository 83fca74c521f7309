"""The unit in which MP4 and MOV count the times of text subtitles.

FFmpeg's muxer lets no step from one time to the next, and no text, last for 2^31 - 1 units or more:
it moves what comes later to just behind what came before. In microseconds that is 35 minutes, which
a film with few subtitles exceeds.
"""

from fractions import Fraction
from itertools import pairwise

import av
from av.container import InputContainer
from av.stream import Stream

from vsr.ffmpeg import fraction

__all__ = ["base_of_converted", "base_of_copied"]

_MOST = 2**31 - 2
"""Units that a step may have."""
_EMPTY = 2
"""Bytes of mov_text that say that nothing is shown; the muxer fills gaps anew."""
_UNKNOWN_LENGTH = 12 * 3600
"""Seconds that an input may have that does not say how long it is."""


def base_of_converted(container: InputContainer) -> Fraction:
    """Seconds per unit for texts that come from another container.

    That is a whole part of a millisecond, in which Matroska counts, and as fine as the length of
    the input allows, down to a microsecond: FFmpeg's muxer compares the ends of texts with times of
    other streams, which count in other units. In coarse ones a text would seem over at once, and
    one that begins before its end would be late.
    """
    length = _length(container) or _UNKNOWN_LENGTH
    parts = int(_MOST / (length * 1000))
    return Fraction(1, 1000 * min(max(parts, 1), 1000))


def base_of_copied(stream: Stream) -> Fraction:
    """Seconds per unit for texts of MP4 or MOV: their own, unless a step in these is too long.

    Args:
        stream: of mov_text.
    """
    container, base = stream.container, fraction(stream.time_base)
    assert isinstance(container, InputContainer)
    times = [entry.timestamp for entry in stream.index_entries if entry.size > _EMPTY]
    end = round((_length(container) or 0) / base)
    longest = max((later - time for time, later in pairwise([*times, end])), default=0)
    return base if longest <= _MOST else base_of_converted(container)


def _length(container: InputContainer) -> Fraction | None:
    """Seconds from 0 to the end of ``container``, counted generously; None if it does not say.

    The length of the whole that FFmpeg tells does not always reach to the last text.
    """
    lengths = [
        fraction(stream.time_base) * (stream.duration + max(stream.start_time or 0, 0))
        for stream in container.streams if stream.duration and stream.time_base
    ]  # fmt: skip
    if container.duration:
        whole = container.duration + max(container.start_time or 0, 0)
        lengths.append(Fraction(whole, av.time_base))
    return max(lengths, default=None)
