"""What becomes of the streams beside the picture: copied, converted, encoded anew, left behind.

Sound that the output cannot hold is encoded anew (:mod:`vsr.encoding.sound`). That, and what cannot
be carried, is one line in :attr:`Route.note`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from av.audio.stream import AudioStream
from av.stream import Stream

from vsr.encoding.encoding import Encoding
from vsr.encoding.holding import can_hold, opens
from vsr.encoding.sound import SoundCodec, add_sound, sound_codecs
from vsr.encoding.streams import (
    COVER_TYPES,
    StreamSource,
    codec_of,
    dropped_data,
    is_cover_art,
    is_pcm,
    is_timecode,
    name_of,
)
from vsr.ffmpeg import standard_of

__all__ = ["Handling", "Route", "plan_route"]

_MP4_COVERS = ("mjpeg", "png", "bmp")
_CONVERSIONS = {
    ("mp4", "subrip"), ("mp4", "text"), ("mp4", "webvtt"),
    ("mov", "subrip"), ("mov", "text"), ("mov", "webvtt"),
    ("matroska", "mov_text"),
    ("webm", "subrip"), ("webm", "text"), ("webm", "mov_text"),
}  # fmt: skip

_OF_DISCS = "hdmv_pgs_subtitle"
"""Pictures of subtitles that Blu-ray has, but not MPEG-TS elsewhere."""
_OF_BROWSERS = ("aac", "mp3", "opus", "flac")
"""Sound that browsers play in MP4; in WebM they play all that it holds."""
_WANT_HEADERS = ("matroska", "mp4", "mov")
_DEEP_PCM = ("pcm_f", "pcm_s32", "pcm_u32", "pcm_s64")
"""Sound of more than 24 bits."""

Handling = Literal["copy", "convert", "encode", "attach", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What becomes of one stream."""

    how: Handling
    """``convert``: text subtitles, wrapped anew; ``encode``: sound, decoded and encoded anew;
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
    if (timed := is_timecode(source, stream)) or stream.type == "data":
        return Route(how="drop") if timed else _data_route(source, stream)
    if encoding.fragmented and is_cover_art(stream):  # FFmpeg makes an empty track of it
        note = f"{name_of(stream)} is dropped: {muxer} in fragments cannot hold it"
        return Route(how="drop", note=f"{note} (a file can)" if muxer == "mp4" else note)
    how = _on_disc(stream) if encoding.blu_ray else _handling(muxer, stream)
    late = encoding.streamed and muxer in _WANT_HEADERS and _is_adts(stream)
    unplayed = encoding.sound == "web" and not _is_played(muxer, stream)
    unheard = how == "drop" or late or unplayed or (muxer == "mp4" and is_pcm(stream))
    if isinstance(stream, AudioStream) and unheard and (codec := _encodes(encoding, stream)):
        note = _encoding_note(muxer, stream, codec, late=late, unplayed=unplayed)
        return Route(how="encode", note=note, codec=codec)
    if how != "drop":
        note = f"{name_of(stream)} stays, and browsers do not play it: it cannot be decoded"
        return Route(how=how, note=note if unplayed else "")
    reason = _refusal("m2ts" if encoding.blu_ray else muxer, stream)
    return Route(how="drop", note=f"{name_of(stream)} is dropped: {reason}")


def _data_route(source: StreamSource, stream: Stream) -> Route:
    if getattr(stream, "name", None) == "bin_data" and source.container.chapters():
        return Route(how="drop")  # mp4's text track of the chapters: made anew from them
    return Route(how="drop", note=dropped_data([stream]))


def _handling(muxer: str, stream: Stream) -> Handling:
    codec = codec_of(stream)
    if is_cover_art(stream):
        if muxer == "mp4" and codec in _MP4_COVERS:
            return "copy"
        return "attach" if muxer == "matroska" and codec in COVER_TYPES else "drop"
    if can_hold(muxer, stream):
        return "copy"
    return "convert" if (muxer, codec) in _CONVERSIONS else "drop"


def _on_disc(stream: Stream) -> Handling:
    """What becomes of ``stream`` beside a picture as on Blu-ray.

    There, streams are known by numbers that say what they are: one is of the picture, and none of
    DVB's subtitles. FFmpeg's muxer has none for those either, and refuses the whole file.
    """
    if codec_of(stream) == _OF_DISCS:
        return "copy"
    return _handling("mpegts", stream) if stream.type == "audio" else "drop"


def _is_adts(stream: Stream) -> bool:
    """Whether it is AAC that says in each packet what others say once, in a header.

    FFmpeg takes that from the first packet, when the headers of a stream have been sent.
    """
    context = stream.codec_context
    return codec_of(stream) == "aac" and context is not None and not context.extradata


def _is_played(muxer: str, stream: Stream) -> bool:
    """Whether browsers play it, if it is sound."""
    return stream.type != "audio" or muxer == "webm" or codec_of(stream) in _OF_BROWSERS


def _encodes(encoding: Encoding, stream: AudioStream) -> SoundCodec | None:
    """What ``stream`` can be encoded as for an output; None if it cannot."""
    for codec in sound_codecs(encoding.muxer, stream, web=encoding.sound == "web"):
        if opens(encoding.muxer, partial(add_sound, source=stream, codec=codec)):
            return codec
    return None


def _encoding_note(
    muxer: str, stream: AudioStream, codec: SoundCodec, *, late: bool, unplayed: bool
) -> str:
    name = standard_of(codec.encoder)
    if codec.bit_rate is not None:
        name = f"{name} of {codec.bit_rate // 1000} kbit/s, which loses a little"
    elif codec_of(stream).startswith(_DEEP_PCM):
        name = f"{name}, rounded to 24 bits"
    if late:
        return f"{name_of(stream)} becomes {name}: {muxer} takes ADTS in a file, not in a stream"
    if unplayed:
        return f"{name_of(stream)} becomes {name}: browsers do not play it as it is"
    if muxer == "mp4" and is_pcm(stream) and _handling(muxer, stream) == "copy":
        return f"{name_of(stream)} becomes {name}: few players read it in mp4 (mov and mkv keep it)"
    hint = " (mkv can)" if _handling("matroska", stream) == "copy" else ""
    return f"{name_of(stream)} becomes {name}: {muxer} cannot hold it as it is{hint}"


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
    able = [] if _handling("matroska", stream) == "drop" else ["mkv"]
    if muxer == "m2ts" and _handling("mpegts", stream) == "copy":
        able.append("ts")
    return f"{muxer} cannot hold it" + (f" ({' and '.join(able)} can)" if able else "")
