"""What Matroska's chapters (RFC 9559, section 20) are beyond the flat list that FFmpeg reads."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from vsr.ebml import CLUSTER, EBML, SEGMENT, Element, element_head, elements

__all__ = ["lost_chapter_features"]

_CHAPTERS, _EDITION, _ATOM, _DISPLAY = 0x1043A770, 0x45B9, 0xB6, 0x80
_ORDERED, _HIDDEN, _LINK = 0x45DD, 0x98, 0x6E67
_HEAD = 16
"""Bytes that hold the head of any element."""
_MOST_ELEMENTS, _MOST_BYTES = 1000, 16 << 20


def lost_chapter_features(path: Path) -> list[str]:
    """What is lost of the chapters of ``path``, in a few words each; of other formats nothing.

    They are looked for where programs write them, ahead of the first cluster.
    """
    with suppress(OSError, ValueError), path.open("rb") as file:
        body = _find(file)
        return [] if body is None else list(_more_than_a_list(body))
    return []


def _find(file: BinaryIO) -> bytes | None:
    position = 0
    for _ in range(_MOST_ELEMENTS):
        file.seek(position)
        head = element_head(file.read(_HEAD))
        if head is None or (position == 0 and head.id != EBML):
            return None
        position += head.bytes
        if head.id == SEGMENT:
            continue
        if head.id == CLUSTER or head.length is None:
            return None
        if head.id == _CHAPTERS:
            file.seek(position)
            return file.read(min(head.length, _MOST_BYTES))
        position += head.length
    return None


def _more_than_a_list(body: bytes) -> Iterator[str]:
    editions = [edition.children() for edition in elements(body) if edition.id == _EDITION]
    listed = [atom for edition in editions for atom in _atoms(edition)]
    nested = [inner for atom in listed for inner in _atoms(atom)]
    every = listed + nested
    if len(editions) > 1:
        yield f"{len(editions)} editions"
    if any(_is_set(edition, _ORDERED) for edition in editions):
        yield "the order of playing"
    if nested:
        yield "chapters within chapters"
    if any(_is_set(atom, _HIDDEN) for atom in every):
        yield "that some are hidden"
    if any(part.id == _LINK for atom in every for part in atom):
        yield "links to other files"
    if any(sum(part.id == _DISPLAY for part in atom) > 1 for atom in every):
        yield "titles in several languages"


def _atoms(parts: list[Element]) -> list[list[Element]]:
    return [part.children() for part in parts if part.id == _ATOM]


def _is_set(parts: list[Element], flag: int) -> bool:
    return any(part.id == flag and any(part.body) for part in parts)
