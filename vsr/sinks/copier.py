"""Adds the other streams of a source to an output container, and moves their packets there."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import cast

import av
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.format import Flags as FormatFlags
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from vsr.encoding import Encoding
from vsr.encoding.edits import warm_up
from vsr.encoding.routes import plan_route
from vsr.encoding.sound import SoundCodec, add_sound, lost_layout
from vsr.encoding.streams import (
    StreamSource,
    add_copy,
    codec_of,
    cover_picture,
    dropped_data,
    is_cover_art,
    name_of,
    output_chapters,
)
from vsr.ffmpeg import fraction
from vsr.immersive import Immersive
from vsr.notes import Notes
from vsr.sinks.labelling import Labelling
from vsr.sinks.labels import copied_metadata
from vsr.sinks.plain_text import OneAtATime, as_plain_text, as_webvtt, lasting
from vsr.sinks.sound import SoundEncoder, silent_sample
from vsr.sinks.text_base import base_of_converted, base_of_copied
from vsr.sinks.track import Track
from vsr.sinks.track_times import Placement, TrackClock

__all__ = ["StreamCopier"]

_HAVE_CHAPTERS = ("matroska", "webm", "mp4", "mov", "nut")
_MPEG_AUDIO = tuple(bytes([255, second]) for second in range(0xE0, 0x100))
_MARKS = {
    "mp1": _MPEG_AUDIO, "mp2": _MPEG_AUDIO, "mp3": _MPEG_AUDIO,
    "ac3": (b"\x0b\x77",), "eac3": (b"\x0b\x77",),
}  # fmt: skip
"""Sync words: ISO 11172-3, 2.4.2.3; ATSC A/52, 5.4.1.1."""
_JOINED = ("mpegts", "mpeg")
"""Containers in which a recorder may change the codec of a stream."""
_WITH_ENDS = ("dvd_subtitle", "dvb_subtitle", "hdmv_pgs_subtitle")
"""Subtitles that say in their packets when they end; of others, the container does."""
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


class StreamCopier:
    """Copies all streams but the picture from a source to an output container.

    Add the streams with :meth:`add_streams` before the header is written, then call :meth:`mux`
    again and again, and :meth:`finish` at the end.

    Args:
        source: where the streams come from.
        encoding: container and options of the output.
        notes: gets a line for everything that cannot be carried or had to be repaired.
        immersive: what the output's picture is beyond a flat view, if anything.
    """

    def __init__(
        self, source: StreamSource, encoding: Encoding, notes: Notes,
        immersive: Immersive | None = None,
    ) -> None:  # fmt: skip
        self._notes = notes
        self._encoding = encoding
        self._source = source
        self._muxer = encoding.muxer
        self._tracks: dict[int, Track] = {}
        self._labelling = Labelling(source, encoding.muxer, notes, immersive)
        self._data: list[Stream] = []
        self._endless: list[str] = []  # texts that do not say when they end, by their streams

    def container_options(self, given: Mapping[str, str]) -> dict[str, str]:
        """``given`` options of the container, and those that the source's metadata asks for."""
        return self._labelling.container_options(given)

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
            duration: length of the output in seconds, if known; where the input is cut short, later
                chapters are left out.

        Returns:
            The picture's stream.
        """
        self._labelling.label_file(container)
        replaced = self._source.stream
        video = None
        if replaced is None:
            video = add_video()
            self._labelling.label_picture(None, video, container)
        for stream in self._source.container.streams:
            if replaced is not None and stream.index == replaced.index:
                video = add_video()
                self._labelling.label_picture(replaced, video, container)
            else:
                self._add(container, stream)
        assert video is not None
        if self._data:
            self._notes.warn(dropped_data(self._data))
        if self._endless:
            texts = ", ".join(self._endless)
            self._notes.warn(f"nut has no durations: it is lost how long texts stay, of {texts}")
        self._add_chapters(container, duration)
        self._labelling.report()
        if self._muxer == "avi" and self._tracks:
            self._notes.warn("avi has no timestamps: a late start is lost, and gaps in sound close")
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
            for line in track.complaints(self._muxer):
                self._notes.warn(line)

    def _add_chapters(self, container: OutputContainer, duration: Fraction | None) -> None:
        chapters = output_chapters(self._source, duration)
        if chapters and self._muxer not in _HAVE_CHAPTERS:
            several = "1 chapter is" if len(chapters) == 1 else f"{len(chapters)} chapters are"
            self._notes.warn(f"{several} dropped: {self._muxer} has none")
        elif chapters:
            container.set_chapters(chapters)
            self._labelling.label_chapters(chapters)
        if later := len(output_chapters(self._source, None)) - len(chapters):
            several = "1 chapter is" if later == 1 else f"{later} chapters are"
            self._notes.warn(f"{several} left out: the output ends before")

    def _tell(self, stream: Stream, note: str) -> None:
        """Say what becomes of ``stream``; of data, later and in one line."""
        if stream.type == "data":
            self._data.append(stream)
        else:
            self._notes.warn(note)

    def _add(self, container: OutputContainer, stream: Stream) -> None:
        route = plan_route(self._source, stream, self._encoding)
        if route.note:
            self._tell(stream, route.note)
        if route.how == "copy":
            self._add_copied(container, stream)
        elif route.how == "convert":
            assert isinstance(stream, SubtitleStream)
            self._add_converted(container, stream)
        elif route.codec is not None:
            assert isinstance(stream, AudioStream)
            self._add_encoded(container, stream, route.codec)
        elif route.how == "attach" and (picture := cover_picture(self._source, stream)):
            attached = container.add_attachment(*picture)
            attached.metadata.update({k: v for k, v in stream.metadata.items() if k == "title"})
        elif route.how == "attach":
            self._notes.warn(f"{name_of(stream)} is dropped: the input cannot be read twice")
        if isinstance(stream, AudioStream) and route.how in ("copy", "encode"):
            self._note_lost_layout(stream, route.codec)

    def _note_lost_layout(self, stream: AudioStream, codec: SoundCodec | None) -> None:
        if layout := lost_layout(self._muxer, stream, codec):
            self._notes.warn(
                f"{name_of(stream)}: which speakers its channels are for ({layout}) is lost in"
                f" {self._muxer}"
            )

    def _follow(
        self, container: OutputContainer, stream: Stream, output: Stream, *, copied: bool = True
    ) -> Track:
        """Describe ``output`` like ``stream`` and ask the source for its packets."""
        self._labelling.label(stream, output)
        base = fraction(stream.time_base)
        track = Track(
            name=name_of(stream),
            output=output,
            placement=Placement(
                offset=round(self._source.start_time / base),
                earliest=round(-_allowance(output if copied else stream) / base),
                timeless=is_cover_art(stream), lasting=stream.type == "subtitle",
            ),
            clock=TrackClock(
                strict=copied and not container.format.flags & _NONSTRICT,
                sparse=stream.type == "subtitle",
            ),
            empty=2 if codec_of(stream) == "mov_text" else -1,  # mp4 fills gaps anew
            marks=self._marks(stream),
            silence=silent_sample(output) if copied and self._muxer == "mov" else b"",
        )  # fmt: skip
        if stream.type != "attachment":  # those travel in the header
            self._tracks[stream.index] = track
            self._source.relay.add(stream.index)
        return track

    def _add_copied(self, container: OutputContainer, stream: Stream) -> None:
        output = add_copy(container, stream)
        texts = codec_of(stream) == "mov_text" and self._muxer in ("mp4", "mov")
        if texts:
            output.time_base = base_of_copied(stream)
        if self._muxer == "nut" and stream.type == "subtitle":
            self._endless += [] if codec_of(stream) in _WITH_ENDS else [name_of(stream)]
        track = self._follow(container, stream, output)
        if texts:
            track.rewrite = lasting
        output.metadata.update(copied_metadata(stream.metadata, self._muxer))

    def _marks(self, stream: Stream) -> tuple[bytes, ...]:
        """What packets of ``stream`` begin with, where others may follow them."""
        if self._source.container.format.name not in _JOINED:
            return ()
        return _MARKS.get(codec_of(stream), ())

    def _add_converted(self, container: OutputContainer, stream: SubtitleStream) -> None:
        """Text subtitles: the wrapping differs between containers, and what style they can say."""
        if self._muxer == "webm":
            track = self._follow(container, stream, _timed(container, "webvtt", stream))
            track.rewrite = as_webvtt
            return
        if self._muxer == "matroska":
            output, wrapping = _timed(container, "subrip", stream), "mov2textsub"
        else:
            output, wrapping = container.add_stream("mov_text"), "text2movsub"
            output.codec_context.subtitle_header = _SUBTITLE_HEADER
            base = base_of_converted(self._source.container)
            output.codec_context.time_base = output.time_base = base
        track = self._follow(container, stream, output)
        track.rewrite = as_plain_text
        track.wrapping = BitStreamFilterContext(wrapping, stream)
        if self._muxer != "matroska" and not self._encoding.fragmented:  # those wait for nothing
            track.joined = OneAtATime()

    def _add_encoded(
        self, container: OutputContainer, stream: AudioStream, codec: SoundCodec
    ) -> None:
        output = add_sound(container, stream, codec, bitexact=self._encoding.bitexact)
        track = self._follow(container, stream, output, copied=False)
        track.sound = SoundEncoder(stream, output)


def _timed(container: OutputContainer, codec: str, stream: Stream) -> Stream:
    """A new stream of ``codec`` with the clock of ``stream``."""
    output = container.add_mux_stream(codec)
    output.time_base = stream.time_base
    return output


def _allowance(stream: Stream) -> Fraction:
    """Seconds that a stream may start before 0: an audio decoder's warm-up, and rounding.

    Not more, because Matroska has no negative times: it would shift the picture instead.
    """
    return Fraction(1, av.time_base) + warm_up(stream)  # the unit of the start time
