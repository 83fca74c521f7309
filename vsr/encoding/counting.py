"""At what rate frames are counted in containers that have no timestamps (AVI)."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

__all__ = ["counted_rate"]

_COMMON = tuple(Fraction(rate * 1000, per) for rate in (50, 60, 120) for per in (1001, 1000))
_FINEST = Fraction(240)
"""Frames are at most 2 ms beside their times, and an hour is 20 MB larger."""
_EXACT = Fraction(1, 1000)
"""Seconds: what Matroska rounds times to."""


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
    for finer in (*(rate * count for count in (2, 3, 4, 5)), *_COMMON):
        if not rate < finer < _FINEST or (largest is not None and finer.numerator > largest):
            continue
        misses = _misses(times, finer)
        if misses is not None and misses <= _EXACT:
            return finer
    return max(rate, _FINEST)


def _misses(times: Sequence[Fraction], rate: Fraction) -> Fraction | None:
    """By how much the worst frame is beside its place; None if two have the same."""
    since = [time - times[0] for time in times]
    places = [round(time * rate) for time in since]
    if any(later <= place for place, later in pairwise(places)):
        return None
    return max((abs(p / rate - t) for p, t in zip(places, since, strict=True)), default=Fraction(0))
