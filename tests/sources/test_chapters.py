"""Matroska's chapters that are more than a list: what of them is lost is said."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vsr.ebml import CLUSTER, SEGMENT, Element, elements, read_element
from vsr.sources import open_source
from vsr.sources.chapters import lost_chapter_features

CHAPTERS, EDITION, ORDERED, ATOM = 0x1043A770, 0x45B9, 0x45DD, 0xB6
UID, START, HIDDEN, ENABLED, LINK = 0x73C4, 0x91, 0x98, 0x4598, 0x6E67
DISPLAY, TITLE, LANGUAGE = 0x80, 0x85, 0x437C
TAG = 0x437D
INFO, TRACKS = 0x1549A966, 0x1654AE6B
SEEK_HEAD, SEEK, SEEK_ID, SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC


def element(identity: int, *parts: bytes) -> bytes:
    return Element(identity, b"".join(parts), 8).encode()


def title(text: str, language: str, tag: str = "") -> bytes:
    names = element(LANGUAGE, language.encode())
    if tag:
        names += element(TAG, tag.encode())
    return element(DISPLAY, element(TITLE, text.encode()), names)


def atom(number: int, *more: bytes) -> bytes:
    start = element(START, (number * 10**8).to_bytes(8))
    return element(ATOM, element(UID, bytes([number])), start, *more)


PLAIN = atom(1, title("One", "eng")), atom(2, title("Two", "eng"))
CASES = {
    "plain": (element(EDITION, element(ORDERED, b"\0"), *PLAIN), []),
    "editions": (element(EDITION, *PLAIN) + element(EDITION, *PLAIN),
                 ["2 editions", "2 of 4 chapters"]),
    "ordered": (element(EDITION, element(ORDERED, b"\1"), *PLAIN), ["the order of playing"]),
    "descending": (element(EDITION, element(ORDERED, b"\1"), atom(3), atom(2), atom(4), atom(1)),
                   ["the order of playing", "2 of 4 chapters"]),
    "unsorted": (element(EDITION, atom(2), atom(1)), ["1 of 2 chapters"]),
    "nested": (element(EDITION, atom(1, atom(2))), ["chapters within chapters", "1 of 2 chapters"]),
    "deep": (element(EDITION, atom(1, atom(2, atom(3), atom(4)))),
             ["chapters within chapters", "3 of 4 chapters"]),
    "hidden": (element(EDITION, atom(1, atom(2, element(HIDDEN, b"\1")))),
               ["chapters within chapters", "that some are hidden", "1 of 2 chapters"]),
    "off": (element(EDITION, atom(1, element(ENABLED, b"\0")), atom(2, element(ENABLED, b"\1"))),
            ["that some are switched off"]),
    "on": (element(EDITION, atom(1, element(ENABLED, b"\1")), atom(2, element(ENABLED, b""))), []),
    "linked": (element(EDITION, atom(1, element(LINK, bytes(16)))), ["links to other files"]),
    "titles": (element(EDITION, atom(1, title("One", "eng"), title("Eins", "ger"))),
               ["titles in several languages", "their language (ger)"]),
    "language": (element(EDITION, atom(1, title("Un", "fre")), atom(2, title("Deux", "fre"))),
                 ["their language (fre)"]),
    "languages": (element(EDITION, *PLAIN, atom(3, title("Eins", "ger")),
                          atom(4, title("Un", "fre\0")), atom(5, title("?", "und"))),
                  ["their languages (fre, ger)"]),
    "tags": (element(EDITION, atom(1, title("Um", "por", "pt-BR")),
                     atom(2, title("A", "fre", "en"))),
             ["their language (pt-BR)"]),
    "unnamed": (element(EDITION, atom(1, element(DISPLAY, element(TITLE, b"One")))), []),
}  # fmt: skip


@pytest.fixture
def with_parts(make_clip, tmp_path):
    """A film with more parts in front of FFmpeg's clusters, and behind them."""

    def make(front: bytes, behind: Callable[[int], bytes] = lambda place: b"") -> Path:
        """``behind`` is given where it starts, in bytes from the start of the segment's content."""
        data = make_clip("in.mkv").read_bytes()
        _, segment = read_element(data)
        parts = list(elements(read_element(data, segment)[0].body))
        kept = [part.encode() for part in parts if part.id in (INFO, TRACKS)]
        film = [part.encode() for part in parts if part.id == CLUSTER]
        body = b"".join([front, *kept, *film])
        path: Path = tmp_path / "film.mkv"
        path.write_bytes(data[:segment] + element(SEGMENT, body, behind(len(body))))
        return path

    return make


@pytest.fixture
def with_chapters(with_parts):
    """A film whose chapters are those bytes: its other elements are FFmpeg's."""
    return lambda chapters: with_parts(element(CHAPTERS, chapters))


@pytest.mark.parametrize("case", CASES)
def test_what_a_list_cannot_hold_is_said(with_chapters, case):
    chapters, lost = CASES[case]
    path = with_chapters(chapters)
    with open_source(path) as source:
        given = len(source.container.chapters())
        assert given >= 1  # FFmpeg reads them, too
        assert lost_chapter_features(path, given) == lost
        assert len(list(source)) == 12
    notes = [note for note in source.notes if "chapters become a plain list" in note]
    assert notes == [f"chapters become a plain list, without {', '.join(lost)}"] * bool(lost)


def index(identity: int, place: int) -> bytes:
    """A SeekHead with that one entry, of always the same length."""
    identifier = element(SEEK_ID, identity.to_bytes(4))
    return element(SEEK_HEAD, element(SEEK, identifier, element(SEEK_POSITION, place.to_bytes(8))))


CHAPTERS_BEHIND = element(CHAPTERS, CASES["nested"][0])
CHAPTERS_LOST = CASES["nested"][1]
INDEX = len(index(0, 0))


@pytest.mark.parametrize("indices", [1, 2, 3])
def test_chapters_behind_the_clusters_are_found_by_the_index(with_parts, indices):
    """As mkvpropedit puts them; an index that has grown lies behind the clusters, too."""
    place = 0

    def behind(start: int) -> bytes:
        nonlocal place
        place = start
        starts = [start + INDEX * number for number in range(indices)]
        further = [index(SEEK_HEAD, following) for following in starts[1:-1]]
        last = [index(CHAPTERS, starts[-1])] * (indices > 1)
        return b"".join([*further, *last, CHAPTERS_BEHIND])

    first = CHAPTERS if indices == 1 else SEEK_HEAD
    with_parts(index(first, 0), behind)
    path = with_parts(index(first, place), behind)
    assert lost_chapter_features(path, given=1) == CHAPTERS_LOST
    with open_source(path) as source:
        assert len(source.container.chapters()) == 1  # FFmpeg reads them, too


@pytest.mark.parametrize("place", [0, 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
@pytest.mark.parametrize("identity", [SEEK_HEAD, CHAPTERS])
def test_an_index_that_leads_nowhere_ends(with_parts, place, identity):
    """Place 0 is the index itself."""
    path = with_parts(index(identity, place), lambda _: CHAPTERS_BEHIND)
    assert lost_chapter_features(path, given=1) == []
    path = with_parts(index(identity, place) + CHAPTERS_BEHIND)
    assert lost_chapter_features(path, given=1) == CHAPTERS_LOST


def test_a_damaged_index_hides_no_chapters_in_front(with_parts):
    path = with_parts(element(SEEK_HEAD, bytes(20)) + CHAPTERS_BEHIND)
    assert lost_chapter_features(path, given=1) == CHAPTERS_LOST


def test_other_and_damaged_files_have_none(with_chapters, make_clip, tmp_path):
    assert lost_chapter_features(make_clip("in.mp4"), given=0) == []
    assert lost_chapter_features(tmp_path / "nowhere", given=0) == []
    path = with_chapters(CASES["nested"][0])
    data, cut = path.read_bytes(), tmp_path / "cut.mkv"
    at = data.index(CHAPTERS.to_bytes(4))
    for length in range(at, at + 60):
        cut.write_bytes(data[:length])
        assert lost_chapter_features(cut, given=0) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_a_fifo_is_opened_once(with_chapters, tmp_path):
    """Its writer may have gone, and a second opening would wait for another for ever."""
    fifo, data = tmp_path / "fifo", with_chapters(CASES["nested"][0]).read_bytes()
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(data,))
    writer.start()
    with open_source(fifo) as source:
        assert len(list(source)) == 12
    writer.join()
    assert not any("plain list" in note for note in source.notes)
