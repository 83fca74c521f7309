"""Picture files as frames: what FFmpeg decodes of each, and what is known of it beside."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from av.codec.context import CodecContext
from av.logging import ERROR, WARNING
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from vsr.errors import SourceError
from vsr.ffmpeg import Message, explain, known_fraction, listening
from vsr.frame import Colour, Matrix, Range, pixel_format
from vsr.sources import describe, dpx, exr, jp2, png, tiff
from vsr.sources.headers import headers_of
from vsr.sources.listing import ImageList, find_images, shows_several
from vsr.sources.lookahead import TimedFrame
from vsr.sources.planes import native_format, planes_of
from vsr.sources.side_data import of_frame
from vsr.sources.straight import make_straight
from vsr.sources.timestamps import FALLBACK_RATE

__all__ = ["ImageFrames"]

_SIGNATURES = {
    b"\x89PNG": "png", b"II*\0": "tiff", b"MM\0*": "tiff", b"SDPX": "dpx", b"XPDS": "dpx",
    b"v/1\x01": "exr", b"\xff\xd8": "mjpeg", b"BM": "bmp", b"RIFF": "webp",
    b"\0\0\0\x0cjP  ": "jpeg2000", b"\xff\x4f\xff\x51": "jpeg2000",
}  # fmt: skip
# Without these, pictures that are damaged or cut short come out gray in part. TIFF takes none: it
# would refuse tags that it does not know.
_STRICT = {"mjpeg": "explode", "png": "crccheck+explode"}
_SPOKEN = {"tiff", "exr", "jpeg2000"}
"""Those whose decoders go on where a picture is damaged, and only say so."""
_NO_VIDEO_SIGNAL = {8: "linear light", 9: "logarithmic", 10: "logarithmic"}
"""H.273 transfer characteristics of pictures that no display is made for."""
_HIGHEST_RATE = 240
_RATES_OF_NTSC = (24, 30, 48, 60, 120)
"""Each stands for the rate that is slower by a part in 1001."""
_SAME_RATE = 0.005
"""What a rate that was written with two decimals differs by at most."""


class ImageFrames:
    """The pictures of a location as decoded frames, in order; may be iterated more than once.

    Frames come as FFmpeg's decoders make them, in the size and pixel format of each file. Their
    ``pts`` is their index, their ``time_base`` one frame.

    Args:
        location: what :func:`vsr.sources.listing.find_images` takes.
        rate: frames a second; None means what the first picture's header says, else 25. Which it
            is, is said of sequences.

    Attributes:
        rate: frames a second.
        rate_is_guess: whether nothing says so, and 25 are taken.
        time_base: seconds that a frame lasts.
        count: how many pictures there are.
        first_number: the number of the first, if they are numbered one by one.
        paths: their files.
        single: whether ``location`` is one picture by its own name.
        codec: FFmpeg's name of the first picture's decoder.
        tags: the first picture's colour; what a picture without tags means by being one is filled
            in, primaries and transfer are not.
        sar: the first picture's sample aspect ratio, None if it says nothing.
        display_matrix: how the first picture lies (EXIF), FFmpeg's 36 bytes; None if it does not
            say. Another one that lies otherwise is noted.
        icc: the first picture's ICC profile, None if it has none. A picture with another is noted.
        first: the first picture, decoded.
        notes: one line for each automatic decision.

    Raises:
        SourceError: no pictures there, a hole in the sequence, or the first cannot be read.
    """

    def __init__(self, location: Path, rate: Fraction | None = None) -> None:
        found = find_images(location)
        if found is None:
            raise SourceError(f"{location}: no pictures")
        self.paths, self.count, self.single = found.paths, len(found.paths), found.single
        self.first_number = found.first
        decoded = _decode(self.paths[0])
        self.rate = rate or decoded.rate or FALLBACK_RATE
        self.rate_is_guess = rate is None and decoded.rate is None
        self.time_base = 1 / self.rate
        self.notes = list(found.notes)
        self._headers = set[str]()
        self.first = self._placed(decoded.frame, 0)
        self.codec, self.sar, self.icc = decoded.codec, decoded.sar, decoded.icc
        self.tags = decoded.tags
        self.display_matrix = of_frame(self.first, SideDataType.DISPLAYMATRIX)
        self._note(found, rate, decoded.rate)
        self._note_lost(decoded, self.paths[0])

    def read(self, index: int) -> TimedFrame:
        """Decode picture ``index``, counted from 0.

        Raises:
            SourceError: it cannot be read, is damaged or cut short.
        """
        frame, icc = self.first, self.icc
        if index > 0:
            decoded = _decode(self.paths[index])
            self._note_lost(decoded, self.paths[index])
            frame, icc = self._placed(decoded.frame, index), decoded.icc
        if of_frame(frame, SideDataType.DISPLAYMATRIX) != self.display_matrix:
            self._note_once("not all pictures lie the same way: the rotation of the first is used")
        if icc != self.icc:
            self._note_once("not all pictures have the ICC profile of the first")
        return TimedFrame(frame, index, icc=icc, not_finite=_has_non_finite(frame))

    def _placed(self, frame: VideoFrame, index: int) -> VideoFrame:
        frame.pts, frame.duration, frame.time_base = index, 1, self.time_base
        return frame

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _note_lost(self, decoded: "_Decoded", path: Path) -> None:
        """Name what this picture has and none before it had."""
        if new := [name for name in decoded.headers if name not in self._headers]:
            where = f" (from {path.name} on)" if self._headers else ""
            self._headers.update(new)
            self.notes.append(f"the pictures' headers are not carried on: {', '.join(new)}{where}")
        for loss in decoded.losses:
            self._note_once(loss)

    def _note(self, found: ImageList, rate: Fraction | None, said: Fraction | None) -> None:
        if rate is None and not found.single:
            why = "-r" if said is None else "as their headers say"
            self.notes.append(
                f"{self.count} {found.kind} pictures are taken as {self.rate} a second ({why})"
            )
        if meaning := _NO_VIDEO_SIGNAL.get(self.tags.transfer):
            self.notes.append(f"the pictures are tagged {meaning}: the network sees it as it is")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decoded:
    frame: VideoFrame
    codec: str
    sar: Fraction | None
    tags: Colour
    icc: bytes | None
    rate: Fraction | None
    """Frames a second, if the file says so."""
    headers: list[str]
    """What stands beside the picture."""
    losses: list[str]
    """A line for each other thing that the file holds and the frame does not."""


def _decode(path: Path) -> _Decoded:
    data = _bytes_of(path)
    codec = next((c for mark, c in _SIGNATURES.items() if data.startswith(mark)), None)
    if codec is None:
        raise SourceError(f"{path}: {'no picture' if data else 'is empty'}")
    if shows_several(data):
        raise SourceError(f"{path}: is an animation, not a picture: give it as the input by itself")
    if reason := _why_not(codec, data):
        raise SourceError(f"{path}: {reason}")
    plain = png.without_profile(data) if codec == "png" else data
    context = CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.options = {"err_detect": _STRICT[codec]} if codec in _STRICT else {}
    listen: AbstractContextManager[list[Message]] = nullcontext([])
    if codec in _SPOKEN:  # they take no err_detect: what does not decode stays black
        listen = listening(WARNING)
        context.thread_count = 1  # what decoders say on threads of their own is not heard
    with explain(f"{path}: cannot be decoded", SourceError, listen=False), listen as heard:
        frames = context.decode(Packet(plain)) + context.decode(None)
    if damage := [text for level, _, text in heard if _tells_damage(codec, level, text)]:
        raise SourceError(f"{path}: cannot be decoded: {damage[0].strip()}")
    if not frames or not _is_complete(codec, data):
        raise SourceError(f"{path}: cannot be decoded: it is cut short")
    frame = frames[0]
    if codec == "tiff" and tiff.is_multiplied(data):
        make_straight(frame)
    return _Decoded(
        frame=frame, codec=codec, sar=known_fraction(context.sample_aspect_ratio),
        tags=_tags(codec, data, frame), icc=_profile(codec, data, frame), rate=_rate(codec, data),
        headers=_headers(codec, data, frame), losses=list(_losses(codec, data, frame)),
    )  # fmt: skip


def _why_not(codec: str, data: bytes) -> str | None:
    """Why FFmpeg cannot be given the file, if that is known."""
    reasons = {"dpx": dpx.why_not, "exr": exr.why_not, "tiff": tiff.why_not}
    return reasons[codec](data) if codec in reasons else None


def _tells_damage(codec: str, level: int, text: str) -> bool:
    """Whether a message of a decoder's means that part of the picture is missing or wrong."""
    return jp2.tells_damage(level, text) if codec == "jpeg2000" else level <= ERROR


def _is_complete(codec: str, data: bytes) -> bool:
    """Whether all is there, of formats whose decoders leave the rest black."""
    if codec == "exr":
        return exr.is_complete(data)
    return codec != "tiff" or tiff.is_complete(data)


def _profile(codec: str, data: bytes, frame: VideoFrame) -> bytes | None:
    """The ICC profile that says what the picture's numbers mean; None if there is none."""
    if codec == "jpeg2000":
        return jp2.profile(data)
    if codec != "png":
        return of_frame(frame, SideDataType.ICC_PROFILE)
    return None if png.overrules_profile(data) else png.profile(data)


def _rate(codec: str, data: bytes) -> Fraction | None:
    """Frames a second that the file says it was taken or is shown at; None if it does not say."""
    rates = {"dpx": dpx.rate, "exr": exr.rate}
    said = rates[codec](data) if codec in rates else None
    if said is None or not 1 <= said <= _HIGHEST_RATE:
        return None
    for whole in _RATES_OF_NTSC:
        if abs(said - whole * 1000 / 1001) < _SAME_RATE:
            return Fraction(whole * 1000, 1001)
    return Fraction(said).limit_denominator(100)


def _headers(codec: str, data: bytes, frame: VideoFrame) -> list[str]:
    if codec == "dpx":  # FFmpeg names fields that are blank
        return [*dpx.headers(data), *headers_of(data, {})]
    if codec == "exr":
        return [*exr.headers(data), *headers_of(data, {})]
    return headers_of(data, frame.metadata)


def _losses(codec: str, data: bytes, frame: VideoFrame) -> Iterator[str]:
    if codec == "png" and png.overrules_profile(data) and png.profile(data) is not None:
        yield "the ICC profile of the pictures is dropped: their cICP counts before it"
    if codec == "tiff" and (count := tiff.pages(data)) > 1:
        yield f"of TIFF with several pages ({count}) the first is taken"
    if codec == "tiff" and tiff.is_multiplied(data) and not native_format(frame).floating:
        yield "the pictures' colours were multiplied by alpha: made straight"
    if codec == "dpx":
        yield from dpx.losses(data)
    if codec == "exr":
        yield from exr.losses(data)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error


def _tags(codec: str, data: bytes, frame: VideoFrame) -> Colour:
    """The colour of ``frame``; gray and RGB pictures have no headroom, said or not.

    Nor has YCbCr in TIFF, unless its ReferenceBlackWhite says so, and its matrix is BT.601's (TIFF
    6.0, section 21); the same holds of JPEG 2000 that says that it is sYCC.
    """
    if native_format(frame).family != "yuv":
        return describe.frame_colour(frame, Colour(matrix=Matrix.RGB, range=Range.FULL))
    if codec == "tiff" or (codec == "jpeg2000" and jp2.is_sycc(data)):
        return describe.frame_colour(frame, Colour(matrix=Matrix.SMPTE170M, range=Range.FULL))
    return describe.frame_colour(frame, Colour())


def _has_non_finite(frame: VideoFrame) -> bool:
    format = native_format(frame)
    if not format.floating:
        return False
    planes = planes_of(frame, pixel_format(frame.format.name))
    return not all(bool(torch.isfinite(plane).all()) for plane in planes)
