"""Moves the packets of the other streams from a source into an output container."""

import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any, cast

import av
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.format import Flags as FormatFlags
from av.packet import Packet
from av.rational import AVRational
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from vsr.encoding import Encoding
from vsr.encoding.sound import SoundCodec, add_sound
from vsr.encoding.streams import (
    StreamSource,
    add_copy,
    codec_of,
    cover_picture,
    is_cover_art,
    name_of,
    output_chapters,
    plan_route,
)
from vsr.ffmpeg import fraction
from vsr.sinks.labels import (
    holds_timecode,
    kept_metadata,
    lost_dispositions,
    lost_tags,
    metadata_flags,
    stream_metadata,
)
from vsr.sinks.sound import SoundEncoder
from vsr.sinks.timecode import later_timecode

__all__ = ["StreamCopier"]

logger = logging.getLogger(__name__)

_HAVE_CHAPTERS = ("matroska", "webm", "mp4", "mov", "nut")
_NONSTRICT = cast(int, FormatFlags.ts_nonstrict.value)

# mov_text needs a style to refer to; the encoder writes its description from this.
_SUBTITLE_HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@dataclass(slots=True, kw_only=True)
class Track:
    """A stream beside the picture: where its packets go and what its clock has shown so far."""

    name: str
    output: Stream
    offset: int
    """Subtracted from timestamps, in the source stream's time base."""
    earliest: int
    """Packets that start before this are cut, in the source stream's time base."""
    gap: int
    """Packets of this many bytes or fewer mean "no subtitle now"; they are not copied."""
    timeless: bool
    """Cover art: one packet, shown all the time."""
    strict: bool
    """The muxer wants every dts above the last, not only at or above it."""
    sound: SoundEncoder | None = None
    """What encodes the packets anew; None where they are copied."""
    base: AVRational | None = None
    """Of the clock below, where it is not the output's: sound is decoded with its own."""
    filter: BitStreamFilterContext | None = None
    converted: bool = False
    """Subtitles of one container's form in another's, as plain text; see :func:`_as_plain_text`."""
    unstyled: int = 0
    """Subtitles that have lost italics, colours or places by that."""
    dateless: "list[Packet[Any]]" = field(default_factory=list)
    """The first packets, while none has a dts."""
    jump: int = 0
    """Added since the source's clock fell back, in the clock's time base, as what follows."""
    next_dts: int | None = None
    """Lowest dts that the muxer takes."""
    end: int = 0
    """Where the last packet ended."""
    repaired: int = 0
    cut: int = 0

    def write(self, container: OutputContainer, packet: "Packet[Any]") -> None:
        """Shift, filter, repair and mux one packet of the source."""
        if packet.size <= self.gap or not self._shift(packet):
            return
        if self.next_dts is None and packet.dts is None and self.output.type == "video":
            self.dateless.append(packet)
            return
        if self.dateless:
            self._date(packet)
            for earlier in self.dateless:
                self._mux(container, earlier)
            self.dateless.clear()
        self._mux(container, packet)

    def _mux(self, container: OutputContainer, packet: "Packet[Any]") -> None:
        if self.converted:
            packet, styled = _as_plain_text(packet, codec_of(packet.stream))
            self.unstyled += styled
        base = packet.time_base
        for one in self.filter.filter(packet) if self.filter else [packet]:
            one.time_base = base  # filters forget it
            one.rescale_ts(self.base or self.output.time_base)
            self._repair(one)
            if self.sound is not None:
                container.mux(list(self.sound.encode(one)))
            else:
                one.stream = self.output
                container.mux_one(one)

    def _date(self, first: "Packet[Any]") -> None:
        """Give packets without a dts one each, ahead of that of the ``first`` that has one.

        Matroska has no dts. FFmpeg makes them up from the times of B-frames, but for as many as
        the decoder holds back.
        """
        assert first.dts is not None
        shown = sorted(p.pts for p in (*self.dateless, first) if p.pts is not None)
        step = min((b - a for a, b in pairwise(shown)), default=1)
        for ahead, packet in enumerate(reversed(self.dateless), 1):
            packet.dts = first.dts - ahead * step

    def finish(self, container: OutputContainer) -> None:
        """Write what is still held."""
        for packet in self.dateless:
            self._mux(container, packet)
        if self.sound is not None:
            container.mux(list(self.sound.finish()))

    def _shift(self, packet: "Packet[Any]") -> bool:
        """Count from the start of the output; False if the packet lies before it."""
        if self.timeless:
            packet.pts = packet.dts = 0
            return True
        if packet.dts is not None:
            packet.dts -= self.offset
        if packet.pts is not None:
            packet.pts -= self.offset
        start = packet.pts if packet.pts is not None else packet.dts
        if start is None or start >= self.earliest:
            return True
        end = start + (packet.duration or 0)
        if self.output.type == "subtitle" and end > 0:  # already shown when the output starts
            packet.pts = packet.dts = 0
            packet.duration = end
            return True
        self.cut += 1
        return False

    def _repair(self, packet: "Packet[Any]") -> None:
        """Make the dts rise as the muxer demands.

        Where the clock falls back by more than half a second, everything after continues where the
        last packet ended; smaller stumbles are levelled out one by one.
        """
        found = packet.dts if packet.dts is not None else packet.pts
        given = self.end if found is None else found
        dts = given + self.jump
        if self.next_dts is not None and dts < self.next_dts:
            fall = (self.next_dts - dts) * fraction(self.base or self.output.time_base)
            if fall > Fraction(1, 2) and self.output.type != "subtitle":
                self.jump += max(self.end, self.next_dts) - dts
            dts = max(given + self.jump, self.next_dts)
        self.repaired += found is None or abs(dts - found) > 1  # one tick is rounding
        pts = packet.pts if packet.pts is not None else given
        packet.pts, packet.dts = max(pts + self.jump, dts), dts
        self.next_dts = dts + self.strict
        self.end = dts + (packet.duration or 0)


_STYLE = re.compile(rb"</?(?:[ibus]|font)\b[^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)
"""What SubRip says of style: HTML's tags, and Advanced SubStation's ``{\\an8}``."""


def _as_plain_text(packet: "Packet[Any]", codec: str) -> tuple["Packet[Any]", bool]:
    """A subtitle without its style, and whether it had any.

    A player shows SubRip's tags as they stand where it expects plain text. In mov_text, style lies
    behind the text, whose length comes first, and stays behind when that is unwrapped.
    """
    data = bytes(packet)
    if codec == "mov_text":
        return packet, len(data) > 2 + int.from_bytes(data[:2], "big")
    text = _STYLE.sub(b"", data)
    if text == data:
        return packet, False
    plain: Packet[Any] = Packet(text)
    plain.pts, plain.dts, plain.duration = packet.pts, packet.dts, packet.duration
    plain.time_base = packet.time_base
    return plain, True


class StreamCopier:
    """Copies all streams but the picture from a source to an output container.

    Add the streams with :meth:`add_streams` before the header is written, then call :meth:`mux`
    again and again, and :meth:`finish` at the end.
    """

    def __init__(self, source: StreamSource, encoding: Encoding) -> None:
        self.notes: list[str] = []
        """One line for everything that cannot be carried or had to be repaired."""
        self._encoding = encoding
        self._source = source
        self._muxer = encoding.muxer
        self._tracks: dict[int, Track] = {}
        self._lost_tags: list[str] = []
        self._lost_dispositions: list[str] = []

    def container_options(self, given: Mapping[str, str]) -> dict[str, str]:
        """``given`` options of the container, and those that the source's metadata asks for."""
        flags = metadata_flags(self._source.container.metadata, self._muxer)
        joined = given.get("movflags", "") + flags
        return {**given, "movflags": joined} if flags else dict(given)

    def add_streams(
        self,
        container: OutputContainer,
        add_video: Callable[[], VideoStream],
        duration: Fraction | None = None,
    ) -> VideoStream:
        """Add every stream that ``container`` can hold, in the source's order.

        Args:
            container: the output; its header must not have been written.
            add_video: adds the picture's stream; called when it is its turn.
            duration: length of the output in seconds, if known; later chapters are left out.

        Returns:
            The picture's stream.
        """
        metadata = kept_metadata(self._source.container.metadata, self._muxer)
        container.metadata.update(metadata)
        self._lost_tags = [f"{key} (file)" for key in lost_tags(metadata, self._muxer)]
        replaced = self._source.stream
        video = add_video() if replaced is None else None
        for stream in self._source.container.streams:
            if replaced is not None and stream.index == replaced.index:
                video = add_video()
                self._describe_video(replaced, video, container)
            else:
                self._add(container, stream)
        assert video is not None
        chapters = output_chapters(self._source, duration)
        if chapters and self._muxer not in _HAVE_CHAPTERS:
            self._warn(f"{len(chapters)} chapters are dropped: {self._muxer} has none")
        elif chapters:
            container.set_chapters(chapters)
        self._report_lost_labels()
        if self._muxer == "avi" and self._tracks:
            self._warn("avi has no timestamps: a late start is lost, and gaps in sound close")
        return video

    def mux(self, container: OutputContainer) -> None:
        """Write all packets that the source has delivered so far."""
        while self._source.packets:
            packet = self._source.packets.popleft()
            track = self._tracks.get(packet.stream.index)
            if track is None or (packet.size == 0 and packet.dts is None):  # end of the stream
                continue
            track.write(container, packet)

    def finish(self, container: OutputContainer) -> None:
        """Write what is left and report what was repaired."""
        self.mux(container)
        for track in self._tracks.values():
            track.finish(container)
            if track.sound is not None and (damaged := track.sound.damaged):
                several = "1 packet" if damaged == 1 else f"{damaged} packets"
                self._warn(f"{track.name}: {several} could not be decoded")
            if track.repaired:
                self._warn(f"{track.name}: {track.repaired} timestamps were repaired")
            if track.unstyled:
                several = "1 text loses" if track.unstyled == 1 else f"{track.unstyled} texts lose"
                self._warn(
                    f"{track.name}: {several} style, colour or place: {self._muxer} gets plain text"
                )
            if track.cut:
                self._warn(f"{track.name}: {track.cut} packets before the start were cut")

    def _report_lost_labels(self) -> None:
        for what, lost in (("tags", self._lost_tags), ("dispositions", self._lost_dispositions)):
            if lost:
                named = ", ".join(lost)
                self._warn(f"{what} are dropped, {self._muxer} has no place for them: {named}")

    def _warn(self, note: str) -> None:
        self.notes.append(note)
        logger.warning("%s", note)

    def _add(self, container: OutputContainer, stream: Stream) -> None:
        route = plan_route(
            self._source, stream, self._muxer, fragmented=self._encoding.fragmented,
            blu_ray=self._encoding.blu_ray,
        )  # fmt: skip
        if route.how == "copy":
            self._follow(container, stream, add_copy(container, stream))
        elif route.how == "convert":
            assert isinstance(stream, SubtitleStream)
            self._add_converted(container, stream)
        elif route.codec is not None:
            assert isinstance(stream, AudioStream)
            self._warn(route.note)
            self._add_encoded(container, stream, route.codec)
        elif route.how == "attach" and (picture := cover_picture(self._source, stream)):
            container.add_attachment(*picture)
        elif route.how == "attach":
            self._warn(f"{name_of(stream)} is dropped: the input cannot be read twice")
        elif route.note:
            self._warn(route.note)

    def _follow(self, container: OutputContainer, stream: Stream, output: Stream) -> Track:
        """Describe ``output`` like ``stream`` and ask the source for its packets."""
        self._label(stream, output)
        base = fraction(stream.time_base)
        track = Track(
            name=name_of(stream),
            output=output,
            offset=round(self._source.start_time / base),
            earliest=round(-_allowance(stream) / base),
            timeless=is_cover_art(stream),
            gap=2 if codec_of(stream) == "mov_text" else -1,  # mp4 fills gaps anew
            strict=not container.format.flags & _NONSTRICT,
        )
        if stream.type != "attachment":  # those travel in the header
            self._tracks[stream.index] = track
            self._source.relay.add(stream.index)
        return track

    def _add_converted(self, container: OutputContainer, stream: SubtitleStream) -> None:
        """Plain text subtitles: only the wrapping differs between containers."""
        output: Stream
        if self._muxer == "matroska":
            output, wrapping = container.add_mux_stream("subrip"), "mov2textsub"
        else:
            text = container.add_stream("mov_text")
            text.codec_context.subtitle_header = _SUBTITLE_HEADER
            text.codec_context.time_base = stream.time_base
            output, wrapping = text, "text2movsub"
        output.time_base = stream.time_base
        track = self._follow(container, stream, output)
        track.filter = BitStreamFilterContext(wrapping, stream)
        track.converted = True

    def _add_encoded(
        self, container: OutputContainer, stream: AudioStream, codec: SoundCodec
    ) -> None:
        output = add_sound(container, stream, codec)
        track = self._follow(container, stream, output)
        track.sound, track.base = SoundEncoder(stream, output), stream.time_base
        track.strict = False

    def _label(self, stream: Stream, output: Stream) -> None:
        """Give ``output`` the metadata and dispositions of ``stream``; note what cannot stay."""
        source = self._source.container
        metadata = stream_metadata(stream.metadata, self._muxer)
        output.metadata.update(metadata)
        output.disposition = stream.disposition
        if stream.type == "attachment" or is_cover_art(stream):
            return
        place = f"({stream.type} stream {stream.index})"
        lost = lost_tags(
            metadata, self._muxer, of_file=source.metadata, picture=stream.type == "video"
        )
        self._lost_tags += [f"{key} {place}" for key in lost]
        alone = sum(other.type == stream.type for other in source.streams) == 1
        names = lost_dispositions(stream.disposition, self._muxer, alone=alone)
        self._lost_dispositions += [f"{name} {place}" for name in names]

    def _describe_video(
        self, source: VideoStream, video: VideoStream, container: OutputContainer
    ) -> None:
        self._label(source, video)
        for stream in self._source.container.streams.data:
            if "timecode" in stream.metadata:
                video.metadata.setdefault("timecode", stream.metadata["timecode"])
        rate = fraction(video.codec_context.framerate)
        if not holds_timecode(self._muxer, rate):
            container.metadata.pop("timecode", None)
            if video.metadata.pop("timecode", None):
                self._warn(f"timecode is dropped: there is none at {float(rate):g} frames/s")
        for labelled in (container, video):
            self._advance_timecode(labelled.metadata, rate)

    def _advance_timecode(self, metadata: dict[str, str], rate: Fraction) -> None:
        """Count the frames in that lie before the first one of the output."""
        video = self._source.stream
        assert video is not None
        begin = Fraction(self._source.container.start_time or 0, av.time_base)
        if video.start_time is not None and video.time_base:  # sound may begin earlier
            begin = video.start_time * fraction(video.time_base)
        skipped = (self._source.start_time - begin) * rate
        if skipped <= 0 or not (timecode := metadata.get("timecode")):
            return
        frames = math.ceil(skipped - Fraction(1, 100))  # times may be rounded
        if (later := later_timecode(timecode, frames, rate)) is not None:
            metadata["timecode"] = later
        else:
            self._warn(f"timecode {timecode} stays that of the input's first frame")


def _allowance(stream: Stream) -> Fraction:
    """Seconds that a stream may start before 0: an audio decoder's warm-up, and rounding.

    Not more, because Matroska has no negative times: it would shift the picture instead.
    """
    rounding = Fraction(1, av.time_base)  # the unit of the start time
    if isinstance(stream, AudioStream):
        context = stream.codec_context
        return rounding + Fraction(context.initial_padding, context.sample_rate or 1)
    return rounding
