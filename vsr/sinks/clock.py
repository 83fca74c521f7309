"""The times of frames as an encoder counts them."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from fractions import Fraction
from typing import NamedTuple

from av.packet import Packet
from av.stream import Stream

from vsr.encoding import Encoding, clock_time_base, restored_rate
from vsr.frame import VideoInfo

__all__ = ["EncoderClock", "Gap", "encoder_clock"]

_OFFSETS_IN = ("mp4", "mov")
"""Muxers that store times of display as distances from those of decoding: `ctts`, `trun`."""
_FINEST_TICKS = 20_000
"""Ticks a second that these choose at most for a coarser clock."""
_LONG_GAP = 1 << 24
"""Ticks: with 15 such gaps between a picture's decoding and its display, old readers of FFmpeg's
still take the distance. They drop all of a file where one is of 2^28."""


class Gap(NamedTuple):
    """Two frames that follow each other, and are far apart in time."""

    before: int
    after: int


class _Grid:
    """Where frames of one rate are shown. Puts those there whose times a clock has rounded.

    Args:
        step: from one frame to the next, in the unit of all times here.
    """

    def __init__(self, step: Fraction) -> None:
        self._step = step
        self._origin = Fraction(0)
        self._last: Fraction | None = None

    def frame(self, start: Fraction, end: Fraction, tick: Fraction) -> tuple[Fraction, Fraction]:
        """Start and end of the next frame: see :meth:`_place`."""
        placed = self._place(start, tick)
        self._last = start
        return placed, self._place(end, tick)

    def _place(self, time: Fraction, tick: Fraction) -> Fraction:
        """``time``, or its place on the grid if a clock with this ``tick`` has rounded that to it.

        Frames of the rate stand on the grid, and whole steps behind the last one; a frame of
        another pace may do the first by chance. Where the first frame is not on the grid that
        begins at 0, it begins a grid of its own.
        """
        rounding = min(tick, self._step / 4)  # half a tick, and half for what it is measured from
        if self._last is None and abs(self._beside(time)) > rounding:
            self._origin = self._beside(time)
        off = self._beside(time - self._origin)
        paces = self._last is None or abs(self._beside(time - self._last)) <= rounding
        return time - off if paces and abs(off) <= rounding else time

    def _beside(self, length: Fraction) -> Fraction:
        """By how much ``length`` is more than the nearest number of whole steps."""
        return length - round(length / self._step) * self._step


class EncoderClock:
    """The times of the frames, in the encoder's time base.

    Args:
        base: seconds of a unit.
        rate: frames per second on whose grid times are put that the source's clock has rounded;
            those that lie elsewhere stay where they are. None leaves all of them.
        longest: units from one frame to the next that are no gap yet; None if any are none.

    Attributes:
        gaps: those so far; whoever has no more need of one may remove it.
        begins_anew: whether there is one ahead of the latest frame.
    """

    def __init__(
        self, base: Fraction, rate: Fraction | None = None, longest: int | None = None
    ) -> None:
        self.base = base
        self._grid = None if rate is None else _Grid(1 / (rate * base))
        self.moved = 0
        """Frames whose time is not a multiple of the base."""
        self.furthest = Fraction(0)
        """By how much the worst of them has moved, in seconds."""
        self._first: int | None = None
        self._last = self._end = 0
        self._durations: dict[int, int] = {}
        self._longest = longest
        self.gaps: list[Gap] = []
        self.begins_anew = False

    @property
    def end(self) -> int:
        """The end of the last frame."""
        return self._end

    @property
    def length(self) -> int:
        """From the start of the first frame to the end of the last."""
        return self._end - (self._first or 0)

    def mark(self, pts: int, duration: int, time_base: Fraction) -> tuple[int, int]:
        """Time and duration of a frame, which must come after the last one.

        Args:
            pts: when it is shown, in units of ``time_base``.
            duration: for how long.
            time_base: seconds of their unit.
        """
        unit = time_base / self.base
        exact, end = pts * unit, (pts + duration) * unit
        if self._grid is not None:
            exact, end = self._grid.frame(exact, end, unit)
        shown = round(exact)
        self.begins_anew = False
        if self._first is None:
            self._first = shown
        elif shown <= self._last and unit == 1:
            raise ValueError(f"frame at {shown} comes after the one at {self._last}")
        else:
            shown = max(shown, self._last + 1)
        if shown != exact:
            self.moved += 1
            self.furthest = max(self.furthest, abs(shown - exact) * self.base)
        if self._longest is not None and self._first != shown:
            self._note_gap(Gap(self._last, shown), self._longest)
        lasting = max(1, round(end) - shown)
        self._last, self._end = shown, max(self._end, shown + lasting)
        self._durations[shown] = lasting
        return shown, lasting

    def _note_gap(self, gap: Gap, longest: int) -> None:
        self.begins_anew = gap.after - gap.before > longest
        if self.begins_anew:
            self.gaps.append(gap)

    def duration(self, packet: Packet[Stream]) -> int | None:
        """The duration of the frame in ``packet``."""
        if packet.pts is None:
            return packet.duration
        return self._durations.pop(packet.pts, packet.duration)

    def forget(self) -> None:
        """Drop the durations that have not been asked for."""
        self._durations.clear()


def encoder_clock(encoding: Encoding, info: VideoInfo) -> EncoderClock:
    """The clock of an output; ``info`` are facts about that."""
    base, longest = clock_time_base(encoding, info), None
    if encoding.muxer in _OFFSETS_IN:
        longest = round(_LONG_GAP / (max(base.denominator, _FINEST_TICKS) * base))
    return EncoderClock(base, restored_rate(encoding, info), longest)
