"""Where each container keeps the pixel aspect ratio that PyAV cannot hand to FFmpeg's muxers.

MP4 and MOV take it from the encoder, MPEG-TS leaves it to the bitstream. Matroska, NUT and AVI are
patched: a file when it is complete, a pipe's head on its way. So is MP4 whose
picture is no flat view (:mod:`.mp4`).
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vsr.sinks import avi, matroska, mp4, nut
from vsr.sinks.destination import Writable

__all__ = ["PatchedOutput", "Place", "says_exactly"]

# Numbers that a bitstream has room for (H.264 and H.265, table E-1; MPEG-4 part 2, 6.3.3).
_LARGEST = {"h264": 0xFFFF, "hevc": 0xFFFF, "mpeg4": 0xFF}
_MPEG2_PICTURES = (Fraction(4, 3), Fraction(16, 9), Fraction(221, 100))  # H.262, table 6-3
_HEAD_BYTES = 4 << 20  # to look for the headers in


@dataclass(frozen=True, slots=True)
class Place:
    """A ratio, and which stream of which container has it."""

    muxer: str
    """FFmpeg's name of the container."""
    stream: int
    """The picture's stream, counted from 0."""
    track: int
    """Its number in Matroska, which does not count attachments, from 1."""
    sar: Fraction | None
    """Width over height of a pixel; None if unknown."""
    described: bool = False
    """Whether the muxer was told of two views or of a sphere."""

    def patched_head(self, data: bytes) -> bytes | None:
        """The beginning of a file with the ratio, of the same length; None if more is needed.

        Raises:
            ValueError: it cannot be written.
        """
        if self.muxer == "mp4" and self.described:
            return mp4.patched_head(data)
        if self.sar is None:
            return data
        if self.muxer == "nut":
            return nut.patched_head(data, self.stream, self.sar)
        if self.muxer in ("matroska", "webm"):
            return matroska.patched_head(data, self.track, self.sar)
        return data

    def set_in_file(self, path: Path) -> None:
        """Write the ratio into a finished file, if its container needs that.

        Raises:
            ValueError: it cannot be written; the file has not been touched.
            OSError: reading or writing failed.
        """
        if self.muxer == "mp4" and self.described:
            mp4.free_apples_box(path)
        elif self.sar is None:
            return
        elif self.muxer == "avi":
            avi.set_aspect_ratio(path, self.stream, self.sar)
        elif self.muxer == "nut":
            nut.set_aspect_ratio(path, self.stream, self.sar)
        elif self.muxer in ("matroska", "webm"):
            matroska.set_aspect_ratio(path, self.track, self.sar)


def says_exactly(codec: str, width: int, height: int, sar: Fraction) -> bool:
    """Whether a bitstream, which is all that MPEG-TS has, can say the ratio.

    Args:
        codec: FFmpeg's name of the codec.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        sar: width over height of a pixel.
    """
    if sar == 1:
        return True
    if codec == "mpeg2video":
        return sar * width / height in _MPEG2_PICTURES
    return max(sar.numerator, sar.denominator) <= _LARGEST.get(codec, 0)


class PatchedOutput:
    """An output whose head gets the aspect ratio; set :attr:`place` before that is written."""

    def __init__(self, output: Writable) -> None:
        self.place: Place | None = None
        self.problem: str | None = None
        """Why the ratio could not be written, if it could not."""
        self._output = output
        self._held = b""

    def write(self, data: bytes, /) -> int:
        """Pass ``data`` on; hold it back while the head is incomplete."""
        if self.place is None:
            return self._output.write(data)
        self._held += data
        try:
            head = self.place.patched_head(self._held)
            if head is None and len(self._held) < _HEAD_BYTES:
                return len(data)
            self.problem = None if head else "its headers are too long"
            self._held = head or self._held
        except ValueError as error:
            self.problem = str(error)
        self._pass_on()
        return len(data)

    def finish(self) -> None:
        """Write what is still held back, as it is, where the output ends within its head."""
        if self.place is not None:
            self.problem = "the output ends within its headers"
        self._pass_on()

    def _pass_on(self) -> None:
        self.place = None
        held, self._held = self._held, b""
        self._output.write(held)
