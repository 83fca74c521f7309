"""A sequence of picture files, read as a media file's video stream is; it has no other streams."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from pathlib import Path

from av.video.frame import VideoFrame

from vsr.frame import Colour, FieldOrder
from vsr.hdr import HdrMetadata
from vsr.immersive import Immersive
from vsr.sources import describe
from vsr.sources.images import ImageFrames
from vsr.sources.lookahead import Lookahead, TimedFrame
from vsr.sources.reader import InputFacts
from vsr.sources.relay import PacketRelay
from vsr.sources.report import SourceReport, start_beyond_end

__all__ = ["PictureReader"]


class PictureReader:
    """Pictures as timed frames, inside the trim; a :class:`vsr.sources.reader.Reader`.

    Args:
        images: the pictures.
        name: their location in a message.
        start: skip to this position, in seconds from the first picture.
        end: stop before the first picture at or after this position.

    Raises:
        SourceError: there are no pictures at or after ``start``.
    """

    container = stream = bit_rate = None
    decode_errors = joins = 0
    given_up = False
    broken: str | None = None

    def __init__(
        self, images: ImageFrames, name: str, *, start: Fraction, end: Fraction | None
    ) -> None:
        self._images, self.name, self.notes = images, name, images.notes
        self.relay = PacketRelay(dense=set())
        step = images.time_base
        self._begin = ceil(start / step)
        self._stop = images.count if end is None else min(images.count, ceil(end / step))
        if self._begin >= self._stop:
            raise start_beyond_end(name, start)
        self._position = self._begin
        self._lookahead = Lookahead()
        skipped, number = self._begin * step, images.first_number
        self.facts = InputFacts(
            kind="pictures", codec=images.codec, rate=images.rate,
            rate_is_guess=images.rate_is_guess, time_base=step,
            start_time=skipped, origin=skipped, skipped=skipped, count=images.count,
            length=images.count * step, tags=images.tags, sar=images.sar, icc=images.icc,
            single=images.single,
            first_number=None if number is None else number + self._begin,
            stems=_stems(images.paths[self._begin : self._stop]),
            flags_fields=False, is_still=images.single or number is None,
        )  # fmt: skip

    def next(self) -> TimedFrame | None:
        """The next picture; None at the end."""
        return self._lookahead.take(self._read)

    @property
    def timing(self) -> list[int] | None:
        """Pictures come evenly."""
        return []

    def resume_timing(self, state: list[int]) -> None:
        """Restore the state that :attr:`timing` had when the same frame had come."""

    def skip(self, number: int, pts: int) -> bool:
        """Make picture ``number`` of the trim the coming one."""
        self.rewind()
        self._position += number
        return True

    def rewind(self) -> None:
        """Begin again at the start of the trim."""
        self._lookahead.clear()
        self._position = self._begin

    def peek(self, count: int, size: int) -> list[TimedFrame]:
        """Up to ``count`` of the coming pictures, together about ``size`` bytes; they stay."""
        return self._lookahead.peek(self._read, count, size)

    def colour(self, frame: VideoFrame) -> Colour:
        """Colour tags of ``frame``; where it has none, those of the first picture."""
        return describe.frame_colour(frame, self.facts.tags)

    def display_matrix(self, frame: VideoFrame) -> bytes | None:
        """How the first picture lies, FFmpeg's 36 bytes."""
        return self._images.display_matrix

    def field_order(self, frame: VideoFrame) -> FieldOrder:
        """Pictures are whole frames."""
        return FieldOrder.PROGRESSIVE

    def hdr(self, frame: VideoFrame) -> tuple[HdrMetadata | None, list[str]]:
        """None is read: PyAV 19 crashes on a PNG's side data if there is an ICC profile."""
        return None, []

    def immersive(self, frame: VideoFrame) -> tuple[Immersive | None, list[str]]:
        """Nothing is read, as of HDR metadata."""
        return None, []

    def last_duration(self) -> int:
        """One frame."""
        return 1

    def finish(self, report: SourceReport, stopped_at: Fraction | None) -> None:
        """Nothing is known at the end only."""

    def close(self) -> None:
        """Files are closed as soon as they are read."""
        self._lookahead.clear()

    def _read(self) -> TimedFrame | None:
        if self._position >= self._stop:
            return None
        index, self._position = self._position, self._position + 1
        return self._images.read(index)


def _stems(paths: Sequence[Path]) -> tuple[str, ...]:
    """The names without extensions; none if two are the same where case does not count."""
    stems = tuple(path.stem for path in paths)
    return stems if len({stem.casefold() for stem in stems}) == len(stems) else ()
