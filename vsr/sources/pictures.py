"""A sequence of picture files, read as a media file's video stream is; it has no other streams."""

from fractions import Fraction
from math import ceil

from av.video.frame import VideoFrame

from vsr.frame import Colour, FieldOrder
from vsr.hdr import HdrMetadata
from vsr.sources import describe
from vsr.sources.images import ImageFrames
from vsr.sources.lookahead import Lookahead, TimedFrame
from vsr.sources.relay import PacketRelay
from vsr.sources.report import SourceReport, start_beyond_end

__all__ = ["PictureReader"]


class PictureReader:
    """Pictures as timed frames, inside the trim; a :class:`vsr.sources.readers.Reader`.

    Args:
        images: the pictures.
        name: their location in a message.
        start: skip to this position, in seconds from the first picture.
        end: stop before the first picture at or after this position.

    Raises:
        SourceError: there are no pictures at or after ``start``.
    """

    lead = Fraction(0)
    cropping = (0, 0, 0, 0)
    decode_errors = 0
    broken: str | None = None
    has_side_data = states_fields = False
    sound = None

    def __init__(
        self, images: ImageFrames, name: str, *, start: Fraction, end: Fraction | None
    ) -> None:
        self._images, self.name, self.notes = images, name, images.notes
        self.rate, self.time_base = images.rate, images.time_base
        self.codec, self.tags, self.sar = images.codec, images.tags, images.sar
        self.count, self.length = images.count, images.count * images.time_base
        self.single = images.single
        self.shift = ceil(start / self.time_base)
        self.start_time = self.shift * self.time_base
        self.relay = PacketRelay(dense=set())
        self._position = self.shift
        self._stop = self.count if end is None else min(self.count, ceil(end / self.time_base))
        self._lookahead = Lookahead()
        if self._position >= self._stop:
            raise start_beyond_end(name, start)

    def next(self) -> TimedFrame | None:
        """The next picture; None at the end."""
        return self._lookahead.take(self._read)

    @property
    def first_number(self) -> int | None:
        """Of the first picture wanted, if they are numbered one by one."""
        first = self._images.first_number
        return None if first is None else first + self.shift

    @property
    def not_finite(self) -> int:
        """Pictures so far with samples that are no numbers."""
        return self._images.not_finite

    @property
    def timing(self) -> list[int] | None:
        """Pictures come evenly."""
        return []

    def resume_timing(self, state: list[int]) -> None:
        """Take over what :attr:`timing` was when the same frame had come."""

    def skip(self, number: int, pts: int) -> bool:
        """Make picture ``number`` of the trim the coming one."""
        self.rewind()
        self._position += number
        return True

    def rewind(self) -> None:
        """Begin again at the start of the trim."""
        self._lookahead.clear()
        self._position = self.shift

    def peek(self, count: int, size: int) -> list[TimedFrame]:
        """Up to ``count`` of the coming pictures, together about ``size`` bytes; they stay."""
        return self._lookahead.peek(self._read, count, size)

    def colour(self, frame: VideoFrame) -> Colour:
        """Colour tags of ``frame``; where it has none, those of the first picture."""
        return describe.frame_colour(frame, self.tags)

    def display_matrix(self, frame: VideoFrame) -> bytes | None:
        """How the first picture lies, FFmpeg's 36 bytes."""
        return self._images.display_matrix

    def field_order(self, frame: VideoFrame) -> FieldOrder:
        """Pictures are whole frames."""
        return FieldOrder.PROGRESSIVE

    def hdr(self, frame: VideoFrame) -> tuple[HdrMetadata | None, list[str]]:
        """Pictures carry no mastering metadata that FFmpeg hands on."""
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
        return TimedFrame(self._images.read(index), index)
