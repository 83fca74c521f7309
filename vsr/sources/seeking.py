"""Going to a frame by its time: the first of a part, or one that a run has come to before."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from vsr.sources.describe import container_start
from vsr.sources.lookahead import TimedFrame
from vsr.sources.pace import Pace
from vsr.sources.playback import Playback
from vsr.sources.rebasing import MICROSECOND
from vsr.sources.report import start_beyond_end
from vsr.sources.samples import SOUND_AHEAD, is_plain

__all__ = ["Part", "find_part", "go_to_frame", "go_to_start"]

_RETRIES = (0, 2, 10)
"""Seconds to seek further back if the frame wanted turns out to be behind; then from the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which part of a file is wanted, and where that lies by the file's own clock."""

    start: Fraction
    """Seconds from the start of the file."""
    end: Fraction | None
    """The same of the end; None reads on."""
    begin: Fraction
    """Where the file starts, in seconds by its clock."""
    video_begin: Fraction
    """The same by the clock of the video, which has one of its own if its frames are counted."""

    @property
    def start_time(self) -> Fraction:
        """Where the part begins, in seconds by the file's clock."""
        return self.begin + self.start

    @property
    def end_time(self) -> Fraction | None:
        """Where the part ends, in seconds by the file's clock."""
        return None if self.end is None else self.begin + self.end

    @property
    def video_start(self) -> Fraction:
        """Where the part begins, in seconds by the clock of the video."""
        return self.video_begin + self.start

    def is_over(self, time: Fraction) -> bool:
        """Whether a frame at ``time``, in seconds by the clock of the video, lies behind it."""
        return self.end is not None and time >= self.video_begin + self.end


def find_part(playback: Playback, first: TimedFrame, start: Fraction, end: Fraction | None) -> Part:
    """Where a part lies.

    A file that does not say where it starts does so with its earliest packet. The start is moved by
    less than a tick of the video's clock where that rounds its frames' times: see
    :func:`_next_tick`.

    Args:
        playback: at the start of the file.
        first: the first frame of the file.
        start: seconds from the start of the file.
        end: the same of the end; None reads on.
    """
    counted = playback.pace.counted
    begin = container_start(playback.demuxer.container)
    if begin is None:
        first_time = Fraction(0) if counted else first.pts * playback.pace.time_base
        begin = min([first_time, *playback.relay.early_times()])
    video_begin = Fraction(0) if counted else begin
    if start > 0:
        start = _next_tick(video_begin + start, playback.pace) - video_begin
    return Part(start=start, end=end, begin=begin, video_begin=video_begin)


def _next_tick(time: Fraction, pace: Pace) -> Fraction:
    """``time``, in seconds; where the video's clock rounds its frames' times, its next tick.

    No other frame is the first at or after that. In between, all times of the part would be told in
    finer units (:class:`~vsr.sources.rebasing.Rebasing`), as if they were exact to these: none
    could tell any more that 33 and 34 ms in turn are 30000/1001 frames a second.
    """
    ticks = time / pace.time_base
    rounds = (pace.rate * pace.time_base).numerator != 1
    beside = abs(ticks - round(ticks)) * pace.time_base > MICROSECOND
    return ceil(ticks) * pace.time_base if rounds and beside and not pace.counted else time


def go_to_start(playback: Playback, part: Part) -> None:
    """Leave the first frame at or after the start of ``part`` as the coming one.

    Demuxers seek by decoding time, by byte, or not at all, so where they land is checked; the last
    resort is to decode from the start of the file.

    Args:
        playback: at the start of the file.
        part: what begins later than that.

    Raises:
        SourceError: the file ends before.
    """
    target = ceil(part.video_start / playback.pace.time_base)
    if playback.can_seek and not _seek(playback, part, target):
        playback.reopen()
    timed = _skip_to(playback, target)
    if timed is None and playback.can_seek:  # what the file calls the end may lie before a join
        playback.reopen()
        timed = _skip_to(playback, target)
    if timed is None:
        raise start_beyond_end(playback.demuxer.name, part.start)
    playback.put_back(timed)
    playback.forget_errors()  # those before the start are nobody's concern


def _seek(playback: Playback, part: Part, target: int) -> bool:
    """Whether one of the attempts landed at or ahead of ``target``."""
    retries = _RETRIES
    if any(is_plain(stream) for stream in playback.demuxer.container.streams.audio):
        retries = (SOUND_AHEAD, *_RETRIES[1:])
    attempts = (back for back in retries if back <= part.start)
    return any(playback.land(part.start_time - back, target) for back in attempts)


def _skip_to(playback: Playback, target: int) -> TimedFrame | None:
    """The first frame at or after ``target``, None if there is none."""
    while (timed := playback.next()) is not None and timed.pts < target:
        pass
    return timed


def go_to_frame(playback: Playback, pts: int) -> bool:
    """Make the frame at ``pts`` the coming one, decoded from a key frame before it.

    Args:
        playback: anywhere in the file.
        pts: the frame's time when the file was read from the start, not shifted.

    Returns:
        Whether exactly that frame comes next, with nothing repaired or refused on the way.
    """
    if not playback.can_seek:
        return False
    position = pts * playback.pace.time_base
    if not any(playback.land(position - back, pts) for back in _RETRIES):
        return False
    repaired = False
    while (timed := playback.next()) is not None and timed.pts < pts:
        repaired = repaired or timed.repaired
    if timed is None or timed.pts != pts or repaired or playback.errors:
        return False
    playback.put_back(timed)
    return True
