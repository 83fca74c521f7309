"""The times of frames as an encoder counts them."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from fractions import Fraction

from av.packet import Packet
from av.stream import Stream

__all__ = ["EncoderClock"]


class EncoderClock:
    """The times of the frames, in the encoder's time base.

    Args:
        base: seconds of a unit.
    """

    def __init__(self, base: Fraction) -> None:
        self.base = base
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
