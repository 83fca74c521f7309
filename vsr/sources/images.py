"""Pictures as frames: a single one, a numbered sequence, a folder, or what a glob finds."""

import re
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path

import torch
from av.codec.context import CodecContext
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from vsr.config import PIPE
from vsr.errors import SourceError
from vsr.ffmpeg import Message, explain, known_fraction, listening
from vsr.frame import Colour, Matrix, Range, pixel_format
from vsr.numbering import Hole, Pattern, find_hole, first_number, natural_key
from vsr.sources import describe, exr, jp2, png, tiff
from vsr.sources.headers import headers_of
from vsr.sources.lookahead import TimedFrame
from vsr.sources.opening import why_no_pictures
from vsr.sources.planes import native_format, planes_of
from vsr.sources.side_data import of_frame
from vsr.sources.timestamps import FALLBACK_RATE

__all__ = ["ImageFrames", "ImageList", "find_images"]

_KINDS = {
    "png": "PNG", "tif": "TIFF", "tiff": "TIFF", "dpx": "DPX", "exr": "OpenEXR", "jpg": "JPEG",
    "jpeg": "JPEG", "jpe": "JPEG", "jif": "JPEG", "jfif": "JPEG", "bmp": "BMP", "webp": "WebP",
    "jp2": "JPEG 2000", "j2k": "JPEG 2000", "j2c": "JPEG 2000", "jpc": "JPEG 2000",
}  # fmt: skip
_SIGNATURES = {
    b"\x89PNG": "png", b"II*\0": "tiff", b"MM\0*": "tiff", b"SDPX": "dpx", b"XPDS": "dpx",
    b"v/1\x01": "exr", b"\xff\xd8": "mjpeg", b"BM": "bmp", b"RIFF": "webp",
    b"\0\0\0\x0cjP  ": "jpeg2000", b"\xff\x4f\xff\x51": "jpeg2000",
}  # fmt: skip
# Without these, pictures that are damaged or cut short come out gray in part. TIFF takes none: it
# would refuse tags that it does not know.
_STRICT = {"mjpeg": "explode", "png": "crccheck+explode"}
_HEAD = 4 << 20
"""Bytes of a file that tell whether it is an animation: a PNG may begin with long texts."""
_WEBP_ANIMATION = 2
"""The flag in the chunk ``VP8X``, of which the first byte has all flags."""
_GLOB = re.compile(r"[*?[]")
_NO_VIDEO_SIGNAL = {8: "linear light", 9: "logarithmic", 10: "logarithmic"}
"""H.273 transfer characteristics of pictures that no display is made for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageList:
    """The pictures that a location stands for."""

    location: Path
    paths: tuple[Path, ...]
    """In the order of their numbers or names."""
    kind: str
    """The file format they have in common, e.g. ``PNG``."""
    single: bool = False
    """One file by its own name, rather than a sequence that may happen to have one."""
    first: int | None = None
    """The number of the first, of pictures that are numbered one by one."""
    notes: tuple[str, ...] = ()


def find_images(location: Path) -> ImageList | None:
    """The pictures that ``location`` names; None if it is no place of pictures.

    A file by its extension (png, tif, dpx, exr, jp2, jpg, bmp, webp), unless it is an animation; a
    folder that holds one kind of them; else a pattern (``frames/%06d.png``) or a glob
    (``frames/*.tif``) in the last part of the path. Whatever exists by that very name wins over a
    pattern.

    Raises:
        SourceError: a folder without pictures or of several kinds, a pattern that fits no file, or
            a numbered sequence with a hole.
    """
    if location == PIPE or location.is_file():
        return _single(location)
    if location.is_dir():
        return _folder(location)
    pattern = Pattern.parse(location.name)
    if pattern is not None and _kind(location.name):
        return _sequence(location, pattern)
    if pattern is not None and any(pattern.number(n) is not None for n in _beside(location)):
        kinds = ", ".join(dict.fromkeys(_KINDS.values()))
        raise SourceError(
            f"{location}: sequences of {location.suffix} are not read, but of {kinds}"
        )
    return _glob(location) if _GLOB.search(location.name) else None


def _kind(name: str) -> str | None:
    return _KINDS.get(name.rpartition(".")[2].lower())


def _single(location: Path) -> ImageList | None:
    kind = _kind(location.name)
    if kind is None or (location != PIPE and _is_animated(location)):
        return None  # an animation has times, like any video
    return ImageList(location=location, paths=(location,), kind=kind, single=True)


def _is_animated(path: Path) -> bool:
    """Whether it is PNG or WebP of several frames; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return _shows_several(file.read(_HEAD))
    except OSError:
        return False


def _shows_several(data: bytes) -> bool:
    """Whether a picture file that begins with ``data`` is an animation."""
    if data.startswith(b"\x89PNG"):
        return png.is_animated(data)
    extended = data.startswith(b"RIFF") and data[8:16] == b"WEBPVP8X"
    return extended and bool(data[20:21]) and bool(data[20] & _WEBP_ANIMATION)


def _folder(location: Path) -> ImageList:
    names = _names(location)
    pictures = [name for name in names if _kind(name)]
    if not pictures:
        raise SourceError(f"{location}: {why_no_pictures(location)}")
    found = _listed(location, location, pictures)
    if others := len(names) - len(pictures):
        folder = location.name or location.resolve().name
        ignored = f"{others} files in {folder} that are no pictures are ignored"
        return ImageList(
            location=location, paths=found.paths, kind=found.kind, first=found.first,
            notes=(ignored, *found.notes),
        )  # fmt: skip
    return found


def _glob(location: Path) -> ImageList | None:
    if not location.parent.is_dir():
        return None
    names = [name for name in _names(location.parent) if fnmatchcase(name, location.name)]
    pictures = [name for name in names if _kind(name)]
    if not pictures and (names or not _kind(location.name)):
        return None
    if not pictures:
        raise SourceError(f"{location}: no picture has such a name")
    return _listed(location, location.parent, pictures)


def _sequence(location: Path, pattern: Pattern) -> ImageList:
    folder = location.parent
    names = _beside(location)
    numbers = sorted(n for name in names if (n := pattern.number(name)) is not None)
    if not numbers:
        raise SourceError(f"{location}: no picture has such a name")
    for number, index in zip(numbers, range(numbers[0], numbers[-1] + 1), strict=False):
        if number != index:
            raise _missing(folder, Hole(pattern.name(index), pattern.name(number)))
    kind = _kind(location.name)
    assert kind is not None
    paths = tuple(folder / pattern.name(number) for number in numbers)
    return ImageList(location=location, paths=paths, kind=kind, first=numbers[0])


def _beside(location: Path) -> list[str]:
    """The files in the folder of ``location``, which need not be there."""
    return _names(location.parent) if location.parent.is_dir() else []


def _names(folder: Path) -> list[str]:
    """The files in ``folder`` but hidden ones."""
    try:
        return [p.name for p in folder.iterdir() if not p.name.startswith(".") and p.is_file()]
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed: {error.strerror}") from error


def _listed(location: Path, folder: Path, names: Iterable[str]) -> ImageList:
    """``names``, of one kind and in natural order."""
    ordered = sorted(names, key=natural_key)
    kinds = sorted({kind for name in ordered if (kind := _kind(name))})
    if len(kinds) > 1:
        raise SourceError(
            f"{location}: holds pictures of several kinds ({', '.join(kinds)}): "
            f"choose by a pattern or glob, e.g. {folder / '*'}{Path(ordered[0]).suffix}"
        )
    hole, consecutive = find_hole(ordered)
    if hole is not None:
        raise _missing(folder, hole)
    unnumbered = "the names are not numbered one by one: pictures are taken in natural order"
    return ImageList(
        location=location, paths=tuple(folder / name for name in ordered), kind=kinds[0],
        first=first_number(ordered), notes=() if consecutive else (unnumbered,),
    )  # fmt: skip


def _missing(folder: Path, hole: Hole) -> SourceError:
    return SourceError(
        f"{folder / hole.missing}: is missing from the sequence, which goes on at {hole.follower}"
    )


class ImageFrames:
    """The pictures of a location as decoded frames, in order; may be iterated more than once.

    Frames come as FFmpeg's decoders make them, in the size and pixel format of each file. Their
    ``pts`` is their index, their ``time_base`` one frame.

    Args:
        location: what :func:`find_images` takes.
        rate: frames a second; None means 25, which is said of sequences.

    Attributes:
        rate: frames a second.
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
        not_finite: how many of the pictures read so far hold NaN or infinity.

    Raises:
        SourceError: no pictures there, a hole in the sequence, or the first cannot be read.
    """

    def __init__(self, location: Path, rate: Fraction | None = None) -> None:
        found = find_images(location)
        if found is None:
            raise SourceError(f"{location}: no pictures")
        self.paths, self.count, self.single = found.paths, len(found.paths), found.single
        self.first_number = found.first
        self.rate = rate or FALLBACK_RATE
        self.time_base = 1 / self.rate
        self.notes = list(found.notes)
        self.not_finite = 0
        self._headers = set[str]()
        decoded = _decode(self.paths[0])
        self.first = self._placed(decoded.frame, 0)
        self.codec, self.sar, self.icc = decoded.codec, decoded.sar, decoded.icc
        self.tags = decoded.tags
        self.display_matrix = of_frame(self.first, SideDataType.DISPLAYMATRIX)
        self._note(found, rate)
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
        self.not_finite += _has_non_finite(frame)
        if of_frame(frame, SideDataType.DISPLAYMATRIX) != self.display_matrix:
            self._note_once("not all pictures lie the same way: the rotation of the first is used")
        if icc != self.icc:
            self._note_once("not all pictures have the ICC profile of the first")
        return TimedFrame(frame, index, icc=icc)

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

    def _note(self, found: ImageList, rate: Fraction | None) -> None:
        if rate is None and not found.single:
            self.notes.append(
                f"{self.count} {found.kind} pictures are taken as {FALLBACK_RATE} a second (-r)"
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
    headers: list[str]
    """What stands beside the picture."""
    losses: list[str]
    """A line for each other thing that the file holds and the frame does not."""


def _decode(path: Path) -> _Decoded:
    data = _bytes_of(path)
    codec = next((c for mark, c in _SIGNATURES.items() if data.startswith(mark)), None)
    if codec is None:
        raise SourceError(f"{path}: {'no picture' if data else 'is empty'}")
    if _shows_several(data):
        raise SourceError(f"{path}: is an animation, not a picture: give it as the input by itself")
    if codec == "tiff" and (reason := tiff.why_not(data)):
        raise SourceError(f"{path}: {reason}")
    plain = png.without_profile(data) if codec == "png" else data
    context = CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.options = {"err_detect": _STRICT[codec]} if codec in _STRICT else {}
    listen = listening() if codec == "tiff" else nullcontext(list[Message]())
    with explain(f"{path}: cannot be decoded", SourceError, listen=False), listen as heard:
        frames = context.decode(Packet(plain)) + context.decode(None)
    if heard:  # TIFF takes no err_detect: what does not decode stays black
        raise SourceError(f"{path}: cannot be decoded: {heard[0][2].strip()}")
    if not frames or not _is_complete(codec, data):
        raise SourceError(f"{path}: cannot be decoded: it is cut short")
    frame = frames[0]
    return _Decoded(
        frame=frame, codec=codec, sar=known_fraction(context.sample_aspect_ratio),
        tags=_tags(codec, data, frame), icc=_profile(codec, data, frame),
        headers=headers_of(data, frame.metadata), losses=list(_losses(codec, data)),
    )  # fmt: skip


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


def _losses(codec: str, data: bytes) -> Iterator[str]:
    if codec == "png" and png.overrules_profile(data) and png.profile(data) is not None:
        yield "the ICC profile of the pictures is dropped: their cICP counts before it"
    if codec == "tiff" and (count := tiff.pages(data)) > 1:
        yield f"of TIFF with several pages ({count}) the first is taken"


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
