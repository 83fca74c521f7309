"""Writes the pixel aspect ratio into Matroska: a finished file, or one on its way into a pipe.

FFmpeg's muxer takes it from a field that PyAV cannot set, so it is added afterwards, in place.
Before the first cluster FFmpeg leaves::

    SeekHead  Void (52 to 83 bytes)  Info  Tracks  ...

Tracks grows by the new elements, Info and Tracks move that far into the Void, and the SeekHead is
told. Everything behind Tracks stays where it is, so no other position changes.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

from vsr.ebml import (
    EBML,
    SEGMENT,
    CutShortError,
    Element,
    element_head,
    number_element,
    read_element,
)

__all__ = ["patched_head", "set_aspect_ratio"]

_SEEK_HEAD, _VOID, _INFO, _TRACKS = 0x114D9B74, 0xEC, 0x1549A966, 0x1654AE6B
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
_TRACK, _TRACK_NUMBER, _VIDEO = 0xAE, 0xD7, 0xE0
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xB0, 0xBA
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_STEREO_MODE = 0x53B8
_SIDE_BY_SIDE, _ON_TOP = (1, 8, 9, 11), (2, 3, 6, 7)
"""Stereo modes that share out the columns and the rows of a picture (RFC 9559, section 18.3)."""
_UNIT_RATIO = 3
_HEAD_BYTES = 4 << 20  # Tracks lies within; fonts and covers come after it


def set_aspect_ratio(path: Path, track: int, sar: Fraction) -> None:
    """Give video ``track`` (counted from 1) of a Matroska file pixels of the shape ``sar``.

    Args:
        path: a complete file, written by FFmpeg to a seekable output; changed in place.
        track: Matroska's track number.
        sar: width over height of a pixel.

    Raises:
        ValueError: the file is not laid out as FFmpeg does it; it has not been touched.
        OSError: reading or writing failed.
    """
    with path.open("r+b") as file:
        data = file.read(_HEAD_BYTES)
        start, old = _head(data)
        new = _patched(old, track, sar)
        file.seek(start)
        file.write(new)


def patched_head(data: bytes, track: int, sar: Fraction) -> bytes | None:
    """The beginning of a Matroska file with another aspect ratio, of the same length.

    Args:
        data: the first bytes of the file.
        track: Matroska's number of the video track, counted from 1.
        sar: width over height of a pixel.

    Returns:
        ``data`` with the change; None if it ends within the headers.

    Raises:
        ValueError: the file is not laid out as FFmpeg does it.
    """
    try:
        start, old = _head(data)
    except CutShortError:
        return None
    new = _patched(old, track, sar)
    return data[:start] + new + data[start + len(new) :]


def _head(data: bytes) -> tuple[int, list[Element]]:
    """Where the segment's content starts, and its first four elements."""
    header, position = read_element(data)
    if (segment := element_head(data, position)) is None:
        raise CutShortError("cut off ahead of the segment")
    if (header.id, segment.id) != (EBML, SEGMENT):
        raise ValueError("not a Matroska file")
    start = position = position + segment.bytes
    first = []
    for _ in range(4):
        element, position = read_element(data, position)
        first.append(element)
    if [element.id for element in first] != [_SEEK_HEAD, _VOID, _INFO, _TRACKS]:
        raise ValueError("not laid out as FFmpeg does it")
    return start, first


def _patched(head: list[Element], track: int, sar: Fraction) -> bytes:
    seek_head, void, info, tracks = head
    if not any(_is_video(entry, track) for entry in tracks.children()):
        raise ValueError(f"there is no video track {track}")
    new_tracks = tracks.with_children(
        [_with_shape(child, track, sar) for child in tracks.children()]
    )
    growth = len(new_tracks.encode()) - len(tracks.encode())
    if growth > len(void.body):
        raise ValueError("no room in front of the tracks")
    new_void = Element(_VOID, bytes(len(void.body) - growth), void.size_bytes)
    new_seek_head = seek_head.with_children(
        [_moved(child, growth) for child in seek_head.children()]
    )
    new = b"".join(part.encode() for part in (new_seek_head, new_void, info, new_tracks))
    if len(new) != sum(len(part.encode()) for part in head):
        raise ValueError("the seek table changed its length")
    return new


def _with_shape(entry: Element, track: int, sar: Fraction) -> Element:
    """A child of Tracks; that of number ``track`` with the display size added."""
    if not _is_video(entry, track):
        return entry

    def shaped(video: Element) -> Element:
        old = (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
        parts = [part for part in video.children() if part.id not in old]
        numbers = {part.id: int.from_bytes(part.body) for part in parts}
        pixels = numbers.get(_PIXEL_WIDTH, 0), numbers.get(_PIXEL_HEIGHT, 0)
        if not all(pixels):
            raise ValueError("its video track has no size")
        return video.with_children([*parts, *_display(_view(pixels, numbers), sar)])

    return entry.with_children(_replaced(entry.children(), _VIDEO, shaped))


def _is_video(entry: Element, track: int) -> bool:
    """Whether a child of Tracks is the video track of number ``track``."""
    if entry.id != _TRACK:
        return False
    parts = {part.id: part.body for part in entry.children()}
    return int.from_bytes(parts.get(_TRACK_NUMBER, b"")) == track and _VIDEO in parts


def _view(pixels: tuple[int, int], numbers: Mapping[int, int]) -> tuple[Fraction, Fraction]:
    """Width and height of what one eye sees, which is what is displayed."""
    width, height, mode = *map(Fraction, pixels), numbers.get(_STEREO_MODE, 0)
    return width / (1 + (mode in _SIDE_BY_SIDE)), height / (1 + (mode in _ON_TOP))


def _display(view: tuple[Fraction, Fraction], sar: Fraction) -> list[Element]:
    """The display size: in pixels where those are whole, which all players know, else a ratio."""
    wide, tall = view[0] * sar, view[1]
    if wide.is_integer() and tall.is_integer():
        return [
            number_element(_DISPLAY_WIDTH, int(wide)),
            number_element(_DISPLAY_HEIGHT, int(tall)),
        ]
    ratio = wide / tall
    return [
        number_element(_DISPLAY_WIDTH, ratio.numerator),
        number_element(_DISPLAY_HEIGHT, ratio.denominator),
        number_element(_DISPLAY_UNIT, _UNIT_RATIO),
    ]


def _moved(entry: Element, growth: int) -> Element:
    """A child of SeekHead; those that point to Info and Tracks ``growth`` bytes further ahead."""
    if entry.id != _SEEK:
        return entry
    children = entry.children()
    targets = [int.from_bytes(child.body) for child in children if child.id == _SEEK_ID]
    if not targets or targets[0] not in (_INFO, _TRACKS):
        return entry

    def moved(position: Element) -> Element:
        value = int.from_bytes(position.body) - growth
        if value < 0:
            raise ValueError("its seek table points ahead of the file")
        return Element(position.id, value.to_bytes(len(position.body)), position.size_bytes)

    return entry.with_children(_replaced(children, _SEEK_POSITION, moved))


def _replaced(
    elements: list[Element], identifier: int, change: Callable[[Element], Element]
) -> list[Element]:
    return [change(element) if element.id == identifier else element for element in elements]
