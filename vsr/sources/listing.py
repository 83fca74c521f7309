"""The pictures of a place: a single one, a numbered sequence, a folder, or what a glob finds."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from vsr.config import PIPE
from vsr.errors import SourceError
from vsr.numbering import Hole, Pattern, find_hole, first_number, natural_key
from vsr.sources import png
from vsr.sources.opening import why_no_pictures

__all__ = ["ImageList", "find_images", "shows_several"]

_KINDS = {
    "png": "PNG", "tif": "TIFF", "tiff": "TIFF", "dpx": "DPX", "exr": "OpenEXR", "jpg": "JPEG",
    "jpeg": "JPEG", "jpe": "JPEG", "jif": "JPEG", "jfif": "JPEG", "bmp": "BMP", "webp": "WebP",
    "jp2": "JPEG 2000", "j2k": "JPEG 2000", "j2c": "JPEG 2000", "jpc": "JPEG 2000",
}  # fmt: skip
_UNREAD = {
    "tga", "ppm", "pgm", "pbm", "pnm", "pam", "pfm", "phm", "sgi", "rgb", "rgba", "bw", "pcx",
    "ras", "sun", "im1", "im8", "im24", "xwd", "xbm", "xpm", "qoi", "hdr", "psd", "gif", "fits",
    "fit", "jxl", "jls", "pic", "pct", "pict", "cin", "dng", "cr2", "nef", "arw", "heic", "heif",
    "avif", "svg", "dds", "ico",
}  # fmt: skip
"""Extensions of other pictures; FFmpeg reads a file of many of these, by itself."""
_HEAD = 4 << 20
"""Bytes of a file that tell whether it is an animation: a PNG may begin with long texts."""
_WEBP_ANIMATION = 2
"""The flag in the chunk ``VP8X``, of which the first byte has all flags."""
_GLOB = re.compile(r"[*?[]")


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
        raise _unread(location, location.suffix)
    return _glob(location) if _GLOB.search(location.name) else None


def shows_several(data: bytes) -> bool:
    """Whether a picture file that begins with ``data`` is an animation."""
    if data.startswith(b"\x89PNG"):
        return png.is_animated(data)
    extended = data.startswith(b"RIFF") and data[8:16] == b"WEBPVP8X"
    return extended and bool(data[20:21]) and bool(data[20] & _WEBP_ANIMATION)


def _kind(name: str) -> str | None:
    return _KINDS.get(_suffix(name))


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _unread(location: Path, suffix: str) -> SourceError:
    kinds = ", ".join(dict.fromkeys(_KINDS.values()))
    return SourceError(f"{location}: sequences of {suffix} are not read, but of {kinds}")


def _single(location: Path) -> ImageList | None:
    kind = _kind(location.name)
    if kind is None or (location != PIPE and _is_animated(location)):
        return None  # an animation has times, like any video
    return ImageList(location=location, paths=(location,), kind=kind, single=True)


def _is_animated(path: Path) -> bool:
    """Whether it is PNG or WebP of several frames; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return shows_several(file.read(_HEAD))
    except OSError:
        return False


def _folder(location: Path) -> ImageList:
    names = _names(location)
    pictures = [name for name in names if _kind(name)]
    if not pictures and names and all(_suffix(name) in _UNREAD for name in names):
        raise _unread(location, Path(min(names)).suffix)
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
    return ImageList(
        location=location, paths=paths, kind=kind, first=numbers[0],
        notes=_below_zero(numbers[0], paths[0]),
    )  # fmt: skip


def _below_zero(first: int | None, path: Path) -> tuple[str, ...]:
    """A line where the hyphen of a name is taken for a minus, which nobody may have meant."""
    return (f"numbers begin below 0, with {path.name}",) if first is not None and first < 0 else ()


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
    paths, first = tuple(folder / name for name in ordered), first_number(ordered)
    unnumbered = "the names are not numbered one by one: pictures are taken in natural order"
    return ImageList(
        location=location, paths=paths, kind=kinds[0], first=first,
        notes=_below_zero(first, paths[0]) if consecutive else (unnumbered,),
    )  # fmt: skip


def _missing(folder: Path, hole: Hole) -> SourceError:
    return SourceError(
        f"{folder / hole.missing}: is missing from the sequence, which goes on at {hole.follower}"
    )
