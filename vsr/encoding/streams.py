"""The streams of a source beside the picture, in words and as they are.

Audio, subtitles, attachments, cover art and further video are copied packet by packet: what becomes
of each is decided by :mod:`vsr.encoding.routes`, and the packets are moved by
:mod:`vsr.sinks.copier`.
"""

import math
import shlex
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from vsr.encoding.edits import is_file, undelayed
from vsr.encoding.sound import known_layout
from vsr.ffmpeg import fraction

if TYPE_CHECKING:
    from av.container.core import Chapter  # exists in PyAV's stubs only

__all__ = [
    "COVER_TYPES",
    "StreamSource",
    "Timecode",
    "add_copy",
    "codec_of",
    "cover_picture",
    "dropped_data",
    "is_cover_art",
    "is_pcm",
    "is_timecode",
    "left_behind",
    "name_of",
    "output_chapters",
    "timecode_of",
]

COVER_TYPES = {
    "mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png"),
    "bmp": ("cover.bmp", "image/bmp"), "gif": ("cover.gif", "image/gif"),
    "webp": ("cover.webp", "image/webp"), "tiff": ("cover.tif", "image/tiff"),
}  # fmt: skip
"""File name and media type of cover art, by its codec."""


@dataclass(frozen=True, slots=True)
class Timecode:
    """What a frame is called (SMPTE ST 12-1)."""

    text: str
    """``01:00:00:00``."""
    rate: Fraction
    """Frames a second that it counts."""
    ahead: Fraction
    """Seconds from that frame to the first of the output."""


class StreamSource(Protocol):
    """What a source offers so that its other streams can be copied."""

    @property
    def container(self) -> InputContainer:
        """The open input."""

    @property
    def stream(self) -> VideoStream | None:
        """The stream that the picture takes the place of; None if there is none."""

    @property
    def start_time(self) -> Fraction:
        """Seconds to subtract from the pts and dts of every packet."""

    @property
    def cut_short(self) -> bool:
        """Whether it was asked to stop before the input ends."""

    @property
    def timecode(self) -> Timecode | None:
        """That of the pictures' own file, if it has one and is not :attr:`container`."""

    @property
    def relay(self) -> set[int]:
        """Indices of the streams whose packets are wanted; filled before iteration starts."""

    @property
    def packets(self) -> "deque[Packet[Any]]":
        """Packets of those streams in file order; filled by the demuxing thread."""


def is_cover_art(stream: Stream) -> bool:
    """Whether ``stream`` is a picture attached to the file rather than video."""
    return bool(stream.disposition & Disposition.attached_pic)


def codec_of(stream: Stream) -> str:
    """FFmpeg's name of the codec, empty if it knows none (whatever PyAV's stubs say)."""
    context: Any = stream.codec_context
    return str(context.codec.canonical_name) if context is not None else ""


def is_pcm(stream: Stream) -> bool:
    """Whether it is sound as plain samples.

    MP4 holds it (ISO/IEC 23003-5), but FFmpeg reads it there since 6.0 only: 5.1 takes 24 bits for
    16, which is noise. Browsers do not read it at all.
    """
    return codec_of(stream).startswith("pcm_")


def name_of(stream: Stream) -> str:
    """``stream`` in words, for a note."""
    kind = "cover art" if is_cover_art(stream) else stream.type
    details = ", ".join(filter(None, (_codec_in_words(stream), stream.language)))
    return f"{kind} stream {stream.index} ({details})"


def _codec_in_words(stream: Stream) -> str:
    """Its codec; of data without one, of which PyAV tells no tag, what the file calls it."""
    name = codec_of(stream) or getattr(stream, "name", None)
    if not name and stream.type == "data":
        name = stream.metadata.get("handler_name")
    return name or "unknown codec"


def is_timecode(source: StreamSource, stream: Stream) -> bool:
    """Whether ``stream`` is a track of timecode, which travels as metadata of the picture.

    Of such a track in a list of files FFmpeg tells nothing; the first file is asked.
    """
    if stream.type == "data":
        return "timecode" in stream.metadata
    if stream.type != "unknown" or source.container.format.name != "concat":
        return False
    if (part := _first_part(Path(source.container.name.removeprefix("file:")))) is None:
        return False
    with suppress(av.FFmpegError), av.open(f"file:{part}") as container:
        return any(
            one.index == stream.index and "timecode" in one.metadata
            for one in container.streams.data
        )
    return False


def _first_part(path: Path) -> Path | None:
    """The first file that a list of files names; None if that cannot be seen."""
    with suppress(OSError, ValueError, IndexError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            word, _, name = line.strip().partition(" ")
            if word == "file":
                return path.parent / shlex.split(name)[0].removeprefix("file:")
    return None


def dropped_data(streams: Sequence[Stream]) -> str:
    """One line for ``streams`` of data that stay behind: a phone's film has three or four."""
    if len(streams) == 1:
        return f"{name_of(streams[0])} is dropped: data cannot be carried"
    indices = ", ".join(str(stream.index) for stream in streams)
    kinds = ", ".join(dict.fromkeys(_codec_in_words(stream) for stream in streams))
    return f"{len(streams)} data streams, {indices} ({kinds}), are dropped: data cannot be carried"


def left_behind(source: StreamSource, holder: str) -> list[str]:
    """One line for everything in ``source`` beside the picture, where that is all ``holder`` has.

    Args:
        source: where the picture comes from.
        holder: what it is written to, in words.
    """
    replaced = None if source.stream is None else source.stream.index
    notes = [
        f"{name_of(stream)} is dropped: {holder} cannot hold it"
        for stream in source.container.streams
        if stream.index != replaced
        and (stream.type != "data" or is_cover_art(stream))
        and not is_timecode(source, stream)
    ]
    if chapters := len(source.container.chapters()):
        are, them = (
            ("1 chapter is", "it") if chapters == 1 else (f"{chapters} chapters are", "them")
        )
        notes.append(f"{are} dropped: {holder} cannot hold {them}")
    return notes


def add_copy(container: OutputContainer, stream: Stream) -> Stream:
    """Add a stream that packets of ``stream`` can be copied into."""
    with undelayed(container, stream) as template:
        output = container.add_stream_from_template(template, opaque=True)
    if isinstance(stream, AudioStream) and is_pcm(stream):
        assert isinstance(output, AudioStream)
        layout = known_layout(stream.codec_context.layout)
        if layout is not None:  # MP4 wants to know, Matroska and AVI do not say
            output.codec_context.layout = layout
    return output


def cover_picture(source: StreamSource, stream: Stream) -> tuple[str, str, bytes] | None:
    """File name, media type and content of the cover art ``stream``; None if unreadable.

    The file is opened a second time: attachments go into the header, before any packet.
    """
    path = source.container.name
    if not is_file(source.container):
        return None
    name, kind = COVER_TYPES[codec_of(stream)]
    name, kind = stream.metadata.get("filename", name), stream.metadata.get("mimetype", kind)
    with suppress(av.FFmpegError), av.open(path) as container:
        for packet in container.demux(container.streams[stream.index]):
            if packet.size:
                return name, kind, bytes(packet)
    return None


def timecode_of(container: InputContainer, stream: VideoStream) -> str | None:
    """What the first picture of ``stream`` is called: a tag of its own, a track's or the file's."""
    labels = [one.metadata for one in (stream, *container.streams.data)]
    tags = (tag for metadata in (*labels, container.metadata) for tag in metadata.items())
    return next((text for name, text in tags if name.lower() == "timecode"), None)


def output_chapters(source: StreamSource, duration: Fraction | None) -> "list[Chapter]":
    """The source's chapters, counted from the start of an output of ``duration`` seconds.

    Where the input is cut short they end with it: MP4 is as long as its last chapter. Else sound
    may go on after the picture, and chapters with it.
    """
    limit = duration if source.cut_short else None
    chapters: list[Chapter] = []
    for chapter in source.container.chapters():
        base = fraction(chapter["time_base"])
        offset = round(source.start_time / base)
        start, end = max(chapter["start"] - offset, 0), chapter["end"] - offset
        if end <= 0 or (limit is not None and start * base >= limit):
            continue
        if limit is not None:
            end = min(end, math.ceil(limit / base))
        chapters.append({**chapter, "start": start, "end": end})
    return chapters
