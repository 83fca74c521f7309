"""Timestamps of frames that only say how long they last, or that come with a list of times."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import lcm
from typing import Protocol

from vsr.rationals import LARGEST
from vsr.sources.timestamps import Timeline

__all__ = ["Clock", "DurationClock", "EvenClock", "ListClock", "fitting_time_base"]

_COMMON = 90_000
"""Milliseconds and MPEG's clock are whole numbers of it, and most frame rates."""
_FLICKS = 705_600_000
"""Units a second of which every common frame rate, but for those over 1001, takes whole numbers."""


def fitting_time_base(durations: Iterable[Fraction]) -> Fraction:
    """A time base in which all of ``durations``, milliseconds and 1/90000 s are whole numbers.

    Where FFmpeg cannot hold that, one for the durations alone; at worst 1/705600000 s.
    """
    needed = lcm(*(duration.denominator for duration in durations))
    units = (lcm(needed, _COMMON), needed, _FLICKS)
    return Fraction(1, next(unit for unit in units if unit <= LARGEST))


class Clock(Protocol):
    """Gives each frame its timestamp, in order."""

    time_base: Fraction
    """Seconds per unit."""
    rounded: int
    """Timestamps that are no whole number of units."""
    time: Fraction
    """When the latest frame is shown, in seconds and not rounded."""

    def place(self, index: int, duration: Fraction | None) -> tuple[int, bool]:
        """The timestamp of frame ``index``, and whether it had to be repaired."""

    def last_duration(self) -> int:
        """Duration of the last frame, in units."""


class EvenClock:
    """Every frame lasts one unit."""

    rounded = 0
    time = Fraction(0)

    def __init__(self, time_base: Fraction) -> None:
        self.time_base = time_base

    def place(self, index: int, duration: Fraction | None) -> tuple[int, bool]:
        """The frame's number."""
        self.time = index * self.time_base
        return index, False

    def last_duration(self) -> int:
        """One unit."""
        return 1


class DurationClock:
    """Sums durations, exactly; a timestamp is the sum of those before.

    Args:
        time_base: seconds per unit.
        usual: what to take for a frame that does not say how long it lasts.
        expected: whether frames were known not to say it, so that nothing has to be repaired.
        begin: where the first frame that comes is shown, in seconds.
    """

    def __init__(
        self, time_base: Fraction, usual: Fraction, *, expected: bool, begin: Fraction = Fraction(0)
    ) -> None:
        self.time_base, self.rounded, self.time = time_base, 0, begin
        self._usual, self._expected, self._next = usual, expected, begin
        self._last = usual
        self._guessed = False

    def place(self, index: int, duration: Fraction | None) -> tuple[int, bool]:
        """The sum of the durations before; repaired if the one just before had to be guessed."""
        guessed, self._guessed = self._guessed, duration is None and not self._expected
        self.time, self._last = self._next, duration or self._usual
        self._next += self._last
        units = self.time / self.time_base
        self.rounded += units.denominator != 1
        return round(units), guessed

    def last_duration(self) -> int:
        """The frame's own, at least 1."""
        return max(1, round(self._last / self.time_base))


class ListClock:
    """Timestamps from a list; those that are missing or not after the one before are repaired.

    Args:
        times: one for each frame, in units.
        time_base: seconds per unit.
        step: units to assume between frames before two are known.
    """

    rounded = 0
    time = Fraction(0)

    def __init__(self, times: Sequence[int | None], time_base: Fraction, step: int) -> None:
        self.time_base, self._times = time_base, times
        self._step = step
        self.begin_again()

    def begin_again(self) -> None:
        """Forget what came before: any frame may come next."""
        self.timeline = Timeline(self._step)

    def place(self, index: int, duration: Fraction | None) -> tuple[int, bool]:
        """The listed time."""
        declared = round(duration / self.time_base) if duration is not None else 0
        placed, repaired = self.timeline.place(self._times[index], None, declared)
        self.time = placed * self.time_base
        return placed, repaired

    def last_duration(self) -> int:
        """The frame's own if it says, else the median spacing."""
        return self.timeline.last_duration()
