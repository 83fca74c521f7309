"""The other streams: what is copied beside the picture, how, and what has to stay behind.

Audio, subtitles, attachments, cover art and further video are copied packet by packet. Which of
them the output can hold is found by trying: FFmpeg writes a header with that one stream into
memory. Sound that it cannot hold is encoded anew (:mod:`vsr.encoding.sound`). That, and what cannot
be carried, is one line in :attr:`Route.note`. The packets are moved by :mod:`vsr.sinks.copier`.
"""

import io
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

import av
import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from vsr.encoding.edits import is_file, undelayed
from vsr.encoding.encoding import Encoding
from vsr.encoding.sound import SoundCodec, add_sound, known_layout, sound_codecs
from vsr.ffmpeg import fraction

if TYPE_CHECKING:
    from av.container.core import Chapter  # exists in PyAV's stubs only

__all__ = [
    "Handling",
    "Route",
    "StreamSource",
    "add_copy",
    "codec_of",
    "cover_picture",
    "dropped_data",
    "is_cover_art",
    "left_behind",
    "name_of",
    "output_chapters",
    "plan_route",
]

_MP4_COVERS = ("mjpeg", "png", "bmp")
_CONVERSIONS = {
    ("mp4", "subrip"), ("mp4", "text"), ("mov", "subrip"), ("mov", "text"),
    ("matroska", "mov_text"),
}  # fmt: skip

# The MPEG-TS muxer accepts anything and writes what no player reads.
_MPEGTS_CODECS = {
    "h264", "hevc", "mpeg2video", "mpeg1video", "mpeg4", "aac", "aac_latm", "mp2", "mp3", "ac3",
    "eac3", "dts", "truehd", "opus", "s302m", "dvb_subtitle", "dvb_teletext",
}  # fmt: skip

# NUT keeps neither sizes of blocks nor bits of coded samples, which these decoders ask for. Tried
# with wmav1, wmav2 and g726; FFmpeg has no encoders of the others to try with.
_NOT_IN_NUT = (
    "wmav1", "wmav2", "wmapro", "wmalossless", "g726", "cook", "sipr", "atrac3", "atrac3p",
)  # fmt: skip

# AVI counts sound in bytes or in packets of one length. FFmpeg's muxer takes these all the same,
# and writes a clock that runs up to a hundred times too fast.
_NOT_IN_AVI = ("vorbis", "dts", "eac3", "flac")
# These it takes rightly, unless they come from AVI, which often gives a size of blocks with them.
_IN_FRAMES = ("aac", "ac3", "mp3")
_MP3_FRAME = 1152
"""Samples, which are called the bytes of a block; of this number it makes a right clock."""

_COVER_TYPES = {
    "mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png"),
    "bmp": ("cover.bmp", "image/bmp"), "gif": ("cover.gif", "image/gif"),
    "webp": ("cover.webp", "image/webp"), "tiff": ("cover.tif", "image/tiff"),
}  # fmt: skip

_OF_BROWSERS = ("aac", "mp3", "opus", "flac")
"""Sound that browsers play in MP4; in WebM they play all that it holds."""
_WANT_HEADERS = ("matroska", "mp4", "mov")
_DEEP_PCM = ("pcm_f", "pcm_s32", "pcm_u32", "pcm_s64")
"""Sound of more than 24 bits."""

Handling = Literal["copy", "convert", "encode", "attach", "drop"]


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
    def relay(self) -> set[int]:
        """Indices of the streams whose packets are wanted; filled before iteration starts."""

    @property
    def packets(self) -> "deque[Packet[Any]]":
        """Packets of those streams in file order; filled by the demuxing thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What becomes of one stream."""

    how: Handling
    """``convert``: plain text subtitles, wrapped anew; ``encode``: sound, decoded and encoded anew;
    ``attach``: cover art as an attachment."""
    note: str = ""
    """Why it stays behind or is encoded anew, or is copied where that will not do; else empty."""
    codec: SoundCodec | None = None
    """What sound is encoded as."""


def plan_route(source: StreamSource, stream: Stream, encoding: Encoding) -> Route:
    """Decide what becomes of ``stream`` in an output.

    Args:
        source: where the stream comes from.
        stream: the stream.
        encoding: the output's container, and how it is written.
    """
    muxer = encoding.muxer
    if stream.type == "data":
        return _data_route(source, stream)
    if encoding.fragmented and is_cover_art(stream):  # FFmpeg makes an empty track of it
        note = f"{name_of(stream)} is dropped: {muxer} in fragments cannot hold it"
        return Route(how="drop", note=f"{note} (a file can)" if muxer == "mp4" else note)
    on_disc = encoding.blu_ray and codec_of(stream) == "hdmv_pgs_subtitle"
    how: Handling = "copy" if on_disc else _handling(muxer, stream)
    late = encoding.streamed and muxer in _WANT_HEADERS and _is_adts(stream)
    unplayed = encoding.sound == "web" and not _is_played(muxer, stream)
    unheard = how == "drop" or late or unplayed or (muxer == "mp4" and _is_pcm(stream))
    if isinstance(stream, AudioStream) and unheard and (codec := _encodes(encoding, stream)):
        note = _encoding_note(muxer, stream, codec, late=late, unplayed=unplayed)
        return Route(how="encode", note=note, codec=codec)
    if how != "drop":
        note = f"{name_of(stream)} stays, and browsers do not play it: it cannot be decoded"
        return Route(how=how, note=note if unplayed else "")
    return Route(how="drop", note=f"{name_of(stream)} is dropped: {_refusal(muxer, stream)}")


def _refusal(muxer: str, stream: Stream) -> str:
    # DVB's teletext, mostly: whatever the container, PyAV has no name for it.
    if not codec_of(stream) and stream.type != "attachment":
        return "PyAV has no decoder for it, and copies nothing that it has none for"
    if isinstance(stream, AudioStream) and not stream.sample_rate:
        return "none of it was found where the input begins, which tells what it is"
    if muxer == "matroska" and stream.type in ("audio", "video") and codec_of(stream):
        return (
            "PyAV does not write it to matroska (ffmpeg may: ffmpeg -i OUTPUT -i INPUT -map 0 "
            f"-map 1:{stream.index} -c copy BOTH.mkv)"
        )
    hint = "" if _handling("matroska", stream) == "drop" else " (mkv can)"
    return f"{muxer} cannot hold it{hint}"


def add_copy(container: OutputContainer, stream: Stream) -> Stream:
    """Add a stream that packets of ``stream`` can be copied into."""
    with undelayed(container, stream) as template:
        output = container.add_stream_from_template(template, opaque=True)
    if isinstance(stream, AudioStream) and _is_pcm(stream):
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
    name, kind = _COVER_TYPES[codec_of(stream)]
    name, kind = stream.metadata.get("filename", name), stream.metadata.get("mimetype", kind)
    with suppress(av.FFmpegError), av.open(path) as container:
        for packet in container.demux(container.streams[stream.index]):
            if packet.size:
                return name, kind, bytes(packet)
    return None


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


def is_cover_art(stream: Stream) -> bool:
    """Whether ``stream`` is a picture attached to the file rather than video."""
    return bool(stream.disposition & Disposition.attached_pic)


def codec_of(stream: Stream) -> str:
    """FFmpeg's name of the codec, empty if it knows none (whatever PyAV's stubs say)."""
    context: Any = stream.codec_context
    return str(context.codec.canonical_name) if context is not None else ""


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
        if stream.index != replaced and (stream.type != "data" or is_cover_art(stream))
    ]
    if chapters := len(source.container.chapters()):
        notes.append(f"{chapters} chapters are dropped: {holder} cannot hold them")
    return notes


def name_of(stream: Stream) -> str:
    """``stream`` in words, for a note."""
    kind = "cover art" if is_cover_art(stream) else stream.type
    details = ", ".join(filter(None, (_codec_in_words(stream), stream.language)))
    return f"{kind} stream {stream.index} ({details})"


def dropped_data(streams: Sequence[Stream]) -> str:
    """One line for ``streams`` of data that stay behind: a phone's film has three or four."""
    if len(streams) == 1:
        return f"{name_of(streams[0])} is dropped: data cannot be carried"
    indices = ", ".join(str(stream.index) for stream in streams)
    kinds = ", ".join(dict.fromkeys(_codec_in_words(stream) for stream in streams))
    return f"{len(streams)} data streams, {indices} ({kinds}), are dropped: data cannot be carried"


def _codec_in_words(stream: Stream) -> str:
    """Its codec; of data without one, of which PyAV tells no tag, what the file calls it."""
    name = codec_of(stream) or getattr(stream, "name", None)
    if not name and stream.type == "data":
        name = stream.metadata.get("handler_name")
    return name or "unknown codec"


def _handling(muxer: str, stream: Stream) -> Handling:
    codec = codec_of(stream)
    if is_cover_art(stream):
        if muxer == "mp4" and codec in _MP4_COVERS:
            return "copy"
        return "attach" if muxer == "matroska" and codec in _COVER_TYPES else "drop"
    if _takes(muxer, stream):
        return "copy"
    return "convert" if (muxer, codec) in _CONVERSIONS else "drop"


def _is_pcm(stream: Stream) -> bool:
    """Whether it is sound as plain samples.

    MP4 holds it (ISO/IEC 23003-5), but FFmpeg reads it there since 6.0 only: 5.1 takes 24 bits for
    16, which is noise. Browsers do not read it at all.
    """
    return codec_of(stream).startswith("pcm_")


def _is_played(muxer: str, stream: Stream) -> bool:
    """Whether browsers play it, if it is sound."""
    return stream.type != "audio" or muxer == "webm" or codec_of(stream) in _OF_BROWSERS


def _encodes(encoding: Encoding, stream: AudioStream) -> SoundCodec | None:
    """What ``stream`` can be encoded as for an output; None if it cannot."""
    for codec in sound_codecs(encoding.muxer, stream, web=encoding.sound == "web"):
        if _opens(encoding.muxer, partial(add_sound, source=stream, codec=codec)):
            return codec
    return None


def _is_adts(stream: Stream) -> bool:
    """Whether it is AAC that says in each packet what others say once, in a header.

    FFmpeg takes that from the first packet, when the headers of a stream have been sent.
    """
    context = stream.codec_context
    return codec_of(stream) == "aac" and context is not None and not context.extradata


def _encoding_note(
    muxer: str, stream: AudioStream, codec: SoundCodec, *, late: bool, unplayed: bool
) -> str:
    name = av.Codec(codec.encoder, "w").canonical_name
    if codec.bit_rate is not None:
        name = f"{name} of {codec.bit_rate // 1000} kbit/s, which loses a little"
    elif codec_of(stream).startswith(_DEEP_PCM):
        name = f"{name}, rounded to 24 bits"
    if late:
        return f"{name_of(stream)} becomes {name}: {muxer} takes ADTS in a file, not in a stream"
    if unplayed:
        return f"{name_of(stream)} becomes {name}: browsers do not play it as it is"
    if muxer == "mp4" and _is_pcm(stream) and _handling(muxer, stream) == "copy":
        return f"{name_of(stream)} becomes {name}: few players read it in mp4 (mov and mkv keep it)"
    hint = " (mkv can)" if _handling("matroska", stream) == "copy" else ""
    return f"{name_of(stream)} becomes {name}: {muxer} cannot hold it as it is{hint}"


def _data_route(source: StreamSource, stream: Stream) -> Route:
    if "timecode" in stream.metadata:  # travels as metadata of the picture
        return Route(how="drop")
    if getattr(stream, "name", None) == "bin_data" and source.container.chapters():
        return Route(how="drop")  # mp4's text track of the chapters: made anew from them
    return Route(how="drop", note=dropped_data([stream]))


def _takes(muxer: str, stream: Stream) -> bool:
    """Whether ``muxer`` writes a header for a copy of ``stream``."""
    if stream.type == "attachment":
        return muxer == "matroska"  # webm writes the header, but not the attachment
    if not codec_of(stream):
        return False
    if muxer == "mpegts":
        return codec_of(stream) in _MPEGTS_CODECS
    miscounted = muxer == "avi" and _is_miscounted(stream)
    if miscounted or codec_of(stream) in {"nut": _NOT_IN_NUT, "avi": _NOT_IN_AVI}.get(muxer, ()):
        return False
    return _opens(muxer, partial(_try_copy, stream=stream))


def _is_miscounted(stream: Stream) -> bool:
    """Whether AVI's muxer, told the size of a block, counts the sound by a wrong clock."""
    if not isinstance(stream, AudioStream) or codec_of(stream) not in _IN_FRAMES:
        return False
    return stream.codec_context.block_align not in (0, _MP3_FRAME)


def _try_copy(container: OutputContainer, stream: Stream) -> None:
    output = add_copy(container, stream)
    # What MP4 cannot say of channels it finds at the end. 24 bytes are whole samples of 1 to 8.
    if isinstance(stream, AudioStream) and _is_pcm(stream):
        packet: Packet[Any] = Packet(bytes(24 * stream.codec_context.layout.nb_channels))
        packet.stream, packet.pts, packet.dts = output, 0, 0
        container.mux_one(packet)


def _opens(muxer: str, add: Callable[[OutputContainer], object]) -> bool:
    """Whether ``muxer`` writes a header for what ``add`` adds."""
    container = av.open(io.BytesIO(), "w", format=muxer)
    try:
        with av.logging.Capture():  # a refusal is an answer, not an error to show
            add(container)
            container.start_encoding()
            container.close()  # MP4 and MOV describe their streams at the end
    except (av.FFmpegError, ValueError):
        return False
    finally:
        with suppress(av.FFmpegError, ValueError):
            container.close()
    return True
