"""The files that an ffconcat list names, where their streams are not those of the first.

The streams of a list are its first file's. FFmpeg takes those of the others by their number alone,
so that a track of timecodes may come as sound, and says nothing of it.
"""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

__all__ = ["LIST_OPTIONS", "ListParts", "is_list"]

_MAGIC = b"ffconcat version"
_LONGEST = 16 << 20
"""Bytes of a list."""
LIST_OPTIONS = {"segment_time_metadata": "1"}
"""With these, FFmpeg's packets of a list say from when on, and how long, their file is played."""
_BEGIN, _DURATION = b"lavf.concatdec.start_time", b"lavf.concatdec.duration"
_MEDIA = ("video", "audio", "subtitle")


def is_list(path: Path) -> bool:
    """Whether ``path`` is an ffconcat list; not whether what it lists is there."""
    return _text(path, len(_MAGIC)) == _MAGIC


@dataclass(frozen=True, slots=True)
class _Unlike:
    """A file of a list, of which a stream is not like the first file's."""

    name: str
    begin: Fraction
    """Seconds from the start of the list."""
    index: int
    """The number of the stream."""
    has: str
    """What it is: a type of stream, a codec, or "nothing"."""
    wants: str
    """What it is in the first file."""
    is_mixed: bool
    """Whether the type is the same, so that packets of two codecs are in one stream."""

    def describe(self) -> str:
        """A sentence."""
        what = f"{self.has} as stream {self.index}, where the list has {self.wants}"
        end = ": it is left out"
        if self.is_mixed:
            end = ": decoders of the one do not read the other"
        elif self.has == "nothing":
            end = ""
        return f"the part {self.name}, from {float(self.begin):.2f} s, has {what}{end}"


class ListParts:
    """Follows the packets of a list from file to file, for one pass.

    Each file but the first is opened once more when its first packet comes, as long as it is known
    which one it is: after a seek it is not.

    Args:
        path: the list.
        container: the same, opened with :data:`LIST_OPTIONS`.

    Attributes:
        unlike: the streams found so far that are not like the first file's.
    """

    def __init__(self, path: Path, container: InputContainer) -> None:
        self._folder, self._names = path.parent, _names(_text(path, _LONGEST))
        self._streams = {s.index: _kind(s) for s in container.streams}
        self.unlike: list[_Unlike] = []
        self._foreign: set[int] = set()  # streams of the file that is read that are of other types
        self._at = b""
        self._next: tuple[int, int] | None = (0, 0)  # file, and its begin in microseconds

    def kept(self, packets: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
        """The same packets, without those of another type than their stream is."""
        for packet in packets:
            if packet.has_sidedata("strings_metadata"):
                at = bytes(packet.get_sidedata("strings_metadata"))
                if at != self._at:
                    self._at = at
                    self._begin(at)
            if packet.stream_index not in self._foreign:
                yield packet

    def _begin(self, at: bytes) -> None:
        """Packets of another file follow, of which ``at`` is what FFmpeg says."""
        self._foreign.clear()
        words = at.split(b"\0")
        said = dict(zip(words[::2], words[1::2], strict=False))
        begin, duration = int(said.get(_BEGIN, -1)), int(said.get(_DURATION, -1))
        if self._next is None or self._next[1] != begin or self._next[0] >= len(self._names):
            self._next = None
            return
        number = self._next[0]
        self._next = (number + 1, begin + duration) if duration > 0 else None
        if number > 0:
            self._compare(self._names[number], Fraction(begin, av.time_base))

    def _compare(self, name: str, begin: Fraction) -> None:
        """Find what streams of a file are not as in the first one."""
        theirs: dict[int, tuple[str, str]] = {}
        path = f"file:{self._folder / name.removeprefix('file:')}"
        with suppress(av.FFmpegError), av.logging.Capture(), av.open(path) as part:
            theirs = {stream.index: _kind(stream) for stream in part.streams}
        if not theirs:
            return
        nothing = ("nothing", "")
        for index in sorted({*self._streams, *theirs}):
            wants, has = self._streams.get(index, nothing), theirs.get(index, nothing)
            if wants[0] != has[0] and (wants[0] in _MEDIA or has[0] in _MEDIA):
                self._foreign.add(index)
                self.unlike.append(_Unlike(name, begin, index, has[0], wants[0], False))
            elif wants[0] in _MEDIA and all(codec for _, codec in (wants, has)) and wants != has:
                self.unlike.append(_Unlike(name, begin, index, has[1], wants[1], True))


def _kind(stream: Stream) -> tuple[str, str]:
    """Its type, and its codec if there is a decoder for it."""
    context: Any = stream.codec_context
    kind = "data" if stream.type == "unknown" else stream.type
    return kind, "" if context is None else str(context.codec.canonical_name)


def _text(path: Path, length: int) -> bytes:
    """The beginning of a file; nothing of what is none, or cannot be read."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(length)
    return b""


def _names(text: bytes) -> list[str]:
    """The files that a list names; none if it says itself which streams belong together."""
    names = []
    for line in text.decode(errors="surrogateescape").splitlines():
        words = _words(line)
        if words[:1] in (["stream"], ["exact_stream_id"]):
            return []
        if words[:1] == ["file"] and len(words) > 1:
            names.append(words[1])
    return names


def _words(line: str) -> list[str]:
    """``line`` as FFmpeg splits it: quoted by ', and by a backslash outside of that."""
    if line.lstrip().startswith("#"):
        return []
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.quotes = True, "", "'"
    with suppress(ValueError):  # a quote without an end
        return list(lexer)
    return []
