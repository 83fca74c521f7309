"""The times of frames as an encoder counts them."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from fractions import Fraction

from av.packet import Packet
from av.stream import Stream

from vsr.encoding import Encoding, clock_time_base, restored_rate
from vsr.frame import VideoInfo

__all__ = ["EncoderClock", "encoder_clock"]


class EncoderClock:
    """The times of the frames, in the encoder's time base.

    Args:
        base: seconds of a unit.
        rate: frames per second on whose grid times are put that the source's clock has rounded;
            those that lie elsewhere stay where they are. None leaves all of them.
    """

    def __init__(self, base: Fraction, rate: Fraction | None = None) -> None:
        self.base = base
        self._step = None if rate is None else 1 / (rate * base)
        self.moved = 0
        """Frames whose time is not a multiple of the base."""
        self.furthest = Fraction(0)
        """By how much the worst of them has moved, in seconds."""
        self._first: int | None = None
        self._before: int | None = None  # the time of the last frame by the source's clock
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
        exact, self._before = self._restored(pts, self._before, unit), pts
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
        end = self._restored(pts + duration, pts, unit)
        lasting = max(1, round(end) - shown)
        self._last, self._end = shown, max(self._end, shown + lasting)
        self._durations[shown] = lasting
        return shown, lasting

    def _restored(self, time: int, before: int | None, unit: Fraction) -> Fraction:
        """``time``, of a clock with ticks of ``unit``, or where it was before that rounded it.

        Frames of a film stand on its grid, and so many frames behind the one ``before``; one of
        another pace may stand there by chance.
        """
        exact = time * unit
        if self._step is None or self._first is None or before is None:
            return exact
        rounding = min(unit, self._step / 4)  # half a tick, and half for what it is measured from
        on_grid = self._first + self._whole_steps(exact - self._first)
        behind = before * unit + self._whole_steps((time - before) * unit)
        return on_grid if max(abs(exact - on_grid), abs(exact - behind)) <= rounding else exact

    def _whole_steps(self, length: Fraction) -> Fraction:
        assert self._step is not None
        return round(length / self._step) * self._step

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
