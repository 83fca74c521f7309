"""Where each container keeps the pixel aspect ratio that PyAV cannot hand to FFmpeg's muxers.

MP4 and MOV take it from the encoder, MPEG-TS leaves it to the bitstream, and the others are
patched: AVI and Matroska when the file is complete, Matroska in a pipe and NUT on their way.
"""

from fractions import Fraction
from pathlib import Path
from typing import Protocol

from vsr.sinks import avi, matroska
from vsr.sinks.destination import Writable
from vsr.sinks.matroska import MatroskaAspectRatio
from vsr.sinks.nut import NutAspectRatio

__all__ = ["ON_THE_WAY", "AspectRatio", "PatchedOutput", "on_the_way", "set_in_file"]

ON_THE_WAY = ("nut",)
"""Muxers whose files, too, are patched while they are written: they repeat their headers."""


class AspectRatio(Protocol):
    """Changes headers in bytes that pass."""

    problem: str | None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes, return those that are ready."""

    def rest(self) -> bytes:
        """What is held back; for the end of the stream."""


class PatchedOutput:
    """An output with :attr:`patch` in front; set that before the header is written."""

    def __init__(self, output: Writable) -> None:
        self.patch: AspectRatio | None = None
        self._output = output

    def write(self, data: bytes, /) -> int:
        """Pass ``data`` on, with what is to be changed in it."""
        for part in self.patch.feed(data) if self.patch else [data]:
            self._output.write(part)
        return len(data)

    def finish(self) -> None:
        """Write what is held back."""
        if self.patch is not None:
            self._output.write(self.patch.rest())


def on_the_way(muxer: str, stream: int, track: int, sar: Fraction) -> AspectRatio | None:
    """What writes ``sar`` into a header as it passes; None if ``muxer`` needs none.

    Args:
        muxer: FFmpeg's name of the container.
        stream: The picture's stream, counted from 0.
        track: Its number in Matroska, which does not count attachments, from 1.
        sar: Width over height of a pixel.
    """
    if muxer == "nut":
        return NutAspectRatio(stream, sar)
    return MatroskaAspectRatio(track, sar) if muxer in ("matroska", "webm") else None


def set_in_file(path: Path, muxer: str, stream: int, track: int, sar: Fraction) -> None:
    """Write ``sar`` into a finished file, if ``muxer`` needs that; arguments as above.

    Raises:
        ValueError: it cannot be written; the file has not been touched.
        OSError: reading or writing failed.
    """
    if muxer == "avi":
        avi.set_aspect_ratio(path, stream, sar)
    elif muxer in ("matroska", "webm"):
        matroska.set_aspect_ratio(path, track, sar)
