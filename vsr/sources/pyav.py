"""Anything that FFmpeg reads, as frames: colour, fields, filters, timestamps."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, takewhile
from pathlib import Path
from typing import Self

from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.config import FieldsConfig
from vsr.errors import SourceError, TruncatedError, UnsupportedFormatError
from vsr.frame import Colour, FieldOrder, Frame, PixelFormat, VideoInfo
from vsr.sources.colours import FrameColours, contradiction
from vsr.sources.companion import Companion
from vsr.sources.describe import frame_colour
from vsr.sources.fields import Fields, examine, field_steps
from vsr.sources.filters import FilterChain, Geometry, Step, parse_chain
from vsr.sources.pictures import PictureReader
from vsr.sources.planes import convert, native_format, planes_of, same_layout
from vsr.sources.reader import FileReader, Timed
from vsr.sources.readers import SourceConfig, open_companion, open_reader
from vsr.sources.report import SourceReport
from vsr.sources.timestamps import Timeline
from vsr.streams import StreamSource

__all__ = ["PyAVSource"]

_log = logging.getLogger(__name__)

_EXAMINED_FRAMES = 100
_EXAMINED_BYTES = 256 << 20
_FEWEST_EXAMINED = 32
"""Even if fewer frames are wanted, so that a trial says what the whole run would."""


class PyAVSource:
    """A media file, a pipe, pictures or a script as an iterable of frames, to be iterated once.

    The constructor opens the input and decodes its first frames. Everything may then move to
    another thread; one thread at a time may use it. A picture goes through four steps: it is
    decoded (:mod:`vsr.sources.reader`), brought to the size and format of the first one, filtered
    (:mod:`vsr.sources.filters`), and described.

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

    Raises:
        SourceError: the input is missing, is no media file, holds no video that decodes, or ends
            before the start.
        ConfigError: it is interlaced and nothing was chosen to be done, or a filter is refused.
    """

    def __init__(self, path: Path, config: SourceConfig | None = None) -> None:
        self.path, self._config = path, config or SourceConfig()
        self.report = SourceReport()
        self.notes: list[str] = []
        self.fields: Fields | None = None
        self.filters = ""
        self._taken: list[Timed] = []
        self._chain: FilterChain | None = None
        self._started = self._closed = False
        self._companion: Companion | None = None
        self._reader = open_reader(path, self._config)
        try:
            self._companion = self._open_companion()
            self._prepare()
        except BaseException:
            self.close()
            raise

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
        return self._file.container

    @property
    def stream(self) -> VideoStream:
        """The video stream that is decoded."""
        return self._file.stream

    @property
    def _file(self) -> FileReader:
        if not isinstance(self._reader, FileReader):
            raise TypeError(f"{self.name}: pictures and scripts have no container and no streams")
        return self._reader

    @property
    def others(self) -> StreamSource | None:
        """Where the other streams come from: this source or a file beside it; None if nowhere."""
        own = self if isinstance(self._reader, FileReader) else None
        return self._companion or own

    @property
    def kind(self) -> str:
        """What the input is, in a word or by FFmpeg's name of the format."""
        if isinstance(self._reader, FileReader):
            return str(self._reader.container.format.name)
        if isinstance(self._reader, PictureReader):
            return "pictures"
        return "BestSource" if self._config.decoder == "bestsource" else "VapourSynth script"

    @property
    def single(self) -> bool:
        """Whether the input is one picture by its own name."""
        return isinstance(self._reader, PictureReader) and self._reader.single

    @property
    def start_time(self) -> Fraction:
        """Seconds that are subtracted from every timestamp."""
        return self._reader.start_time

    @property
    def relay(self) -> set[int]:
        """Indices of the other streams whose packets are wanted; to be set before iterating."""
        return self._reader.relay.wanted

    @relay.setter
    def relay(self, indices: set[int]) -> None:
        self._reader.relay.wanted = set(indices)

    @property
    def packets(self) -> deque[Packet[Stream]]:
        """Packets of the streams in :attr:`relay`, in file order, timestamps not shifted.

        Appended by the thread that iterates; another thread may pop them from the left.
        """
        return self._reader.relay.packets

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the input and stop the decoder; harmless if done before."""
        if not self._closed:
            self._closed = True
            self._reader.close()
            if self._companion is not None:
                self._companion.close()

    def __iter__(self) -> Iterator[Frame]:
        if self._started or self._closed:
            raise ValueError(f"{self.name}: this source has been read or closed: open it again")
        self._started = True
        return self._run()

    # Before the first frame

    def _open_companion(self) -> Companion | None:
        """The file whose other streams are copied, if that is not what the reader reads."""
        config = self._config
        companion = open_companion(self.path, config)
        if companion is not None:
            pictures = isinstance(self._reader, PictureReader)  # start at a whole one
            start = self._reader.start_time if pictures else config.start
            companion.trim(start or Fraction(0), config.end)
            if config.audio_from is not None and self._has_streams:
                self._note(f"other streams come from {companion.name}, not from the input")
        return companion

    @property
    def _has_streams(self) -> bool:
        return isinstance(self._reader, FileReader) and len(self._reader.container.streams) > 1

    def _prepare(self) -> None:
        """Look at the first frames, choose the filters, and describe what comes out of them."""
        self._note(*self._reader.notes)
        first = self._reader.peek(1, 1)[0].frame
        self._layout = (first.width, first.height, first.format.name)
        self._coded_sar: Fraction | None = None
        self._native = self._native_format(first)
        self._colours = FrameColours(self._reader, self._config.input, first, self._native)
        self.tags = self._colours.declared(first)
        self._compare_tags(first)
        steps = self._choose_steps()
        if steps:
            self._chain = FilterChain(steps, self._prepared(first), self._geometry())
            step = 1 / (
                (self._chain.result.rate or self._reader.rate) * self._chain.result.time_base
            )
            self._timeline = Timeline(round(step))
            self.filters = ",".join(f"{name}={text}" if text else name for name, text in steps)
        pictures = self._pictures()
        if (picture := next(pictures, None)) is None:
            raise SourceError(f"{self.name}: no frame comes out of the filters {self.filters}")
        self._coming = chain([picture], pictures)
        self.info = self._describe(first, picture.frame)

    def _compare_tags(self, first: VideoFrame) -> None:
        found = contradiction(self._reader.tags, frame_colour(first, Colour()), self._config.input)
        if found is not None:
            self._note(found, level=logging.WARNING)

    def _choose_steps(self) -> list[Step]:
        steps: list[Step] = []
        config = self._config
        if config.fields is not None:
            steps += self._look_at_fields(config.fields)
        if config.crop:
            steps += self._cropping(combed=not steps and self._is_combed)
        if config.filters:
            steps += parse_chain(config.filters)
        return steps

    def _look_at_fields(self, config: FieldsConfig) -> list[Step]:
        wanted = _EXAMINED_FRAMES
        if self._config.frames is not None:
            wanted = min(wanted, max(self._config.frames, _FEWEST_EXAMINED))
        frames = [timed.frame for timed in self._reader.peek(wanted, _EXAMINED_BYTES)]
        alike = takewhile(lambda f: (f.width, f.height, f.format.name) == self._layout, frames)
        self.fields = examine(list(alike), self._reader.rate)
        steps, notes = field_steps(self.name, self.fields, self._config.input.field_order, config)
        self._note(*notes)
        return steps

    @property
    def _is_combed(self) -> bool:
        return self.fields is not None and self.fields.kind != "progressive"

    def _cropping(self, *, combed: bool) -> list[Step]:
        """The container's cropping, outwards to whole chroma samples (and pairs of fields)."""
        top, bottom, left, right = self._reader.cropping
        width, height, _ = self._layout
        if not (top or bottom or left or right) or left + right >= width or top + bottom >= height:
            return []
        across = 1 << self._native.chroma_w
        down = (1 << self._native.chroma_h) * (2 if combed else 1)
        x, y = left - left % across, top - top % down
        columns = -(-(width - right) // across) * across - x
        rows = -(-(height - bottom) // down) * down - y
        self._note(
            f"the container's cropping is applied: {width}x{height} becomes {columns}x{rows}"
            " (--no-crop keeps all)"
        )
        return [("crop", f"w={columns}:h={rows}:x={x}:y={y}:exact=1")]

    def _geometry(self) -> Geometry:
        width, height, _ = self._layout
        return Geometry(
            width=width, height=height, sar=self._config.input.sar or self._reader.sar,
            time_base=self._reader.time_base, rate=self._reader.rate,
        )  # fmt: skip

    def _describe(self, first: VideoFrame, picture: VideoFrame) -> VideoInfo:
        """The stream, from its first frame and the first that comes out of the filters."""
        reader, shape = self._reader, self._geometry()
        format = self._native
        if self._chain is not None:
            shape = self._chain.result
            format = self._native_format(picture)
        rate = shape.rate or reader.rate
        frames, duration = self._expected(rate)
        hdr, lost = reader.hdr(first)
        self._note(*lost, level=logging.WARNING)
        return VideoInfo(
            width=picture.width, height=picture.height, format=format,
            colour=self._colour_of(picture, format), time_base=shape.time_base, rate=rate,
            frames=frames, duration=duration, sar=shape.sar,
            display_matrix=reader.display_matrix(first), field_order=self._field_order(first),
            hdr=hdr, codec=reader.codec,
        )  # fmt: skip

    def _field_order(self, first: VideoFrame) -> FieldOrder:
        """Of the frames that are handed on."""
        fields, stated = self._config.fields, self._config.input.field_order
        if fields is not None and (fields.deinterlace or fields.ivtc):
            return FieldOrder.PROGRESSIVE
        if stated is not None:
            return stated
        tagged = self._reader.field_order(first)
        if tagged or self.fields is None or not self._is_combed:
            return tagged
        return self.fields.order

    def _native_format(self, frame: VideoFrame) -> PixelFormat:
        try:
            format = native_format(frame)
        except UnsupportedFormatError as error:
            raise UnsupportedFormatError(f"{self.name}: {error}") from error
        if format.name != frame.format.name:
            self._note(f"pixel format {frame.format.name} is converted to {format.name}")
        return format

    def _expected(self, rate: Fraction) -> tuple[int | None, Fraction | None]:
        """Frames and seconds to come out, as far as the container says."""
        config = self._config
        length, count = self._reader.length, self._reader.count
        if length is not None and (config.start or config.end is not None):
            start = config.start or Fraction(0)
            length = max(min(length, config.end or length) - start, Fraction(0))
            count = None
        if count is not None and rate != self._reader.rate:
            count = round(count * rate / self._reader.rate)
        if count is None and length is not None:
            count = max(1, round(length * rate))
        if config.frames is not None and (count is None or count > config.frames):
            count, length = config.frames, config.frames / rate
        return count, length

    def _note(self, *lines: str, level: int = logging.INFO) -> None:
        for line in lines:
            if line not in self.notes:
                self.notes.append(line)
                _log.log(level, "%s: %s", Path(self.name).name, line)

    # Pictures

    def _pictures(self) -> Iterator[_Picture]:
        """What comes out of the filters, counted from the start of the trim."""
        base = self._reader.time_base
        while (timed := self._reader.next()) is not None:
            self._taken.append(timed)
            pts = timed.pts - self._reader.shift
            if self._chain is None:
                yield self._picture(timed.frame, pts, base)
            else:
                frame = self._prepared(timed.frame)
                frame.pts, frame.time_base = pts, base
                yield from self._out_of_chain(frame)
        if self._chain is not None:
            yield from self._out_of_chain(None)

    def _out_of_chain(self, frame: VideoFrame | None) -> Iterator[_Picture]:
        assert self._chain is not None
        for out in self._chain.push(frame):
            pts, _ = self._timeline.place(out.pts, None, out.duration)
            yield self._picture(out, pts, self._chain.result.time_base)

    def _picture(self, frame: VideoFrame, pts: int, time_base: Fraction) -> _Picture:
        taken, self._taken = self._taken, []
        return _Picture(frame, pts, time_base, taken)

    def _run(self) -> Iterator[Frame]:
        self._reader.relay.start()
        if self._companion is not None:
            self._companion.start()
        current: _Picture | None = None
        wanted, stopped = self._config.frames, False
        for coming in self._coming:
            if current is not None:
                yield self._finish(current, coming.pts - current.pts)
            current = None
            if stopped := self.report.frames == wanted:
                break
            current = coming
        if current is not None:
            yield self._finish(current, self._last_duration())
        self._reader.finish(self.report, self._finished_at if stopped else None)
        if self._companion is not None:
            self._companion.finish(self._ended, stopped=stopped)
            self._note(*self._companion.notes)
        self._note(*self._reader.notes)
        if self._reader.broken and not stopped:
            raise TruncatedError(f"{self.name}: {self._reader.broken}")

    def _last_duration(self) -> int:
        if self._chain is None:
            return self._reader.last_duration()
        return self._timeline.last_duration()

    def _finish(self, picture: _Picture, duration: int) -> Frame:
        """Count a picture and make what is handed out."""
        info = self.info
        self._count(picture.taken)
        end = (picture.pts + duration) * picture.time_base
        self._ended, self._finished_at = end, end + self._reader.start_time
        self._reader.relay.release(self._finished_at)
        if self._companion is not None:
            self._companion.advance(end)
        frame = self._promised(picture.frame)
        colour = self._colour_of(picture.frame, info.format)
        self.report.retagged_frames += colour != info.colour
        return Frame(
            planes=planes_of(frame, info.format), format=info.format, width=info.width,
            height=info.height, colour=colour, pts=picture.pts,
            time_base=picture.time_base, duration=duration,
            corrupt=any(timed.damaged for timed in picture.taken),
            captions=self._captioned(picture.frame),
        )  # fmt: skip

    def _count(self, taken: list[Timed]) -> None:
        report = self.report
        for timed in taken:
            report.note(repaired=timed.repaired, damaged=timed.damaged)
        report.frames += 1
        self._watch_shape()
        report.decode_errors = self._reader.decode_errors

    def _watch_shape(self) -> None:
        """Notice an aspect ratio that changes in mid-stream."""
        before, sar = self._coded_sar, self._reader.coded_sar
        if before is not None and sar is not None and sar != before:
            self.report.reshaped = (before, sar)
        self._coded_sar = sar

    def _captioned(self, frame: VideoFrame) -> VideoFrame | None:
        """``frame`` if it carries captions; of the two made of one frame's fields, the first."""
        if not self._reader.has_side_data:
            return None
        fields = self._config.fields
        second = fields is not None and fields.field_rate and self.report.frames % 2 == 0
        return frame if SideDataType.A53_CC in frame.side_data and not second else None

    def _prepared(self, frame: VideoFrame) -> VideoFrame:
        """``frame`` as the filters get all of them: alike, and with complete tags."""
        return self._colours.tag(self._conform(frame))

    def _conform(self, frame: VideoFrame) -> VideoFrame:
        """``frame`` in the size of the first one and in a pixel format that is handed on."""
        width, height, name = self._layout
        same = (frame.width, frame.height) == (width, height)
        if not (same and same_layout(frame.format.name, name)):
            self.report.reformatted_frames += 1
        if same and same_layout(frame.format.name, self._native.name):
            return frame
        matrix = self._colours.of(frame).matrix
        return convert(frame, self._native, width, height, matrix=matrix)

    def _promised(self, frame: VideoFrame) -> VideoFrame:
        """A picture in the size and pixel format of ``info``.

        Raises:
            SourceError: filters change the size in mid-stream.
        """
        if self._chain is None:
            return self._conform(frame)
        info = self.info
        if (frame.width, frame.height) != (info.width, info.height):
            raise SourceError(
                f"{self.name}: filter {self.filters} changes the size in mid-stream, from"
                f" {info.width}x{info.height} to {frame.width}x{frame.height}: add a scale to it"
            )
        if same_layout(frame.format.name, info.format.name):
            return frame
        matrix = self._colours.of_filtered(frame, info.format).matrix
        return convert(frame, info.format, info.width, info.height, matrix=matrix)

    def _colour_of(self, frame: VideoFrame, format: PixelFormat) -> Colour:
        """How a picture is to be read; guesses are noted once."""
        filtered = self._chain is not None
        colours = self._colours
        colour = colours.of_filtered(frame, format) if filtered else colours.of(frame)
        self._note(*colours.guesses)
        return colour


@dataclass(slots=True)
class _Picture:
    """What comes out of the filters, and which decoded frames went in for it."""

    frame: VideoFrame
    pts: int
    """Counted from the start of the trim."""
    time_base: Fraction
    taken: list[Timed]
