"""How many threads an encoder works with, where its packets depend on that.

Note [Threads that change packets]
    x264 and x265 work on several pictures at a time, each of which sees only a part of the one that
    it is predicted from; libvpx (VP8) and FFmpeg's encoders of MPEG-1, MPEG-2 and MPEG-4 cut a
    picture into parts that know nothing of each other. So with another number of threads the
    packets are others, of the same quality. Unless told, each takes a number that follows the
    number of cores. A run that is resumed on a machine with other cores must be told the number
    that it began with.
    libvpx's VP9 decides otherwise where several threads share the rows of a tile (``row-mt``), but
    the same whether they are two or twenty: so there are never fewer than two.
    SVT-AV1, FFV1, ProRes and DNxHD give the same packets with any number.
"""

import os
import re

from vsr.encoding.encoding import Encoding

__all__ = ["THREADS", "choose_threads", "depends_on_threads"]

THREADS = "threads"
"""The option of all FFmpeg's encoders."""

_X264 = ("libx264", "libx264rgb")
_SLICING = ("mpeg1video", "mpeg2video", "mpeg4")
_CODECS = (*_X264, "libx265", "libvpx", "libvpx-vp9", *_SLICING)
_OWN_WORDS = re.compile(r"(^|:)(frame-)?threads=")
_ROW = 16
"""Lines of the rows that pictures are cut into, at the most."""


def depends_on_threads(encoding: Encoding) -> bool:
    """Whether the packets follow from the number of threads, and nobody has said that number."""
    options = encoding.options
    said = THREADS in options or any(map(_OWN_WORDS.search, options.values()))
    return encoding.codec in _CODECS and not said


def choose_threads(encoding: Encoding, height: int) -> int:
    """The number of threads that the encoder would take by itself on the cores of this process.

    One thread more for VP9 on a single core.

    See note [Threads that change packets].

    Args:
        encoding: codec and options, of which :func:`depends_on_threads` is true.
        height: lines of a picture.
    """
    cores, rows = _cores(), -(-height // _ROW)
    if encoding.codec in _X264:
        return max(1, min(cores if _is_sliced(encoding) else cores * 3 // 2, rows // 2, 128))
    if encoding.codec == "libx265":
        steps = (4, 8, 16, 32)
        return 1 + sum(cores >= step for step in steps) + (cores >= steps[-1] and height > 2000)
    if encoding.codec == "libvpx":
        return min(cores, 64)
    if encoding.codec == "libvpx-vp9":
        return max(2, min(cores, 64))
    cores = min(cores, rows)
    return 1 if cores == 1 else min(cores + 1, 16)


def _is_sliced(encoding: Encoding) -> bool:
    """Whether x264's threads share one picture, as they do for the least delay."""
    words = ("zerolatency", "sliced-threads")
    return any(word in value for value in encoding.options.values() for word in words)


def _cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
