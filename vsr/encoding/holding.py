"""Which streams a container can hold: found by trying, and a few that only seem to fit.

FFmpeg writes a header with that one stream into memory. What its muxers accept and then write
wrongly is named here.
"""

import io
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import av
import av.logging
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from vsr.encoding.streams import add_copy, codec_of, is_pcm

__all__ = ["can_hold", "opens"]

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


def can_hold(muxer: str, stream: Stream) -> bool:
    """Whether a container, by FFmpeg's name for it, takes a copy of ``stream`` and keeps it so."""
    if stream.type == "attachment":
        return muxer == "matroska"  # webm writes the header, but not the attachment
    if not codec_of(stream):
        return False
    if muxer == "mpegts":
        return codec_of(stream) in _MPEGTS_CODECS
    miscounted = muxer == "avi" and _is_miscounted(stream)
    if miscounted or codec_of(stream) in {"nut": _NOT_IN_NUT, "avi": _NOT_IN_AVI}.get(muxer, ()):
        return False
    return opens(muxer, partial(_try_copy, stream=stream))


def _is_miscounted(stream: Stream) -> bool:
    """Whether AVI's muxer, told the size of a block, counts the sound by a wrong clock."""
    if not isinstance(stream, AudioStream) or codec_of(stream) not in _IN_FRAMES:
        return False
    return stream.codec_context.block_align not in (0, _MP3_FRAME)


def opens(muxer: str, add: Callable[[OutputContainer], object]) -> bool:
    """Whether a container can be begun and ended with what ``add`` adds to it.

    Args:
        muxer: FFmpeg's name of the container.
        add: gets one in memory, without a stream.
    """
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


def _try_copy(container: OutputContainer, stream: Stream) -> None:
    output = add_copy(container, stream)
    # What MP4 cannot say of channels it finds at the end. 24 bytes are whole samples of 1 to 8.
    if isinstance(stream, AudioStream) and is_pcm(stream):
        packet: Packet[Any] = Packet(bytes(24 * stream.codec_context.layout.nb_channels))
        packet.stream, packet.pts, packet.dts = output, 0, 0
        container.mux_one(packet)
