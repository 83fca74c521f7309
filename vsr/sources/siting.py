"""Where chroma lies in a stream that may say nothing of it.

FFmpeg's decoders of H.264 and HEVC say "left" of such a stream, as the standards do (annex E), and
so does whatever FFmpeg copies it into: the container's "left" tells nothing more. But another place
that a container names is there because somebody knew.
"""

import re
from contextlib import suppress

import av
import av.logging
from av.bitstream import BitStreamFilterContext
from av.video.stream import VideoStream

from vsr.ffmpeg import listening
from vsr.frame import Siting

__all__ = ["meaning_of_left"]

_FILLED_IN = ("h264", "hevc")
_TOLD = re.compile(r"\bchroma_loc_info_present_flag\s+1 = 1\b")
_LOOKED_AT = re.compile(r"\bvui_parameters_present_flag\b")
"""What FFmpeg's filter ``trace_headers`` says of a header that it has read."""


def meaning_of_left(stream: VideoStream, container: Siting) -> Siting:
    """What it means if FFmpeg's decoder of ``stream`` says that chroma lies left.

    Args:
        stream: of an open file.
        container: where it lies by the container.

    Returns:
        Left, or what the container says.
    """
    codec = stream.codec_context.codec.canonical_name
    known = container not in (Siting.UNSPECIFIED, Siting.LEFT)
    return container if known and codec in _FILLED_IN and _is_silent(stream) else Siting.LEFT


def _is_silent(stream: VideoStream) -> bool:
    """Whether the headers that the container has are known, and do not say where chroma lies."""
    with listening(av.logging.INFO) as messages, suppress(av.FFmpegError, ValueError):
        BitStreamFilterContext("trace_headers", stream)
    lines = [text for _, _, text in messages]
    return any(map(_LOOKED_AT.search, lines)) and not any(map(_TOLD.search, lines))
