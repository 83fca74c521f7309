"""Segments of an HLS playlist that are missing or cut short, by what FFmpeg says as it opens them.

It goes on with the next segment, and neither its result nor a packet tells of it. Where in time the
segment lies, the playlist says (RFC 8216, 4.3.2.1).
"""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
from av.container import InputContainer
from av.packet import Packet

from vsr.ffmpeg import Message, listening
from vsr.sources.breaks import is_cut_short
from vsr.sources.list_parts import LIST_OPTIONS, ListParts, is_list

__all__ = ["SegmentWatch"]

_MAGIC = b"#EXTM3U"
_FOR_A_PLAYLIST = {"live_start_index": "0", "m3u8_hold_counters": "3"}
"""One without an end is read from its first segment, not from its third last, and looked at three
times more before it is taken for what there is: a thousand times by default, each a segment long.
"""
_LONGEST = 16 << 20
"""Bytes of a playlist; one of a day has a hundredth of that."""
_LENGTH = re.compile(r"#EXTINF:(\d{1,9}(?:\.\d{0,9})?)")
_OPENING = re.compile(r"Opening '(.+)' for reading")
_FAILED = re.compile(r"Failed to open segment \d+ of playlist \d+")


@dataclass(frozen=True, slots=True)
class _Loss:
    """A segment of which something is missing."""

    name: str
    is_cut: bool
    """Whether it was opened, and ends too early."""
    begin: Fraction | None
    """Seconds from the start of the input; None if no playlist says."""
    end: Fraction

    def describe(self) -> str:
        """A sentence."""
        at = ""
        if self.begin is not None:
            at = f", from {float(self.begin):.2f} to {float(self.end):.2f} s,"
        if self.is_cut:
            return f"the segment {self.name}{at} is cut short: what it lacks is lost"
        return f"the segment {self.name}{at} cannot be opened: what it held is lost"


@dataclass(frozen=True, slots=True)
class _Playlist:
    """A playlist of segments, or of other playlists."""

    times: dict[str, tuple[Fraction, Fraction]]
    """Where its segments begin and end, in seconds, by name."""
    is_open: bool
    """Whether segments may follow, since it does not say that it ends."""


class SegmentWatch:
    """Listens while FFmpeg reads a playlist or a list of files; of other inputs it would cost time.

    Args:
        path: the input; only a file can be a playlist.

    Attributes:
        options: what FFmpeg is to be told when it opens the input.
    """

    def __init__(self, path: Path) -> None:
        found = _read(path)
        self._path, self._is_playlist = path, found is not None
        self.options = _FOR_A_PLAYLIST if self._is_playlist else {}
        if is_list(path):
            self.options = LIST_OPTIONS
        self._passes: list[ListParts] = []
        self._lists = {} if found is None else {str(path): found}
        self._opened = ""
        self._losses: dict[str, _Loss] = {}

    @property
    def is_first_lost(self) -> bool:
        """Whether the beginning of the input is missing."""
        return any(loss.begin == 0 for loss in self._losses.values())

    def sentences(self, until: Fraction | None) -> list[str]:
        """One for each segment of which something is missing, and for each list without an end.

        One as well for each stream in a list of files that is not like that of the first file.

        Args:
            until: not for those that begin there or later, in seconds from the start of the input.
        """
        lost = [
            loss.describe()
            for loss in self._losses.values()
            if until is None or loss.begin is None or loss.begin < until
        ]
        unlike = dict.fromkeys(
            part.describe()
            for parts in self._passes
            for part in parts.unlike
            if until is None or part.begin < until
        )
        endless = [
            f"the playlist {name} says of no end (#EXT-X-ENDLIST): if it grows still, what comes "
            "later is missing"
            for name, found in self._lists.items()
            if found.is_open and until is None
        ]
        return [*lost, *unlike, *endless]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """In this block FFmpeg opens the input, or reads from it, on this thread."""
        with listening(av.logging.INFO if self._is_playlist else av.logging.ERROR) as messages:
            yield
        if self._is_playlist:
            self._hear(messages)

    def packets(
        self, packets: Iterator[Packet[Any]], container: InputContainer
    ) -> Iterator[Packet[Any]]:
        """The same packets, listened to while they are read; errors then tell their cause.

        Of a list of files, without those of another type than their stream is.

        Args:
            packets: of the open input, from the place where it is on.
            container: the open input.
        """
        if container.format.name == "hls":
            yield from self._heard(packets)
        elif container.format.name == "concat":
            self._passes.append(ListParts(self._path, container))
            yield from self._passes[-1].kept(self._heard(packets))
        else:
            yield from packets

    def _heard(self, packets: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
        while True:
            with self.listening():
                packet = next(packets, None)
            if packet is None:
                return
            yield packet

    def _hear(self, messages: Iterable[Message]) -> None:
        for _, speaker, text in messages:
            if speaker != "hls":
                continue
            if found := _OPENING.search(text):
                self._open(found[1].removeprefix("file:"))
            elif _FAILED.search(text):
                self._add(is_cut=False)

    def _open(self, name: str) -> None:
        """FFmpeg opens a segment, or a playlist that the first one names."""
        self._opened, path = name, Path(name)
        if (found := _read(path)) is not None:
            self._lists.setdefault(name, found)
        elif is_cut_short(path):
            self._add(is_cut=True)

    def _add(self, *, is_cut: bool) -> None:
        times = (found.times.get(self._opened) for found in self._lists.values())
        begin, end = next(filter(None, times), (None, Fraction(0)))
        self._losses.setdefault(self._opened, _Loss(self._opened, is_cut, begin, end))


def _read(path: Path) -> _Playlist | None:
    """What a playlist says; None if it is none."""
    text = b""
    with suppress(OSError):  # opening it says why
        if path.is_file():
            with path.open("rb") as file:
                text = file.read(len(_MAGIC))
                text += file.read(_LONGEST) if text == _MAGIC else b""
    if not text.startswith(_MAGIC):
        return None
    times: dict[str, tuple[Fraction, Fraction]] = {}
    begin = end = Fraction(0)
    for line in text.decode(errors="replace").splitlines():
        if found := _LENGTH.match(line):
            end = begin + Fraction(found[1])
        elif line and not line.startswith("#"):
            name = line if "://" in line else str(path.parent / line)
            times.setdefault(name, (begin, end))
            begin = end
    return _Playlist(times, is_open=bool(times) and end > 0 and b"#EXT-X-ENDLIST" not in text)
