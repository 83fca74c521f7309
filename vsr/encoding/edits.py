"""Sound that begins amid what its file holds, by an edit list of MOV and MP4."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import Container, OutputContainer
from av.stream import Stream

__all__ = ["is_file", "undelayed", "warm_up"]

_LONGEST_WARM_UP = Fraction(1, 8)
"""Seconds; HE-AAC takes 0.115."""
_PRIMING = 2112
"""Samples that encoders of AAC put ahead, at the most: at low rates that is longer."""


@contextmanager
def undelayed(container: OutputContainer, stream: Stream) -> Iterator[Stream]:
    """``stream``; where an edit list cuts into its sound, the same without that list if need be.

    FFmpeg still delivers up to a second before the cut and declares it encoder delay. MP4 and MOV
    write that back as an edit list; other containers would play it, or cut as much from what should
    be heard. For these the file is opened again with ``ignore_editlist``.
    """
    source, edits = stream.container, container.format.name not in ("mp4", "mov")
    if not edits or not _is_cut(stream) or not is_file(source):
        yield stream
        return
    with av.open(source.name, options={"ignore_editlist": "1"}) as again:
        yield again.streams[stream.index]


def is_file(source: Container) -> bool:
    """Whether it can be opened again by its name."""
    return Path(source.name.removeprefix("file:")).is_file()


def _is_cut(stream: Stream) -> bool:
    """Whether more is hidden ahead of the sound than a decoder needs."""
    if not isinstance(stream, AudioStream):
        return False
    return warm_up(stream) > max(_LONGEST_WARM_UP, Fraction(_PRIMING, stream.sample_rate or 1))


def warm_up(stream: Stream) -> Fraction:
    """Seconds of sound that a decoder leaves out at the beginning."""
    if not isinstance(stream, AudioStream):
        return Fraction(0)
    context = stream.codec_context
    return Fraction(context.initial_padding, context.sample_rate or 1)
