"""Subtitles as text without style, or with as much of it as all of them have.

SubRip and mov_text share plain text; WebVTT (W3C) has italics, bold and underline as SubRip has.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from av.packet import Packet

__all__ = ["OneAtATime", "as_plain_text", "as_webvtt", "lasting"]

_STYLE = re.compile(rb"</?(?:[ibus]|font)\b[^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)
"""What SubRip says of style: HTML's tags, and Advanced SubStation's ``{\\an8}``."""
_SHARED = re.compile(rb"</?[ibu]\s*>", re.IGNORECASE)
"""Those that are the same in WebVTT."""
_CUE_TAG = re.compile(r"<[^>]*(?:>|$)")
"""Whatever stands in brackets in WebVTT: style, classes, who speaks, times within the text."""
_BLANK_LINES = re.compile(rb"\n{2,}")


def as_plain_text(packet: "Packet[Any]", codec: str) -> tuple["Packet[Any]", bool]:
    """A subtitle without its style, and whether it had any.

    A player shows SubRip's tags as they stand where it expects plain text. In mov_text, style lies
    behind the text, whose length comes first, and stays behind when that is unwrapped. WebVTT says
    beside a text where it is shown.
    """
    data = bytes(packet)
    if codec == "mov_text":
        return packet, len(data) > 2 + int.from_bytes(data[:2], "big")
    if codec == "webvtt":
        text = html.unescape(_CUE_TAG.sub("", marked := data.decode(errors="surrogateescape")))
        styled = _CUE_TAG.search(marked) is not None or packet.has_sidedata("webvtt_settings")
        return _with(packet, text.encode(errors="surrogateescape")), styled
    plain = _STYLE.sub(b"", data)
    return (packet, False) if plain == data else (_with(packet, plain), True)


def as_webvtt(packet: "Packet[Any]", codec: str) -> tuple["Packet[Any]", bool]:
    """SubRip's or mov_text's subtitle as WebVTT, and whether it loses style, colour or place."""
    data = bytes(packet)
    if codec == "mov_text":
        end = 2 + int.from_bytes(data[:2], "big")
        return _with(packet, _whole(_escaped(data[2:end]))), len(data) > end
    made, at, styled = b"", 0, False
    for mark in _STYLE.finditer(data):
        made += _escaped(data[at : mark.start()])
        if _SHARED.fullmatch(mark[0]):
            made += mark[0].lower()
        else:
            styled = True
        at = mark.end()
    return _with(packet, _whole(made + _escaped(data[at:]))), styled


def lasting(packet: "Packet[Any]", codec: str) -> tuple["Packet[Any]", bool]:
    """A text of MP4 that is shown for one unit at least, and False: it loses no style.

    One of no length that is the last would begin where its track ends, and be left out by readers.
    """
    if not packet.duration:
        packet.duration = 1
    return packet, False


def _escaped(text: bytes) -> bytes:
    return text.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;")


def _whole(text: bytes) -> bytes:
    """``text`` without blank lines, where WebVTT's texts end."""
    text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return _BLANK_LINES.sub(b"\n", text).strip(b"\n")


def _with(packet: "Packet[Any]", text: bytes) -> "Packet[Any]":
    """A packet like ``packet`` with another ``text``, and nothing beside it."""
    made: Packet[Any] = Packet(text)
    made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
    made.time_base = packet.time_base
    return made


@dataclass(slots=True)
class OneAtATime:
    """Joins texts that are shown together, for mov_text, where a text lasts until the next begins.

    What two of them say at the same time becomes a text of its own, of both, line under line. Each
    is held back until the next one begins.
    """

    _shown: "list[tuple[int, int, Packet[Any]]]" = field(default_factory=list)  # start, end, text
    _at: int = 0  # up to where all is handed out

    def add(self, packet: "Packet[Any]") -> "Iterator[Packet[Any]]":
        """Take the next plain text; what is shown up to its start is handed out."""
        if packet.pts is None:
            yield packet
            return
        yield from self._until(packet.pts)
        self._at = max(self._at, packet.pts)
        end = packet.pts + (packet.duration or 0)
        self._shown.append((packet.pts, max(end, self._at + 1), packet))

    def finish(self) -> "Iterator[Packet[Any]]":
        """What is still held."""
        yield from self._until(None)

    def _until(self, stop: int | None) -> "Iterator[Packet[Any]]":
        while self._shown and (stop is None or self._at < stop):
            ends = [end for _, end, _ in self._shown]
            end = min(ends) if stop is None else min(stop, *ends)
            text = b"\n".join(bytes(packet) for _, _, packet in self._shown)
            made = _with(self._shown[0][2], text)
            made.pts = made.dts = self._at
            made.duration = end - self._at
            yield made
            self._at = end
            self._shown = [one for one in self._shown if one[1] > end]
