"""Times from one clock to another: whole numbers both, and none of them rounded."""

from fractions import Fraction

from vsr.rationals import LARGEST

__all__ = ["MICROSECOND", "Rebasing"]

MICROSECOND = Fraction(1, 1_000_000)
"""Seconds: what FFmpeg rounds to where it tells when a file begins."""


class Rebasing:
    """From a clock of units to one that counts from another moment, in units that fit both.

    A film of 25 frames a second may count in 1/25 s, and a part of it may begin in between: then
    its times are told in finer units, such as 1/50 s. Where FFmpeg cannot hold such units, the
    moment is rounded; so it is where FFmpeg has rounded it, which tells in microseconds where a
    file begins.

    Args:
        time_base: seconds in a unit of the first clock.
        origin: where the second clock begins, in seconds by the first.
    """

    def __init__(self, time_base: Fraction, origin: Fraction) -> None:
        steps = origin / time_base
        if abs(steps - round(steps)) * time_base <= MICROSECOND:
            steps = Fraction(round(steps))
        fine = time_base / steps.denominator
        fits = max(fine.numerator, fine.denominator) <= LARGEST
        self._factor = steps.denominator if fits else 1
        self.time_base = fine if fits else time_base
        """Seconds in a unit of the second clock."""
        self._origin = round(origin / self.time_base)

    def time(self, pts: int) -> int:
        """A time of the first clock by the second."""
        return self.duration(pts) - self._origin

    def duration(self, units: int) -> int:
        """A length of time."""
        return units * self._factor

    def back(self, pts: int) -> int:
        """A time of the second clock by the first."""
        return (pts + self._origin) // self._factor
