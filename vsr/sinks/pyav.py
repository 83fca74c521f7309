"""Encodes frames with FFmpeg and puts them into a container beside the other streams."""

import logging
import struct
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.encoding import Encoding, encoder_time_base
from vsr.frame import Frame, VideoInfo
from vsr.sinks.aspect import PatchedOutput, Place, says_exactly
from vsr.sinks.copier import StreamCopier
from vsr.sinks.destination import open_destination
from vsr.sinks.encoder import open_encoder
from vsr.sinks.pictures import wrap, wrap_with_captions
from vsr.sinks.sink import SinkContext, check_frame
from vsr.stdout import Stdout
from vsr.streams import StreamSource

__all__ = ["PyAVSink"]

logger = logging.getLogger(__name__)

_BUFFER_BYTES = 1 << 18  # written to a pipe at once
_HOLD_ROTATION = ("mp4", "mov", "matroska", "webm")


class PyAVSink(SinkContext):
    """A media file that appears under its name only when it is complete, or a stream in a pipe.

    Until then it is a hidden file in the same folder. Every pts and duration is kept; VFR needs no
    special mode. MP4 and MOV store when a frame is *decoded*, and its duration follows from the
    next; with B-frames those are not the durations of display, so the last packet is given what
    makes the total exact (the pts, stored as offsets, always are).

    Args:
        path: The output; :data:`~vsr.config.PIPE` is standard output.
        encoding: From :func:`vsr.encoding.choose_encoding`.
        info: Facts about the *output*: size, rate, time base, aspect ratio, display matrix,
            duration.
        source: Where the other streams come from; None writes the picture alone.
        overwrite: Whether an existing file may be replaced.
        stdout: The stream that :data:`~vsr.config.PIPE` stands for.

    Raises:
        SinkError: the file cannot be created, or FFmpeg refuses the combination of streams.
        ReaderGone: nobody reads the pipe.
    """

    def __init__(
        self,
        path: Path,
        encoding: Encoding,
        info: VideoInfo,
        *,
        source: StreamSource | None,
        overwrite: bool,
        stdout: Stdout | None = None,
    ) -> None:
        self.frames = 0
        """Frames written so far."""
        self.notes: list[str] = []
        """One line for everything that was lost or repaired; complete after :meth:`finish`."""
        self._encoding = encoding
        self._info = info
        self._base = encoder_time_base(encoding, info)
        self._clock = _Clock(self._base)
        self._held: Packet[Any] | None = None
        self._first_dts: int | None = None
        self._captions_lost = False
        self._copier: StreamCopier | None = None
        if source is not None:
            fragmented = encoding.fragmented
            self._copier = StreamCopier(source, encoding.muxer, fragmented=fragmented)
        self._result: Path | None = None
        self._destination = open_destination(path, overwrite=overwrite, stdout=stdout)
        self._errors = self._destination.errors
        self._patched: PatchedOutput | None = None
        self._closed = self._finished = False
        try:
            with self._errors():
                self._open()
        except BaseException:
            self.abort()
            raise

    def write(self, frame: Frame) -> None:
        """Encode one frame, and mux what the encoder and the other streams have ready.

        The frame's planes may be used, uncopied, long after the call: do not write to them again.

        Raises:
            SinkError: encoding or writing failed, e.g. the disk is full.
            ReaderGone: nobody reads the pipe.
            ValueError: the frame is not what was announced, or comes after a later one.
        """
        if self._closed:
            raise ValueError("the sink has been closed")
        check_frame(frame, self._encoding.format, self._info)
        picture = self._picture(frame)
        with self._errors(listen=False):
            self._mux(self._encoder.encode(picture))
            if self._copier is not None:
                self._copier.mux(self._container)
        self.frames += 1

    def finish(self) -> Path | None:
        """Complete the file and give it its name; harmless if done before. A pipe has none.

        Raises:
            SinkError: writing failed; nothing is left.
            ReaderGone: nobody reads the pipe.
        """
        if not self._finished:
            self._complete()
            self._result = self._destination.publish()
        return self._result

    def keep_partial(self) -> Path | None:
        """Complete the file with what there is, under another name: ``out.partial.mp4``.

        Raises:
            SinkError: writing failed; nothing is left.
            ReaderGone: nobody reads the pipe.
        """
        if not self._finished:
            self._complete()
            self._result = self._destination.publish_partial()
        return self._result

    def abort(self) -> None:
        """Delete what has been written; harmless after :meth:`finish`."""
        if self._closed:
            return
        self._closed = True
        self._held = None
        self._destination.discard()
        if hasattr(self, "_container"):
            with suppress(av.FFmpegError, OSError, ValueError, RuntimeError):
                self._container.close()
        self._destination.discard()

    # -- Opening and closing -----------------------------------------------------------------------

    def _open(self) -> None:
        self._container = self._open_container()
        if self._copier is None:
            self._stream = self._add_video()
        else:
            self._stream = self._copier.add_streams(
                self._container, self._add_video, self._info.duration
            )
            self.notes += self._copier.notes
            self._copier.notes = self.notes
        if self._patched is not None and self._info.sar is not None:
            self._patched.place = self._place(self._info.sar)
        self._check_aspect_ratio()
        self._container.start_encoding()

    def _open_container(self) -> OutputContainer:
        file, muxer = self._destination.file, self._encoding.muxer
        options = dict(self._encoding.muxer_options)
        if self._copier is not None:
            options = self._copier.container_options(options)
        if file is not None:
            # With the protocol spelled out, a colon in the name starts no protocol.
            return av.open(f"file:{file}", "w", format=muxer, options=options)
        self._patched = PatchedOutput(self._destination.open())
        return av.open(self._patched, "w", format=muxer, options=options, buffer_size=_BUFFER_BYTES)

    def _add_video(self) -> VideoStream:
        self._encoder = open_encoder(self._container, self._encoding, self._info)
        stream = self._encoder.stream
        matrix = self._info.display_matrix
        if matrix is not None and self._encoding.muxer in _HOLD_ROTATION:
            stream.set_display_matrix(struct.unpack("<9i", matrix))
        elif matrix is not None:
            self._warn(f"rotation is lost: {self._encoding.muxer} cannot hold it")
        return stream

    def _complete(self) -> None:
        """Flush everything and close the container, still under the temporary name."""
        if self._closed:
            raise ValueError("the sink has been closed")
        try:
            with self._errors():
                self._mux(self._encoder.encode(None))
                self._mux_last()
                if self._copier is not None:
                    self._copier.finish(self._container)
                place = self._place(self._info.sar) if self._info.sar is not None else None
                self._container.close()
                self._store_aspect_ratio(place)
        except BaseException:
            self.abort()
            raise
        self._closed = self._finished = True
        if self._clock.moved:
            rate = f"{self._encoding.codec} in {self._encoding.muxer} counts in {self._base} s"
            self._warn(f"{self._clock.moved} timestamps were rounded: {rate}")

    def _warn(self, note: str) -> None:
        self.notes.append(note)
        logger.warning("%s", note)

    def _check_aspect_ratio(self) -> None:
        sar, muxer = self._info.sar, self._encoding.muxer
        codec = self._stream.codec_context.codec.canonical_name
        if (
            sar is not None
            and muxer == "mpegts"
            and not (says_exactly(codec, self._info.width, self._info.height, sar))
        ):
            self._warn(f"the aspect ratio {sar} is rounded or lost: {codec} cannot say it")

    def _place(self, sar: Fraction) -> Place:
        before = list(self._container.streams)[: self._stream.index]
        track = 1 + sum(stream.type != "attachment" for stream in before)
        return Place(self._encoding.muxer, self._stream.index, track, sar)

    def _store_aspect_ratio(self, place: Place | None) -> None:
        problem = None
        if self._patched is not None:
            self._patched.finish()
            problem = self._patched.problem
        elif place is not None and self._destination.file is not None:
            try:
                place.set_in_file(self._destination.file)
            except ValueError as error:
                problem = str(error)
        if problem:
            self._warn(f"the aspect ratio {self._info.sar} is not in the container: {problem}")

    # -- Frames and packets ------------------------------------------------------------------------

    def _picture(self, frame: Frame) -> VideoFrame:
        """``frame`` as FFmpeg's, sharing its memory where that is possible."""
        picture = self._with_captions(frame)
        colour = self._encoding.colour
        picture.color_range = colour.range
        picture.colorspace = colour.matrix
        picture.color_primaries = colour.primaries
        picture.color_trc = colour.transfer
        picture.chroma_location = colour.siting
        picture.pts, picture.duration = self._clock.mark(frame)
        picture.time_base = self._base
        return picture

    def _with_captions(self, frame: Frame) -> VideoFrame:
        if frame.captions is None:
            return wrap(frame)
        if self._encoder.writes_captions:
            return wrap_with_captions(frame, frame.captions)
        if not self._captions_lost:
            self._captions_lost = True
            self._warn(f"closed captions are lost: {self._encoding.codec} writes none")
        return wrap(frame)

    def _mux(self, packets: "list[Packet[Any]]") -> None:
        """Mux what precedes the last packet; that one waits, as its duration may change."""
        for packet in packets:
            packet.duration = self._clock.duration(packet)  # SVT-AV1 forgets it
            if self._first_dts is None:
                self._first_dts = packet.dts
            if self._held is not None:
                self._container.mux_one(self._held)
            self._held = packet

    def _mux_last(self) -> None:
        last, self._held = self._held, None
        if last is None:
            return
        if self._encoding.muxer in ("mp4", "mov") and last.dts is not None:
            assert self._first_dts is not None
            last.duration = max(1, self._clock.length - (last.dts - self._first_dts))
        self._container.mux_one(last)


class _Clock:
    """The times of the frames, in the encoder's time base."""

    def __init__(self, base: Fraction) -> None:
        self.moved = 0
        """Frames whose time is not a multiple of the base."""
        self._base = base
        self._first: int | None = None
        self._last = self._end = 0
        self._durations: dict[int, int] = {}

    @property
    def length(self) -> int:
        """From the start of the first frame to the end of the last."""
        return self._end - (self._first or 0)

    def mark(self, frame: Frame) -> tuple[int, int]:
        """Time and duration of ``frame``, which must come after the last one."""
        unit = frame.time_base / self._base
        exact, end = frame.pts * unit, (frame.pts + frame.duration) * unit
        pts = round(exact)
        if self._first is None:
            self._first = pts
        elif pts <= self._last and unit == 1:
            raise ValueError(f"frame at {pts} comes after the one at {self._last}")
        else:
            pts = max(pts, self._last + 1)
        self.moved += pts != exact
        duration = max(1, round(end) - pts)
        self._last, self._end = pts, max(self._end, pts + duration)
        self._durations[pts] = duration
        return pts, duration

    def duration(self, packet: "Packet[Any]") -> int | None:
        """The duration of the frame in ``packet``."""
        if packet.pts is None:
            return packet.duration
        return self._durations.pop(packet.pts, packet.duration)
