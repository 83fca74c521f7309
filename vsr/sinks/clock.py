"""The times of frames as an encoder counts them."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from fractions import Fraction

from av.packet import Packet
from av.stream import Stream

from vsr.encoding import Encoding, clock_time_base, restored_rate
from vsr.frame import VideoInfo

__all__ = ["EncoderClock", "encoder_clock"]


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
    """

    def __init__(self, base: Fraction, rate: Fraction | None = None) -> None:
        self.base = base
        self._grid = None if rate is None else _Grid(1 / (rate * base))
        self.moved = 0
        """Frames whose time is not a multiple of the base."""
        self.furthest = Fraction(0)
        """By how much the worst of them has moved, in seconds."""
        self._first: int | None = None
        self._last = self._end = 0
        self._durations: dict[int, int] = {}

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
        if self._first is None:
            self._first = shown
        elif shown <= self._last and unit == 1:
            raise ValueError(f"frame at {shown} comes after the one at {self._last}")
        else:
            shown = max(shown, self._last + 1)
        if shown != exact:
            self.moved += 1
            self.furthest = max(self.furthest, abs(shown - exact) * self.base)
        lasting = max(1, round(end) - shown)
        self._last, self._end = shown, max(self._end, shown + lasting)
        self._durations[shown] = lasting
        return shown, lasting

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
    return EncoderClock(clock_time_base(encoding, info), restored_rate(encoding, info))
