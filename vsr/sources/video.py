"""Anything that FFmpeg reads, as frames: colour, fields, filters, timestamps."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import logging
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Self, cast

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from vsr.encoding.streams import StreamSource
from vsr.errors import TruncatedError
from vsr.frame import FieldOrder, Frame, VideoInfo
from vsr.sources import describe
from vsr.sources.alignment import Beside, open_beside
from vsr.sources.hardware import download
from vsr.sources.lookahead import TimedFrame
from vsr.sources.media import MediaReader
from vsr.sources.pictures import PictureReader
from vsr.sources.planes import luma_of, native_format, planes_of
from vsr.sources.readers import SourceConfig, expected_length, open_reader
from vsr.sources.report import SourceReport
from vsr.sources.stage import FilteredPicture, PictureStage

__all__ = ["VideoSource"]

logger = logging.getLogger(__name__)
_PREVIEW_BYTES = 64 << 20
_LEAP = 10
"""Seconds from one frame to the next, as FFmpeg's -dts_delta_threshold."""


class VideoSource:
    """A media file, a pipe, pictures or a script as an iterable of frames, to be iterated once.

    The constructor opens the input and decodes its first frames. Everything may then move to
    another thread; one thread at a time may use it. A picture is decoded by a reader
    (:mod:`vsr.sources.readers`), made like the first one and filtered (:mod:`vsr.sources.stage`),
    and handed out as a frame that says how it is to be read.

    Args:
        path: the file, or :data:`vsr.config.PIPE`.
        config: which part, and what is done to it.

    Attributes:
        info: the stream, as far as it is known before its frames; count and duration are those of
            the part that is asked for.
        report: counters, complete when the iteration is.
        notes: one line for each automatic decision.
        tags: colour as the input declares it, or the user does.
        fields: what was seen of interlacing in the first frames; None if nobody looked.
        filters: the chain that the pictures go through, as libavfilter writes it; may be empty.
        start_time: seconds that are subtracted from every timestamp.
        stopped: whether more frames would follow than were wanted; known when the iteration ends.

    Raises:
        SourceError: the input is missing, is no media file, holds no video that decodes, or ends
            before the start.
        ConfigError: it is interlaced and nothing was chosen to be done, or a filter is refused.
    """

    def __init__(self, path: Path, config: SourceConfig | None = None) -> None:
        self.path, self._config = path, config or SourceConfig()
        self.report = SourceReport()
        self.notes: list[str] = []
        self._coded_sar: Fraction | None = None
        self._started = self._closed = self.stopped = False
        self._beside = Beside()
        self._reader = open_reader(path, self._config)
        try:
            self._beside = open_beside(path, self._config, self._reader)
            self._note(*self._beside.notes, *self._reader.notes)
            self._stage = PictureStage(
                self._reader, self._config, self.report, self._note, self._beside.delay
            )
            self.info = self._describe()
        except BaseException:
            self.close()
            raise

        self._may_leap = isinstance(self._reader, MediaReader) and bool(
            self.container.format.flags & cast(int, Flags.ts_discont.value)
        )
        self.tags, self.fields = self._stage.tags, self._stage.fields
        self.filters = self._stage.filters

    @property
    def name(self) -> str:
        """The input in a message."""
        return self._reader.name

    @property
    def container(self) -> InputContainer:
        """The open input.

        Raises:
            TypeError: the input is pictures or a script, which have none.
        """
        return self._media.container

    @property
    def stream(self) -> VideoStream:
        """The video stream that is decoded."""
        return self._media.stream

    @property
    def _media(self) -> MediaReader:
        if not isinstance(self._reader, MediaReader):
            raise TypeError(f"{self.name}: pictures and scripts have no container and no streams")
        return self._reader

    @property
    def others(self) -> StreamSource | None:
        """Where the other streams come from: this source or a file beside it; None if nowhere."""
        own = self if isinstance(self._reader, MediaReader) else None
        return self._beside.companion or own

    @property
    def kind(self) -> str:
        """What the input is, in a word or by FFmpeg's name of the format."""
        if isinstance(self._reader, MediaReader):
            return str(self._reader.container.format.name)
        if isinstance(self._reader, PictureReader):
            return "pictures"
        return "BestSource" if self._config.decoder == "bestsource" else "VapourSynth script"

    @property
    def single(self) -> bool:
        """Whether the input is one picture by its own name."""
        return isinstance(self._reader, PictureReader) and self._reader.single

    @property
    def first_number(self) -> int | None:
        """Of the first frame's file, of pictures numbered one by one that give a frame each."""
        if not isinstance(self._reader, PictureReader) or self._stage.is_filtered:
            return None
        return self._reader.first_number

    @property
    def start_time(self) -> Fraction:
        """Seconds that are subtracted from every timestamp."""
        return self._reader.start_time

    @property
    def cut_short(self) -> bool:
        """Whether it was asked to stop before the input ends."""
        return self._config.end is not None or self._config.frames is not None

    @property
    def relay(self) -> set[int]:
        """Indices of the other streams whose packets are wanted; filled before iterating."""
        return self._reader.relay.wanted

    @property
    def packets(self) -> deque[Packet[Stream]]:
        """Packets of the streams in :attr:`relay`, in file order, timestamps not shifted.

        Appended by the thread that iterates; another thread may pop them from the left.
        """
        return self._reader.relay.packets

    @property
    def joins(self) -> int:
        """How often the clock of a media file has started again so far, and was counted on."""
        return self._reader.joins if isinstance(self._reader, MediaReader) else 0

    @property
    def given_up(self) -> bool:
        """Whether it ends because standard input was not waited for any longer."""
        return isinstance(self._reader, MediaReader) and self._reader.given_up

    @property
    def bit_rate(self) -> int | None:
        """Bits a second of the video as far as the file says; None of what is no file."""
        if not isinstance(self._reader, MediaReader):
            return None
        self._check_open()
        # MPEG's headers state the largest rate, a container the mean of all streams.
        said = (self._reader.stream.codec_context.bit_rate, self._reader.container.bit_rate)
        return min((rate for rate in said if rate), default=None)

    def preview(self, count: int) -> list[Tensor]:
        """The first decoded pictures' luma (of RGB, red), which stay to be read.

        Returns:
            Up to ``count`` pictures, (H, W) float32 in 8-bit codes; none of a format that is
            converted ahead of the network.

        Raises:
            ValueError: the source has been closed.
        """
        self._check_open()
        peeked = [timed.frame for timed in self._reader.peek(count, _PREVIEW_BYTES)]
        frames = [self._stage.first, *peeked][:count]
        return [luma for frame in frames if (luma := luma_of(frame)) is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the input and stop the decoder; harmless if done before."""
        if not self._closed:
            self._closed = True
            self._reader.close()
            if self._beside.companion is not None:
                self._beside.companion.close()

    def __iter__(self) -> Iterator[Frame]:
        if self._started:
            raise ValueError(f"{self.name}: this source has been read: open it again")
        self._check_open()
        self._started = True
        return self._run()

    def _check_open(self) -> None:
        """FFmpeg would read memory that has been freed."""
        if self._closed:
            raise ValueError(f"{self.name}: this source has been closed: open it again")

    @property
    def timing(self) -> list[int] | None:
        """What :meth:`skip` needs to begin with the latest frame; None if that is not exact.

        It is not where frames depend on those before: filters, repaired times, errors.
        """
        if self._stage.is_filtered or self.report.lines():
            return None
        return self._reader.timing

    def skip(self, number: int, pts: int, timing: list[int], fits: Callable[[Frame], bool]) -> bool:
        """Begin with a later frame, where that is exact; to be called before iterating.

        If the input cannot be sought, or another frame comes there, reading begins where it would
        have begun.

        Args:
            number: the frame's, counted from 0 from where reading would begin.
            pts: its time.
            timing: what :attr:`timing` was when it was the latest.
            fits: whether a frame is the one that is meant.

        Returns:
            Whether reading begins there.
        """
        if self._stage.is_filtered:
            return False
        reader = self._reader
        time = pts - self._beside.delay + reader.shift
        moved = reader.skip(number, time) and self._coming_is(fits)
        if moved:
            reader.resume_timing(timing)
            self.report.frames = self.report.read = number
        else:
            reader.rewind()
        self._stage.begin_again()
        return moved

    def _coming_is(self, fits: Callable[[Frame], bool]) -> bool:
        coming = self._reader.peek(2, _PREVIEW_BYTES)
        if not coming:
            return False
        timed, shift = coming[0], self._reader.shift - self._beside.delay
        end = coming[1].pts if len(coming) > 1 else timed.pts + self._reader.last_duration()
        picture = FilteredPicture(timed.frame, timed.pts - shift, self._reader.time_base, [timed])
        return fits(self._frame(picture, end - timed.pts))

    # Before the first frame.

    def _describe(self) -> VideoInfo:
        """The stream, from its first frame and the first that comes out of the filters."""
        reader, stage, shape = self._reader, self._stage, self._stage.shape
        rate = shape.rate or reader.rate
        frames, duration = expected_length(reader, self._config, rate)
        hdr, lost = reader.hdr(stage.first)
        unseen = [*self._unseen_alpha(), *self._active_format()]
        self._note(*lost, *unseen, level=logging.WARNING)
        return VideoInfo(
            width=shape.width, height=shape.height, format=stage.format,
            colour=stage.colour_of(stage.first_picture),
            time_base=shape.time_base, rate=rate, frames=frames, duration=duration, sar=shape.sar,
            display_matrix=stage.display_matrix, field_order=self._field_order(),
            hdr=hdr, codec=reader.codec,
        )  # fmt: skip

    def _unseen_alpha(self) -> Iterator[str]:
        """A line if the container says that there is alpha, and none was decoded.

        VP8 and VP9 have it as a second picture beside the first, of which libvpx decodes 8 bits.
        """
        if not isinstance(self._reader, MediaReader):
            return
        if describe.claims_alpha(self.stream) and not native_format(self._stage.first).alpha:
            yield f"alpha is dropped: the decoder of {self._reader.codec} does not see it"

    def _active_format(self) -> Iterator[str]:
        """A line if the video says which part of its picture is used (AFD, SMPTE ST 2016-1)."""
        if self._reader.has_side_data and SideDataType.AFD in self._stage.first.side_data:
            code = bytes(self._stage.first.side_data[SideDataType.AFD])[0]
            yield f"the active format description ({code}) is dropped: no encoder here writes it"

    def _field_order(self) -> FieldOrder:
        """Of the frames that are handed on."""
        fields, stated = self._config.fields, self._config.input.field_order
        if fields is not None and (fields.deinterlace or fields.ivtc):
            return FieldOrder.PROGRESSIVE
        if stated is not None:
            return stated
        stage = self._stage
        tagged = self._reader.field_order(stage.first)
        if tagged or stage.fields is None or not stage.is_combed:
            return tagged
        return stage.fields.order

    def _note(self, *lines: str, level: int = logging.INFO) -> None:
        for line in lines:
            if line not in self.notes:
                self.notes.append(line)
                logger.log(level, "%s: %s", Path(self.name).name, line)

    # Frames.

    def _run(self) -> Iterator[Frame]:
        self._check_open()
        self._reader.relay.start()
        if self._beside.companion is not None:
            self._beside.companion.start()
        current: FilteredPicture | None = None
        wanted = self._config.frames
        for coming in self._stage:
            if current is not None:
                self._watch_clock(coming.pts - current.pts)
                yield self._finish(current, coming.pts - current.pts)
                self._check_open()
            current = None
            if self.report.frames == wanted:
                self.stopped = True
                break
            current = coming
        if current is not None:
            yield self._finish(current, self._stage.last_duration())
            self._check_open()
        self._reader.finish(self.report, self._finished_at if self.stopped else None)
        if self._beside.companion is not None:
            self._beside.companion.finish(self._ended, stopped=self.stopped)
            self._note(*self._beside.companion.notes)
        self._note(*self._reader.notes)
        if self._reader.broken and not self.stopped:
            raise TruncatedError(f"{self.name}: {self._reader.broken}")

    def _watch_clock(self, distance: int) -> None:
        """Count what FFmpeg takes for a join of two recordings rather than for a pause."""
        seconds = distance * self.info.time_base
        if seconds > _LEAP and self._may_leap:
            self.report.jumps += 1
            self.report.longest_jump = max(self.report.longest_jump, seconds)

    def _finish(self, picture: FilteredPicture, duration: int) -> Frame:
        """Count a picture and make what is handed out."""
        self._count(picture.taken)
        end = (picture.pts + duration) * picture.time_base
        delay = self._beside.delay * self._reader.time_base
        self._ended, self._finished_at = end, end - delay + self._reader.start_time
        self._reader.relay.release(self._finished_at)
        if self._beside.companion is not None:
            self._beside.companion.advance(end)
        frame = self._frame(picture, duration)
        self.report.retagged_frames += frame.colour != self.info.colour
        return frame

    def _frame(self, picture: FilteredPicture, duration: int) -> Frame:
        """What is handed out of ``picture``."""
        info = self.info
        frame = self._stage.conformed(picture.frame)
        colour = self._stage.colour_of(picture.frame)
        return Frame(
            planes=planes_of(frame, info.format), format=info.format, width=info.width,
            height=info.height, colour=colour, pts=picture.pts,
            time_base=picture.time_base, duration=duration,
            corrupt=any(timed.damaged for timed in picture.taken),
            captions=self._captioned(picture.frame),
        )  # fmt: skip

    def _count(self, taken: list[TimedFrame]) -> None:
        report = self.report
        for timed in taken:
            report.note(repaired=timed.repaired, damaged=timed.damaged)
            self._watch_shape(timed.sar)
        report.frames += 1
        report.decode_errors = self._reader.decode_errors
        report.not_finite = self._reader.not_finite

    def _watch_shape(self, sar: Fraction | None) -> None:
        """Notice an aspect ratio that changes in mid-stream."""
        before = self._coded_sar
        if before is not None and sar is not None and sar != before:
            self.report.reshaped = (before, sar)
        self._coded_sar = sar

    def _captioned(self, frame: VideoFrame) -> VideoFrame | None:
        """``frame`` if it carries captions; of the two made of one frame's fields, the first."""
        if not self._reader.has_side_data:
            return None
        fields = self._config.fields
        second = fields is not None and fields.field_rate and self.report.frames % 2 == 0
        captioned = SideDataType.A53_CC in frame.side_data and not second
        return download(frame) if captioned else None
