"""Anything that FFmpeg reads, as frames: opened, iterated, closed."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import logging
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Self

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream
from torch import Tensor

from vsr.config import SourceConfig
from vsr.encoding.streams import StreamSource, Timecode
from vsr.errors import SourceError, TruncatedError, UnsupportedFormatError
from vsr.frame import Frame
from vsr.sources.alignment import Beside, open_beside
from vsr.sources.framing import FrameMaker
from vsr.sources.info import video_info
from vsr.sources.planes import luma_of
from vsr.sources.readers import open_reader
from vsr.sources.report import SourceReport
from vsr.sources.skipping import Skipper
from vsr.sources.stage import FilteredPicture, PictureStage

__all__ = ["VideoSource"]

logger = logging.getLogger(__name__)
_PREVIEW_BYTES = 64 << 20


class VideoSource:
    """A media file, a pipe, pictures or a script as an iterable of frames, to be iterated once.

    The constructor opens the input and decodes its first frames. Everything may then move to
    another thread; one thread at a time may use it. A picture is decoded by a reader
    (:mod:`vsr.sources.readers`), made like the first one and filtered (:mod:`vsr.sources.stage`),
    and handed out as a frame that says how it is to be read (:mod:`vsr.sources.framing`).

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
        self._started = self._closed = self.stopped = False
        self._beside = Beside()
        self._reader = open_reader(path, self._config)
        try:
            self._beside = open_beside(path, self._config, self._reader)
            self._note(*self._beside.notes, *self._reader.notes)
            self._stage = PictureStage(
                self._reader, self._config, self.report, self._note, self._beside.delay
            )
            self.info = video_info(self._reader, self._stage, self._config, self._note)
        except BaseException:
            self.close()
            raise

        self._maker = FrameMaker(self._reader, self._stage, self._config, self.info, self.report)
        self._skipper = Skipper(self._reader, self._stage, self._maker, self.report)
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
        if (container := self._reader.container) is None:
            raise self._has_no_streams()
        return container

    @property
    def stream(self) -> VideoStream:
        """The video stream that is decoded.

        Raises:
            TypeError: the input is pictures or a script, which have none.
        """
        if (stream := self._reader.stream) is None:
            raise self._has_no_streams()
        return stream

    def _has_no_streams(self) -> TypeError:
        return TypeError(f"{self.name}: pictures and scripts have no container and no streams")

    @property
    def others(self) -> StreamSource | None:
        """Where the other streams come from: this source or a file beside it; None if nowhere."""
        own = None if self._reader.container is None else self
        return self._beside.companion or own

    @property
    def kind(self) -> str:
        """What the input is, in a word or by FFmpeg's name of the format."""
        return self._reader.facts.kind

    @property
    def has_times(self) -> bool:
        """Whether the input says when its frames are shown; they follow the rate where not."""
        return self._reader.facts.has_times

    @property
    def single(self) -> bool:
        """Whether the input is one picture by its own name."""
        return self._reader.facts.single

    @property
    def first_number(self) -> int | None:
        """Of the first frame's file, of pictures numbered one by one that give a frame each."""
        return None if self._stage.is_filtered else self._reader.facts.first_number

    @property
    def stems(self) -> tuple[str, ...]:
        """The names of the frames' files, without extensions, of pictures that give one each."""
        return () if self._stage.is_filtered else self._reader.facts.stems

    @property
    def start_time(self) -> Fraction:
        """Seconds that are subtracted from every timestamp."""
        return self._reader.facts.start_time

    @property
    def timecode(self) -> Timecode | None:
        """None: it is found in :attr:`container`."""
        return None

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
        return self._reader.joins

    @property
    def given_up(self) -> bool:
        """Whether it ends because standard input, or a script, was not waited for any longer."""
        return self._reader.given_up

    @property
    def bit_rate(self) -> int | None:
        """Bits a second of the video as far as the file says; None of what is no file."""
        if self._reader.container is not None:
            self._check_open()
        return self._reader.bit_rate

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
        return _begun(self._run())

    def _check_open(self) -> None:
        """FFmpeg would read memory that has been freed."""
        if self._closed:
            raise ValueError(f"{self.name}: this source has been closed: open it again")

    @property
    def timing(self) -> list[int] | None:
        """What :meth:`skip` needs to begin with the latest frame; None if that is not exact.

        It is not where frames depend on those before: filters, repaired times, errors.
        """
        return self._skipper.timing

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
        return self._skipper.skip(number, pts, timing, fits)

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
                self._maker.watch_clock(coming.pts - current.pts)
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

    def _finish(self, picture: FilteredPicture, duration: int) -> Frame:
        """Count a picture and make what is handed out."""
        self._maker.count(picture.taken)
        self._serve_others((picture.pts + duration) * picture.time_base)
        frame = self._maker.make(picture, duration)
        self.report.note_colour(frame.colour, self.info.colour)
        return frame

    def _serve_others(self, end: Fraction) -> None:
        """Let packets of the other streams come up to ``end``, in seconds as the output counts."""
        facts = self._reader.facts
        delay = self._beside.delay * facts.time_base
        self._ended, self._finished_at = end, end - delay + facts.start_time
        self._reader.relay.release(self._finished_at)
        if self._beside.companion is not None:
            self._beside.companion.advance(end)


def _begun(frames: Iterator[Frame]) -> Iterator[Frame]:
    """``frames``; what cannot be read once there were some is a failure, no refusal."""
    try:
        yield from frames
    except UnsupportedFormatError as error:
        raise SourceError(str(error)) from error
