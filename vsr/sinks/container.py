"""A container that is being written: the picture's packets, and the other streams beside them."""

import logging
import struct
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from os import fspath
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from vsr.encoding import Encoding
from vsr.encoding.muxers import HOLD_ROTATION
from vsr.encoding.scheduling import usual_scheduling
from vsr.encoding.streams import StreamSource
from vsr.ffmpeg import fraction
from vsr.frame import VideoInfo
from vsr.immersive import can_say
from vsr.notes import Notes
from vsr.orientation import is_turn
from vsr.sinks.aspect import PatchedOutput, Place, says_exactly
from vsr.sinks.clock import encoder_clock
from vsr.sinks.copier import StreamCopier
from vsr.sinks.decoding_times import GapCloser
from vsr.sinks.destination import Destination
from vsr.sinks.encoder import Encoder, open_encoder
from vsr.sinks.memory import defined_memory

__all__ = ["MediaOutput"]

logger = logging.getLogger(__name__)

_TURNS_ONLY = ("matroska", "webm")  # and mirrorings
_BUFFER_BYTES = 1 << 18  # written to a pipe at once
_LONGEST_WAIT = 1 << 28
"""Ticks; see Note [Decoding times close gaps up]."""


class MediaOutput:
    """Writes packets of a picture, whoever encodes them, and of other streams to a destination.

    The constructor opens an encoder, because a stream's headers come from one, and writes the head.
    :meth:`complete` ends the file, which its destination may then publish.

    Args:
        destination: where it goes; discarded on errors.
        encoding: container, codec and options.
        info: facts about the *output*.
        source: where the other streams come from; None writes the picture alone.
        notes: where lines on the output go that may have been said before; None begins anew.

    Attributes:
        notes: one line for everything that was lost or repaired; complete when the output is.
        clock: times of the frames; each is marked before its packet is muxed.
        encoder: encodes pictures for the stream.
        closed: whether it is complete, or has been aborted.

    Raises:
        SinkError: FFmpeg refuses the combination of streams.
        ReaderGone: nobody reads the pipe.
    """

    encoder: Encoder

    def __init__(
        self,
        destination: Destination,
        encoding: Encoding,
        info: VideoInfo,
        *,
        source: StreamSource | None,
        notes: Notes | None = None,
    ) -> None:
        self.notes = Notes(logger=logger) if notes is None else notes
        self.clock = encoder_clock(encoding, info)
        step = min(1 / info.rate, Fraction(1))  # longer ones are gaps themselves
        self._closer = GapCloser(self.clock.gaps, round(step / self.clock.base))
        self.closed = False
        self._encoding, self._info = encoding, info
        self._destination = destination
        self._held: Packet[Any] | None = None
        self._late = 0  # packets that wait longer than that
        self._first_dts: int | None = None
        self._copier: StreamCopier | None = None
        if source is not None:
            self._copier = StreamCopier(source, encoding, self.notes, info.immersive)
        self._patched: PatchedOutput | None = None
        try:
            with destination.errors():
                self._open()
        except BaseException:
            self.abort()
            raise

    @property
    def streams_before(self) -> list[Stream]:
        """The streams that come before the picture's, in their order."""
        return list(self._container.streams)[: self._stream.index]

    def mux(self, packets: "Iterable[Packet[Any]]") -> None:
        """Mux what precedes the last packet; that one waits, as its duration may change."""
        for one in packets:
            self._mux_timed(self._closer.add(one))

    def _mux_timed(self, packets: "Iterable[Packet[Any]]") -> None:
        for packet in packets:
            packet.stream = self._stream
            packet.duration = self.clock.duration(packet)  # SVT-AV1 forgets it
            self._late += self._waits_long(packet)
            if self._first_dts is None:
                self._first_dts = packet.dts
            if self._held is not None:
                self._container.mux_one(self._held)
            self._held = packet

    def mux_others(self) -> None:
        """Mux the packets of the other streams that their source has delivered so far."""
        if self._copier is not None:
            self._copier.mux(self._container)

    def complete(self, last: "Iterable[Packet[Any]]") -> None:
        """Mux the ``last`` packets and close the container, still under its temporary name.

        Raises:
            SinkError: writing failed; nothing is left.
            ReaderGone: nobody reads the pipe.
        """
        if self.closed:
            raise ValueError("the sink has been closed")
        try:
            with self._destination.errors():
                self._end(last)
        except BaseException:
            self.abort()
            raise
        self.closed = True
        if self._late:
            self.notes.warn(
                f"{self._late} pictures are coded too long before they are shown: some players find"
                f" none of the times of such a {self._encoding.muxer}; mkv, or -e bf=0, helps"
            )
        if self.clock.moved:
            rate = f"{self._encoding.codec} in {self._encoding.muxer} counts in {self.clock.base} s"
            furthest = f"by up to {float(self.clock.furthest):.3g} s"
            self.notes.warn(f"{self.clock.moved} timestamps were rounded, {furthest}: {rate}")

    def abort(self) -> None:
        """Delete what has been written; harmless when it is complete."""
        if self.closed:
            return
        self.closed = True
        self._held = None
        self._destination.discard()
        if hasattr(self, "_container"):
            with suppress(av.FFmpegError, OSError, ValueError, RuntimeError):
                self._container.close()
        self._destination.discard()

    def _open(self) -> None:
        self._container = self._open_container()
        if self._copier is None:
            self._stream = self._add_video()
        else:
            self._stream = self._copier.add_streams(
                self._container, self._add_video, self._info.duration
            )
        if self._patched is not None:
            self._patched.place = self._place()
        self._check_aspect_ratio()
        codec = self._encoding.codec
        with defined_memory(codec), usual_scheduling(codec):
            self._container.start_encoding()

    def _open_container(self) -> OutputContainer:
        file, muxer = self._destination.file, self._encoding.muxer
        options = dict(self._encoding.muxer_options)
        if muxer == "mp4" and self._says_more:
            options.setdefault("strict", "unofficial")  # else FFmpeg does not write it
        if self._copier is not None:
            options = self._copier.container_options(options)
        if file is not None:
            # With the protocol spelled out, a colon in the name starts no protocol.
            return av.open(f"file:{fspath(file)}", "w", format=muxer, options=options)
        self._patched = PatchedOutput(self._destination.open())
        return av.open(self._patched, "w", format=muxer, options=options, buffer_size=_BUFFER_BYTES)

    def _add_video(self) -> VideoStream:
        self.encoder = open_encoder(self._container, self._encoding, self._info)
        stream = self.encoder.stream
        matrix = self._info.display_matrix
        if matrix is not None and self._encoding.muxer in HOLD_ROTATION:
            stream.set_display_matrix(struct.unpack("<9i", matrix))
            if self._encoding.muxer in _TURNS_ONLY and not is_turn(matrix):
                self.notes.warn(
                    f"the picture's slant is lost: {self._encoding.muxer} holds turns alone"
                )
        elif matrix is not None:
            self.notes.warn(f"rotation is lost: {self._encoding.muxer} cannot hold it")
        return stream

    def _end(self, last: "Iterable[Packet[Any]]") -> None:
        """Flush everything and close."""
        self.mux(last)
        self._mux_timed(self._closer.flush())
        self._mux_held()
        if self._copier is not None:
            self._copier.finish(self._container)
        place = self._place()
        self._container.close()
        self._store_aspect_ratio(place)

    def _waits_long(self, packet: "Packet[Any]") -> bool:
        """Whether there is more between decoding and display than readers of the container take."""
        if self._encoding.muxer not in ("mp4", "mov") or None in (packet.pts, packet.dts):
            return False
        wait = ((packet.pts or 0) - (packet.dts or 0)) * self.clock.base
        return wait >= _LONGEST_WAIT * fraction(self._stream.time_base)

    def _mux_held(self) -> None:
        last, self._held = self._held, None
        if last is None:
            return
        if self._encoding.muxer in ("mp4", "mov") and last.dts is not None:
            assert self._first_dts is not None
            missing = self.clock.length - (last.dts - self._first_dts)
            # What is shown last may be coded earlier: the film must not end after it.
            left = missing if last.pts is None else self.clock.end - last.pts
            last.duration = max(1, min(missing, left))
        self._container.mux_one(last)

    # The aspect ratio.

    def _check_aspect_ratio(self) -> None:
        sar, muxer = self._info.sar, self._encoding.muxer
        codec = self._encoding.standard
        if (
            sar is not None
            and muxer == "mpegts"
            and not (says_exactly(codec, self._info.width, self._info.height, sar))
        ):
            self.notes.warn(f"the aspect ratio {sar} is rounded or lost: {codec} cannot say it")

    @property
    def _says_more(self) -> bool:
        """Whether the container says that the picture is no flat view."""
        encoding = self._encoding
        return self._info.immersive is not None and can_say(encoding.muxer, encoding.standard)

    def _place(self) -> Place | None:
        """What is to be patched; None if nothing is."""
        if self._info.sar is None and not self._says_more:
            return None
        track = 1 + sum(stream.type != "attachment" for stream in self.streams_before)
        muxer = self._encoding.muxer
        return Place(muxer, self._stream.index, track, self._info.sar, self._says_more)

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
        if problem and self._encoding.muxer == "mp4":
            self.notes.warn(f"FFmpeg may take the picture for a flat view: {problem}")
        elif problem:
            self.notes.warn(f"the aspect ratio {self._info.sar} is not in the container: {problem}")
