"""What Matroska's chapters (RFC 9559, section 20) are beyond the flat list that FFmpeg reads."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from vsr.ebml import CLUSTER, EBML, SEGMENT, Element, Head, element_head, elements

__all__ = ["lost_chapter_features"]

_CHAPTERS, _EDITION, _ATOM, _DISPLAY = 0x1043A770, 0x45B9, 0xB6, 0x80
_ORDERED, _HIDDEN, _ENABLED, _LINK = 0x45DD, 0x98, 0x4598, 0x6E67
_LANGUAGE, _LANGUAGE_TAG = 0x437C, 0x437D
_UNSAID = {"eng", "en", "und", ""}
"""Languages that titles have where none is named, or that say nothing."""
_SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_HEAD = 16
"""Bytes that hold the head of any element."""
_MOST_ELEMENTS, _MOST_BYTES = 1000, 16 << 20
_MOST_INDEX_BYTES = 1 << 16
"""Of a SeekHead, which lists a handful of places."""
_MOST_LEVELS = 16


def lost_chapter_features(path: Path, given: int) -> list[str]:
    """What is lost of the chapters of ``path``, in a few words each; of other formats nothing.

    Args:
        path: the file.
        given: how many chapters FFmpeg reads. It leaves out those within others, and those that
            do not begin later than the ones listed before them.

    They are looked for where programs write them: ahead of the first cluster, and where an index
    (SeekHead) says, as behind the last one if they did not fit in any more.
    """
    with suppress(OSError, OverflowError, ValueError), path.open("rb") as file:
        body = _find(file)
        return [] if body is None else list(_more_than_a_list(body, given))
    return []


def _find(file: BinaryIO) -> bytes | None:
    segment, listed = 0, list[int]()
    # an index that is found in the list may make the list longer
    found = chain(_ahead_of_clusters(file), _elements_at(file, listed))
    for head, content in islice(found, _MOST_ELEMENTS):
        if head.id == SEGMENT:
            segment = content
        elif head.id == _CHAPTERS:
            return _read(file, content, min(head.length or 0, _MOST_BYTES))
        elif head.id == _SEEK_HEAD:
            index = _read(file, content, min(head.length or 0, _MOST_INDEX_BYTES))
            for place in _places(index):
                if segment + place not in listed:
                    listed.append(segment + place)
    return None


def _ahead_of_clusters(file: BinaryIO) -> Iterator[tuple[Head, int]]:
    """Heads of the elements in front, and where the content of each starts."""
    position = 0
    while head := element_head(_read(file, position, _HEAD)):
        if (position == 0 and head.id != EBML) or head.id == CLUSTER:
            return
        content = position + head.bytes
        yield head, content
        if head.id == SEGMENT:
            position = content
        elif head.length is None:
            return
        else:
            position = content + head.length


def _elements_at(file: BinaryIO, positions: list[int]) -> Iterator[tuple[Head, int]]:
    """The same of the elements at ``positions``, which may grow meanwhile."""
    for position in positions:
        if head := element_head(_read(file, position, _HEAD)):
            yield head, position + head.bytes


def _places(index: bytes) -> Iterator[int]:
    """Where chapters and further indices are, in bytes from the start of the segment's content."""
    with suppress(ValueError):  # a damaged one: what lies in front is found without
        for entry in elements(index):
            if entry.id == _SEEK:
                parts = {part.id: int.from_bytes(part.body) for part in entry.children()}
                if parts.get(_SEEK_ID) in (_CHAPTERS, _SEEK_HEAD):
                    yield parts.get(_SEEK_POSITION, 0)


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _more_than_a_list(body: bytes, given: int) -> Iterator[str]:
    editions = [edition.children() for edition in elements(body) if edition.id == _EDITION]
    listed = [atom for edition in editions for atom in _atoms(edition)]
    nested = list(_within(listed))
    every = listed + nested
    if len(editions) > 1:
        yield f"{len(editions)} editions"
    if any(_is_set(edition, _ORDERED) for edition in editions):
        yield "the order of playing"
    if nested:
        yield "chapters within chapters"
    if any(_is_set(atom, _HIDDEN) for atom in every):
        yield "that some are hidden"
    if any(_is_cleared(atom, _ENABLED) for atom in every):
        yield "that some are switched off"
    if any(part.id == _LINK for atom in every for part in atom):
        yield "links to other files"
    yield from _more_than_a_title(every)
    if len(every) > given:
        yield f"{len(every) - given} of {len(every)} chapters"


def _within(atoms: list[list[Element]]) -> Iterator[list[Element]]:
    """The chapters within chapters, and those within them."""
    for _ in range(_MOST_LEVELS):
        atoms = [inner for atom in atoms for inner in _atoms(atom)]
        yield from atoms


def _more_than_a_title(atoms: list[list[Element]]) -> Iterator[str]:
    if any(sum(part.id == _DISPLAY for part in atom) > 1 for atom in atoms):
        yield "titles in several languages"
    if languages := sorted({name for atom in atoms for name in _languages(atom)} - _UNSAID):
        yield f"their language{'s' * (len(languages) > 1)} ({', '.join(languages)})"


def _languages(atom: list[Element]) -> Iterator[str]:
    """Of the titles; where there is a tag of BCP 47, the older name beside it does not count."""
    for display in (part.children() for part in atom if part.id == _DISPLAY):
        tagged = any(part.id == _LANGUAGE_TAG for part in display)
        for part in display:
            if part.id == (_LANGUAGE_TAG if tagged else _LANGUAGE):
                yield part.body.rstrip(b"\0").decode("ascii", "replace")


def _atoms(parts: list[Element]) -> list[list[Element]]:
    return [part.children() for part in parts if part.id == _ATOM]


def _is_set(parts: list[Element], flag: int) -> bool:
    return any(part.id == flag and any(part.body) for part in parts)


def _is_cleared(parts: list[Element], flag: int) -> bool:
    """Of a flag that is set where nothing is said, or where the element is empty."""
    return any(part.id == flag and part.body and not any(part.body) for part in parts)
