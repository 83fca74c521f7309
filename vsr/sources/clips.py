"""A VapourSynth clip, read as a media file's video stream is."""

from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from itertools import islice
from math import ceil
from typing import Any

from av.video.frame import VideoFrame

from vsr.errors import SourceError
from vsr.frame import Colour, FieldOrder
from vsr.hdr import HdrMetadata
from vsr.immersive import Immersive
from vsr.sources import describe
from vsr.sources.clip_frames import ClipFrame, ClipFrames
from vsr.sources.clock import Clock, DurationClock, EvenClock, ListClock, fitting_time_base
from vsr.sources.lookahead import Lookahead, TimedFrame
from vsr.sources.props import duration_of, field_order_of, hdr_of, rate_of, sample_aspect_of
from vsr.sources.reader import InputFacts
from vsr.sources.relay import PacketRelay
from vsr.sources.report import SourceReport, start_beyond_end
from vsr.sources.script import Clip
from vsr.sources.timestamps import FALLBACK_RATE, nominal_rate

__all__ = ["ClipReader"]

_EXAMINED = 24
"""Frames whose durations are looked at before a time base is chosen; fewer of huge ones."""


class ClipReader:
    """A clip's frames inside the trim; a :class:`vsr.sources.reader.Reader`, to be read once.

    The constructor makes the first frames, to see how long they last.

    Args:
        clip: the clip; closed with the reader, and where the constructor raises an error.
        name: its script or file in a message.
        rate: frames a second instead of the clip's own timestamps; None keeps them.
        start: skip to this position, in seconds from the start of the clip.
        end: stop before the first frame at or after this position.
        wanted: how many frames will be asked for at most; None: all.
        should_stop: polled while a frame is awaited; True ends the clip if it does not come.

    Raises:
        SourceError: a frame cannot be made, or is not waited for any longer; or there is none at or
            after ``start``.
        UnsupportedFormatError: FFmpeg has no such pixel format, nor one like it.
    """

    container = stream = bit_rate = None
    decode_errors = joins = 0
    broken: str | None = None

    def __init__(  # noqa: PLR0913 - all but two by keyword
        self,
        clip: Clip,
        name: str,
        *,
        rate: Fraction | None = None,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        wanted: int | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clip, self.name = clip, name
        self._start, self._end, self._begin = start, end, clip.facts.begin
        self._stop: int | None = None  # the first frame at the end or after it, once it was seen
        self._lookahead = Lookahead()
        self.relay = PacketRelay(dense=set())
        with ExitStack() as opened:
            opened.callback(clip.close)
            self._source = ClipFrames(clip, name, should_stop)
            self._frames = self._source.make(0)
            opened.callback(self.close)
            examined = self._source.holdable(_EXAMINED)
            if wanted is not None and not start:  # else those that are wanted are not those seen
                examined = min(examined, wanted + 1)
            self._prepare(rate, examined)
            opened.pop_all()

    @property
    def given_up(self) -> bool:
        """Whether a frame was not waited for any longer."""
        return self._source.given_up

    def next(self) -> TimedFrame | None:
        """The next frame; None at the end of the clip or of the trim."""
        timed = self._lookahead.take(self._read)
        if timed is None or self._stop is None or timed.pts < self._stop:
            return timed
        self._lookahead.appendleft(timed)
        return None

    @property
    def timing(self) -> list[int] | None:
        """What the last frame's duration depends on, beside the last frames."""
        return self._clock.timeline.state if isinstance(self._clock, ListClock) else []

    def resume_timing(self, state: list[int]) -> None:
        """Restore the state that :attr:`timing` had when the same frame had come."""
        if isinstance(self._clock, ListClock):
            self._clock.timeline.restore(state)

    def skip(self, number: int, pts: int) -> bool:
        """Go to frame ``number``.

        False with a start trim, and for clips of variable rate, whose times are sums of all
        durations before.
        """
        summed = isinstance(self._clock, DurationClock) and not self._constant
        if self._start or summed:
            return False
        self._lookahead.clear()
        self._restart(number)
        return True

    def rewind(self) -> None:
        """Begin again at the start of the trim."""
        self._lookahead.clear()
        self._restart(0)
        while self._start and (timed := self._read()) is not None:
            if self._has_begun:
                self._lookahead.append(timed)
                break

    def peek(self, count: int, size: int) -> list[TimedFrame]:
        """Up to ``count`` of the coming frames, together about ``size`` bytes; they stay."""
        return self._lookahead.peek(self._read, count, size)

    def colour(self, frame: VideoFrame) -> Colour:
        """Colour by the frame's properties; where they say nothing, by the container."""
        return describe.frame_colour(frame, self._clip.facts.tags)

    def display_matrix(self, frame: VideoFrame) -> bytes | None:
        """The container's; pictures of a script lie as they are shown."""
        return self._clip.facts.display_matrix

    def field_order(self, frame: VideoFrame) -> FieldOrder:
        """That of the first frame."""
        return field_order_of(self._first)

    def immersive(self, frame: VideoFrame) -> tuple[Immersive | None, list[str]]:
        """What the container says."""
        return self._clip.facts.immersive, []

    def hdr(self, frame: VideoFrame) -> tuple[HdrMetadata | None, list[str]]:
        """The container's, completed by the first frame's; and what is dropped."""
        told = self._clip.facts.hdr
        found, notes = hdr_of(self._first)
        if told is None or found is None:
            return told or found, notes
        both = HdrMetadata(
            mastering=told.mastering or found.mastering, light=told.light or found.light,
            ambient=told.ambient,
        )  # fmt: skip
        return both, notes

    def last_duration(self) -> int:
        """Duration of the last frame, in units of its time base."""
        return self._clock.last_duration()

    def finish(self, report: SourceReport, stopped_at: Fraction | None) -> None:
        """Say what was rounded."""
        if self._clock.rounded:
            self.notes.append(
                f"{self._clock.rounded} timestamps are rounded to {self._time_base} s: no time base"
                " that FFmpeg has holds all of them"
            )

    def close(self) -> None:
        """Stop making frames and let go of the clip; harmless if done before."""
        self._lookahead.clear()
        self._frames.close()
        self._source.close()
        self._clip.close()

    # Before the first frame.

    def _prepare(self, rate: Fraction | None, examined: int) -> None:
        clip, node = self._clip, self._clip.node
        self._count: int = node.num_frames
        seen = list(islice(self._frames, examined))
        if not seen:
            raise SourceError(f"{self.name}: its first frame was not waited for any longer")
        self._first = seen[0].props
        self.notes = clip.notes  # to which frames may add
        self._constant, usual = _is_constant(node, seen), _usual_duration(node, seen)
        if usual is None and rate is None:
            self.notes.append(
                f"frames do not say how long they last: taken as {FALLBACK_RATE} a second (-r)"
            )
        self._usual = 1 / FALLBACK_RATE if usual is None else usual
        self._expected = usual is None or rate_of(node.fps) is not None
        self._clock, nominal = self._choose_clock(seen, rate)
        self._time_base = self._clock.time_base
        self._origin = Fraction(0) if rate is not None else self._begin
        average = (rate_of(node.fps) if rate is None else None) or nominal
        is_script = clip.times is None
        self.facts = InputFacts(
            kind="VapourSynth script" if is_script else "BestSource", codec=clip.codec,
            rate=nominal, time_base=self._time_base, start_time=self._begin + self._start,
            origin=self._origin + self._start, skipped=self._start,
            lead=self._lead(), count=self._count, length=self._count / average,
            tags=clip.facts.tags, left_means=clip.facts.left_means,
            sar=clip.facts.sar or sample_aspect_of(self._first),
            cropping=clip.facts.cropping, sound=clip.sound,
            has_other_streams=clip.sound is not None,
            states_fields=is_script,  # BestSource hands on flags
        )  # fmt: skip
        self._go_to_start(seen)

    def _choose_clock(self, seen: list[ClipFrame], rate: Fraction | None) -> tuple[Clock, Fraction]:
        if rate is not None:
            return EvenClock(1 / rate), rate
        clip, claimed = self._clip, rate_of(self._clip.node.fps)
        claims = [claimed] if claimed else []
        if clip.times is not None and clip.time_base is not None:
            step = max(1, round(self._usual / clip.time_base))
            times = [time for time in clip.times[:_EXAMINED] if time is not None]
            nominal = nominal_rate(times, clip.time_base, claims)
            return ListClock(clip.times, clip.time_base, step), nominal
        durations = [duration_of(made.props) or self._usual for made in seen]
        time_base = fitting_time_base(durations)
        trial = self._duration_clock(time_base)
        spots = [trial.place(made.index, duration_of(made.props))[0] for made in seen]
        return self._duration_clock(time_base), nominal_rate(spots, time_base, claims)

    def _duration_clock(self, time_base: Fraction, index: int = 0) -> DurationClock:
        begin = index * self._usual
        return DurationClock(time_base, self._usual, expected=self._expected, begin=begin)

    def _go_to_start(self, seen: list[ClipFrame]) -> None:
        """Leave the first frame at or after the start as the coming one.

        Frames of a constant rate are counted, and those of a file are listed; else all durations
        up to the start have to be summed, and the frames made that say them.
        """
        if not self._start:
            self._lookahead.extend(self._timed(made) for made in seen)
            return
        if (index := self._index_at_start()) >= len(seen):
            self._restart(index)
            seen = []
        for made in seen:
            frame = self._timed(made)
            if self._has_begun:
                self._lookahead.append(frame)
        while not self._lookahead and (timed := self._read()) is not None:
            if self._has_begun:
                self._lookahead.append(timed)
        if not self._lookahead:
            raise start_beyond_end(self.name, self._start)

    def _lead(self) -> Fraction:
        """Seconds to the first frame: a script's clock begins with it."""
        times, base = self._clip.times, self._clip.time_base
        if not isinstance(self._clock, ListClock) or times is None or base is None:
            return Fraction(0)
        first = min((time for time in times if time is not None), default=None)
        return Fraction(0) if first is None else first * base - self._origin

    @property
    def _has_begun(self) -> bool:
        """Whether the latest frame lies at the start or after it: exactly, whatever is rounded."""
        return self._clock.time >= self._origin + self._start

    def _index_at_start(self) -> int:
        """A frame to begin with so that none at or after the start is left out."""
        target = ceil((self._origin + self._start) / self._time_base)
        if isinstance(self._clock, EvenClock):
            return target
        if self._clip.times is not None:
            times = enumerate(self._clip.times)
            found = (index for index, time in times if time is not None and time >= target)
            return next(found, self._count)
        return ceil(self._start / self._usual) if self._constant else 0

    def _restart(self, index: int) -> None:
        self._frames.close()
        self._frames = self._source.make(index)
        if isinstance(self._clock, DurationClock):
            self._clock = self._duration_clock(self._time_base, index)
        elif isinstance(self._clock, ListClock):
            self._clock.begin_again()

    # Frames.

    def _read(self) -> TimedFrame | None:
        made = next(self._frames, None)
        return None if made is None else self._timed(made)

    def _timed(self, made: ClipFrame) -> TimedFrame:
        pts, repaired = self._clock.place(made.index, duration_of(made.props))
        ended = self._end is not None and self._clock.time >= self._origin + self._end
        if ended and self._stop is None:
            self._stop = pts
        return TimedFrame(made.frame, pts, repaired, sar=sample_aspect_of(made.props))


def _usual_duration(node: Any, seen: list[ClipFrame]) -> Fraction | None:  # noqa: ANN401
    """What a frame lasts that does not say, None if nothing says."""
    if rate := rate_of(node.fps):
        return 1 / rate
    return next((d for made in seen if (d := duration_of(made.props)) is not None), None)


def _is_constant(node: Any, seen: list[ClipFrame]) -> bool:  # noqa: ANN401
    """Whether the clip claims a constant rate and its first frames agree."""
    rate = rate_of(node.fps)
    return rate is not None and all(duration_of(m.props) in (None, 1 / rate) for m in seen)
