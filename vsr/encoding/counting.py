"""At what rate frames are counted in containers that have no timestamps (AVI)."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from vsr.errors import ConfigError

__all__ = ["are_even", "check_gaps", "counted_rate"]

_COMMON = tuple(Fraction(rate * 1000, per) for rate in (50, 60, 120) for per in (1001, 1000))
_FINEST = Fraction(240)
"""Frames are at most 2 ms beside their times, and an hour is 20 MB larger."""
_EXACT = Fraction(1, 1000)
"""Seconds: what Matroska rounds times to."""
_MOST_EMPTY = 60_000
"""Places in a row that FFmpeg leaves empty in AVI."""


def are_even(times: Sequence[Fraction], rate: Fraction) -> bool:
    """Whether frames at ``times``, in seconds, lie where those of ``rate`` do, but for rounding."""
    misses = _misses(times, rate)
    return misses is not None and misses <= _EXACT


def counted_rate(
    times: Sequence[Fraction], rate: Fraction, *, largest: int | None = None
) -> Fraction:
    """The lowest usual rate at which each of some frames has a place of its own.

    Film that goes on as video does not fit its rate of 24000/1001, but 120000/1001: were it counted
    on at the first, the picture would fall behind the sound. Places between frames stay empty.

    Args:
        times: when frames are shown, in seconds, in order.
        rate: at which they come for the most part; theirs if they all fit.
        largest: numerator that the codec can write.
    """
    if _misses(times, rate) is not None:
        return rate
    pause = max(later - time for time, later in pairwise(times))
    usual = (*(rate * count for count in (2, 3, 4, 5)), *_COMMON)
    finer = [
        one for one in (*usual, _FINEST)
        if one > rate and one * pause <= _MOST_EMPTY
        and (largest is None or one.numerator <= largest)
    ]  # fmt: skip
    exact = (one for one in finer if one < _FINEST and are_even(times, one))
    return next(exact, max(finer, default=rate))


def check_gaps(times: Sequence[Fraction], rate: Fraction) -> None:
    """Refuse frames between which more places would be empty than FFmpeg's AVI can have.

    The last frame does not count: it may be one whose time is wrong, and is repaired.

    Args:
        times: when frames are shown, in seconds, in order.
        rate: at which they are counted.

    Raises:
        ConfigError: there is such a gap.
    """
    for time, later in pairwise(times[:-1]):
        empty = round((later - time) * rate) - 1
        if empty > _MOST_EMPTY:
            raise ConfigError(
                f"avi counts frames and leaves at most {_MOST_EMPTY} places in a row empty; here a"
                f" gap of {float(later - time):.0f} s would take {empty}: write .mkv or .mp4, which"
                " have times"
            )


def _misses(times: Sequence[Fraction], rate: Fraction) -> Fraction | None:
    """By how much the worst frame is beside its place; None if two have the same."""
    since = [time - times[0] for time in times]
    places = [round(time * rate) for time in since]
    if any(later <= place for place, later in pairwise(places)):
        return None
    return max((abs(p / rate - t) for p, t in zip(places, since, strict=True)), default=Fraction(0))
