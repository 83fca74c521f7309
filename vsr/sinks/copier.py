"""Adds the other streams of a source to an output container, and moves their packets there."""

import math
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
    plan_route,
)
from vsr.ffmpeg import fraction, known_fraction
from vsr.notes import Notes
from vsr.sinks.labels import (
    holds_reel_name,
    holds_timecode,
    kept_metadata,
    lost_dispositions,
    lost_tags,
    metadata_flags,
    stream_metadata,
    way_to_keep,
)
from vsr.sinks.sound import SoundEncoder, silent_sample
from vsr.sinks.timecode import drops_numbers, first_timecode
from vsr.sinks.track import Track

__all__ = ["StreamCopier"]

_HAVE_CHAPTERS = ("matroska", "webm", "mp4", "mov", "nut")
_ANY_KEY = "use_metadata_tags"
_MPEG_AUDIO = tuple(bytes([255, second]) for second in range(0xE0, 0x100))
_MARKS = {
    "mp1": _MPEG_AUDIO, "mp2": _MPEG_AUDIO, "mp3": _MPEG_AUDIO,
    "ac3": (b"\x0b\x77",), "eac3": (b"\x0b\x77",),
}  # fmt: skip
"""Sync words: ISO 11172-3, 2.4.2.3; ATSC A/52, 5.4.1.1."""
_STRAY = 8
"""Packets that may be damaged, rather than of another codec."""
_UNNOTICED = Fraction(1, 20)
"""Seconds; the packet in which sound sets in may begin before that."""
_JOINED = ("mpegts", "mpeg")
"""Containers in which a recorder may change the codec of a stream."""
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
    """

    def __init__(self, source: StreamSource, encoding: Encoding, notes: Notes) -> None:
        self._notes = notes
        self._encoding = encoding
        self._source = source
        self._muxer = encoding.muxer
        self._tracks: dict[int, Track] = {}
        self._lost_tags: list[str] = []
        self._way_to_keep = ""
        self._data: list[Stream] = []
        self._lost_dispositions: list[str] = []
        self._any_key = False

    def container_options(self, given: Mapping[str, str]) -> dict[str, str]:
        """``given`` options of the container, and those that the source's metadata asks for."""
        flags = metadata_flags(self._source.container.metadata, self._muxer)
        joined = given.get("movflags", "") + flags
        self._any_key = _ANY_KEY in joined and self._muxer in ("mp4", "mov")
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
            duration: length of the output in seconds, if known; where the input is cut short, later
                chapters are left out.

        Returns:
            The picture's stream.
        """
        metadata = kept_metadata(self._source.container.metadata, self._muxer)
        container.metadata.update(metadata)
        lost = lost_tags(metadata, self._muxer, any_key=self._any_key)
        self._lost_tags = [f"{key} (file)" for key in lost]
        self._way_to_keep = way_to_keep(lost, self._muxer)
        replaced = self._source.stream
        video = add_video() if replaced is None else None
        for stream in self._source.container.streams:
            if replaced is not None and stream.index == replaced.index:
                video = add_video()
                self._describe_video(replaced, video, container)
            else:
                self._add(container, stream)
        assert video is not None
        if self._data:
            self._notes.warn(dropped_data(self._data))
        chapters = output_chapters(self._source, duration)
        if chapters and self._muxer not in _HAVE_CHAPTERS:
            self._notes.warn(f"{len(chapters)} chapters are dropped: {self._muxer} has none")
        elif chapters:
            container.set_chapters(chapters)
        if later := len(output_chapters(self._source, None)) - len(chapters):
            several = "1 chapter is" if later == 1 else f"{later} chapters are"
            self._notes.warn(f"{several} left out: the output ends before")
        self._report_lost_labels()
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
            if track.sound is not None and (damaged := track.sound.damaged):
                several = "1 packet" if damaged == 1 else f"{damaged} packets"
                self._notes.warn(f"{track.name}: {several} could not be decoded")
            if track.foreign > _STRAY:
                self._notes.warn(
                    f"{track.name}: {track.foreign} packets of {track.written} are of another "
                    "codec: the sound changes in mid-stream, and players will not play both"
                )
            if track.repaired:
                self._notes.warn(f"{track.name}: {_count(track.repaired, 'timestamp')} repaired")
            if track.unstyled:
                several = "1 text loses" if track.unstyled == 1 else f"{track.unstyled} texts lose"
                self._notes.warn(
                    f"{track.name}: {several} style, colour or place: {self._muxer} gets plain text"
                )
            if track.cut:
                self._notes.warn(f"{track.name}: {_cut(track)}")

    def _tell(self, stream: Stream, note: str) -> None:
        """Say what becomes of ``stream``; of data, later and in one line."""
        if stream.type == "data":
            self._data.append(stream)
        else:
            self._notes.warn(note)

    def _report_lost_labels(self) -> None:
        for what, lost, hint in (
            ("tags", self._lost_tags, self._way_to_keep),
            ("dispositions", self._lost_dispositions, ""),
        ):
            if lost:
                named = ", ".join(lost)
                self._notes.warn(
                    f"{what} are dropped, {self._muxer} has no place for them: {named}{hint}"
                )

    def _add(self, container: OutputContainer, stream: Stream) -> None:
        route = plan_route(self._source, stream, self._encoding)
        if route.note:
            self._tell(stream, route.note)
        if route.how == "copy":
            self._follow(container, stream, add_copy(container, stream))
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
        self._label(stream, output)
        base = fraction(stream.time_base)
        track = Track(
            name=name_of(stream),
            output=output,
            offset=round(self._source.start_time / base),
            earliest=round(-_allowance(output if copied else stream) / base),
            timeless=is_cover_art(stream),
            gap=2 if codec_of(stream) == "mov_text" else -1,  # mp4 fills gaps anew
            marks=self._marks(stream),
            strict=not container.format.flags & _NONSTRICT,
            silence=silent_sample(output) if copied and self._muxer == "mov" else b"",
        )
        if stream.type != "attachment":  # those travel in the header
            self._tracks[stream.index] = track
            self._source.relay.add(stream.index)
        return track

    def _marks(self, stream: Stream) -> tuple[bytes, ...]:
        """What packets of ``stream`` begin with, where others may follow them."""
        if self._source.container.format.name not in _JOINED:
            return ()
        return _MARKS.get(codec_of(stream), ())

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
        output = add_sound(container, stream, codec, bitexact=self._encoding.bitexact)
        track = self._follow(container, stream, output, copied=False)
        track.sound, track.base = SoundEncoder(stream, output), stream.time_base
        track.strict = False

    def _label(self, stream: Stream, output: Stream) -> None:
        """Give ``output`` the metadata and dispositions of ``stream``; note what cannot stay."""
        source = self._source.container
        metadata = stream_metadata(stream.metadata, self._muxer)
        replaced = self._source.stream
        picture = replaced is not None and stream.index == replaced.index
        if picture:  # Matroska's mark of VP8 and VP9 with alpha, which the muxer sets itself
            metadata = {key: v for key, v in metadata.items() if key.lower() != "alpha_mode"}
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
        names = lost_dispositions(
            stream.disposition, self._muxer, alone=alone, text=stream.type == "subtitle"
        )
        self._lost_dispositions += [f"{name} {place}" for name in names]

    def _describe_video(
        self, source: VideoStream, video: VideoStream, container: OutputContainer
    ) -> None:
        self._label(source, video)
        self._take_over_timecode_track(video)
        rate = fraction(video.codec_context.framerate)
        if not holds_timecode(self._muxer, rate):
            gone = [labelled.metadata.pop("timecode", None) for labelled in (container, video)]
            reel = " with its reel's name" if video.metadata.pop("reel_name", None) else ""
            if any(gone):
                self._notes.warn(
                    f"timecode is dropped{reel}: there is none at {float(rate):g} frames/s"
                )
        for labelled in (container, video):
            if timecode := labelled.metadata.get("timecode"):
                labelled.metadata["timecode"] = self._timecode(timecode, source, rate)

    def _take_over_timecode_track(self, video: VideoStream) -> None:
        """Let the picture say what a track of MOV or MP4 does, of which FFmpeg makes one again."""
        for stream in self._source.container.streams.data:
            if "timecode" in stream.metadata:
                video.metadata.setdefault("timecode", stream.metadata["timecode"])
                if reel := stream.metadata.get("reel_name"):
                    video.metadata.setdefault("reel_name", reel)
                    if not holds_reel_name(self._muxer):
                        self._lost_tags.append(f"reel_name (data stream {stream.index})")

    def _timecode(self, timecode: str, source: VideoStream, rate: Fraction) -> str:
        """What ``timecode`` is for the first frame of the output, and at its rate."""
        begin = Fraction(self._source.container.start_time or 0, av.time_base)
        if source.start_time is not None and source.time_base:  # sound may begin earlier
            begin = source.start_time * fraction(source.time_base)
        skipped = (self._source.start_time - begin) * rate
        frames = max(0, math.ceil(skipped - Fraction(1, 100)))  # times may be rounded
        source_rate = known_fraction(source.guessed_rate) or rate
        first = first_timecode(timecode, source_rate, rate, frames)
        if first is None:
            if frames or round(source_rate) != round(rate):
                self._notes.warn(f"timecode {timecode} stays that of the input's first frame")
            return timecode
        if drops_numbers(timecode) and not drops_numbers(first):
            self._notes.warn(
                f"timecode {timecode} goes on as {first}, which drops no numbers: there is no"
                f" timecode that does at {float(rate):.6g} frames/s"
            )
        return first


def _count(number: int, noun: str) -> str:
    return f"1 {noun} was" if number == 1 else f"{number} {noun}s were"


def _cut(track: Track) -> str:
    """What was cut of ``track``, and whether anybody misses it."""
    gone = f"{_count(track.cut, 'packet')} cut, ahead of the start"
    if track.output.type == "audio" and track.unheard > _UNNOTICED:
        return f"{gone}, with {float(track.unheard):.2f} s of sound that players play"
    hidden = ", where the input hides them: players leave them out as well"
    return gone + hidden if track.hidden else gone


def _allowance(stream: Stream) -> Fraction:
    """Seconds that a stream may start before 0: an audio decoder's warm-up, and rounding.

    Not more, because Matroska has no negative times: it would shift the picture instead.
    """
    return Fraction(1, av.time_base) + warm_up(stream)  # the unit of the start time
