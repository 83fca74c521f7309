"""One stream beside the picture: its packets, shifted, repaired, re-encoded where needed."""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.rational import AVRational
from av.stream import Stream

from vsr.encoding.streams import codec_of
from vsr.ffmpeg import fraction
from vsr.sinks.sound import SoundEncoder

__all__ = ["Track"]

_NOTICED = Fraction(1, 50)
"""Seconds without sound from which they are a gap: times are rounded, to milliseconds or frames."""


@dataclass(slots=True, kw_only=True)
class Track:
    """A stream beside the picture: where its packets go and what its clock has shown so far."""

    name: str
    output: Stream
    offset: int
    """Subtracted from timestamps, in the source stream's time base."""
    earliest: int
    """Packets that start before this are cut, in the source stream's time base."""
    gap: int
    """Packets of this many bytes or fewer mean "no subtitle now"; they are not copied."""
    marks: tuple[bytes, ...]
    """What packets begin with, one of these; empty if that is not known."""
    timeless: bool
    """Cover art: one packet, shown all the time."""
    strict: bool
    """The muxer wants every dts above the last, not only at or above it."""
    sound: SoundEncoder | None = None
    """What encodes the packets anew; None where they are copied."""
    base: AVRational | None = None
    """Of the clock below, where it is not the output's: sound is decoded with its own."""
    silence: bytes = b""
    """A sample of all channels that nobody hears, for containers that count samples and have no
    gaps; empty where a gap stays one."""
    filter: BitStreamFilterContext | None = None
    converted: bool = False
    """Subtitles of one container's form in another's, as plain text; see :func:`_as_plain_text`."""
    unstyled: int = 0
    """Subtitles that have lost italics, colours or places by that."""
    dateless: "list[Packet[Any]]" = field(default_factory=list)
    """The first packets, while none has a dts."""
    jump: int = 0
    """Added since the source's clock fell back, in the clock's time base, as what follows."""
    next_dts: int | None = None
    """Lowest dts that the muxer takes."""
    end: int = 0
    """Where the last packet ended."""
    repaired: int = 0
    cut: int = 0
    hidden: int = 0
    """Of those that were cut: what the input says not to play, as an edit list does."""
    unheard: Fraction = Fraction(0)
    """Seconds of the others."""
    written: int = 0
    foreign: int = 0
    """Packets that begin otherwise, as those of another codec."""

    def write(self, container: OutputContainer, packet: "Packet[Any]") -> None:
        """Shift, filter, repair and mux one packet of the source."""
        if packet.size <= self.gap or not self._shift(packet):
            return
        self.written += 1
        self.foreign += bool(self.marks) and not bytes(memoryview(packet)[:2]).startswith(
            self.marks
        )
        if self.next_dts is None and packet.dts is None and self.output.type == "video":
            self.dateless.append(packet)
            return
        if self.dateless:
            self._date(packet)
            for earlier in self.dateless:
                self._mux(container, earlier)
            self.dateless.clear()
        self._mux(container, packet)

    def _mux(self, container: OutputContainer, packet: "Packet[Any]") -> None:
        if self.converted:
            packet, styled = _as_plain_text(packet, codec_of(packet.stream))
            self.unstyled += styled
        base = packet.time_base
        for one in self.filter.filter(packet) if self.filter else [packet]:
            one.time_base = base  # filters forget it
            one.rescale_ts(self.base or self.output.time_base)
            end = None if self.next_dts is None else self.end
            self._repair(one)
            if self.silence and end is not None:
                self._fill(container, end, one.dts or 0)
            if self.sound is not None:
                container.mux(list(self.sound.encode(one)))
            else:
                one.stream = self.output
                container.mux_one(one)

    def _date(self, first: "Packet[Any]") -> None:
        """Give packets without a dts one each, ahead of that of the ``first`` that has one.

        Matroska has no dts. FFmpeg makes them up from the times of B-frames, but for as many as
        the decoder holds back.
        """
        assert first.dts is not None
        shown = sorted(p.pts for p in (*self.dateless, first) if p.pts is not None)
        step = min((b - a for a, b in pairwise(shown)), default=1)
        for ahead, packet in enumerate(reversed(self.dateless), 1):
            packet.dts = first.dts - ahead * step

    def finish(self, container: OutputContainer) -> None:
        """Write what is still held."""
        for packet in self.dateless:
            self._mux(container, packet)
        if self.sound is not None:
            container.mux(list(self.sound.finish()))

    def _shift(self, packet: "Packet[Any]") -> bool:
        """Count from the start of the output; False if the packet lies before it."""
        if self.timeless:
            packet.pts = packet.dts = 0
            return True
        if packet.dts is not None:
            packet.dts -= self.offset
        if packet.pts is not None:
            packet.pts -= self.offset
        start = packet.pts if packet.pts is not None else packet.dts
        if start is None or start >= self.earliest:
            return True
        end = start + (packet.duration or 0)
        if self.output.type == "subtitle" and end > 0:  # already shown when the output starts
            packet.pts = packet.dts = 0
            packet.duration = end
            return True
        self.cut += 1
        if packet.is_discard:
            self.hidden += 1
        else:
            self.unheard += (packet.duration or 0) * fraction(packet.time_base)
        return False

    def _fill(self, container: OutputContainer, begin: int, end: int) -> None:
        """Write silence from ``begin`` up to ``end``, unless that is a matter of rounding."""
        base = fraction(self.output.time_base)
        if (end - begin) * base < _NOTICED:
            return
        step = max(1, round(1 / base))  # a second at a time
        for start in range(begin, end, step):
            duration = min(step, end - start)
            samples = round(duration * base * self.output.sample_rate)  # type: ignore[attr-defined]
            packet: Packet[Any] = Packet(self.silence * samples)
            packet.pts = packet.dts = start
            packet.duration, packet.time_base = duration, self.output.time_base
            packet.stream = self.output
            container.mux_one(packet)

    def _repair(self, packet: "Packet[Any]") -> None:
        """Make the dts rise as the muxer demands.

        Where the clock falls back by more than half a second, everything after continues where the
        last packet ended; smaller stumbles are levelled out one by one. So does a packet without
        any time.
        """
        found = packet.dts if packet.dts is not None else packet.pts
        dts = self.end if found is None else found + self.jump
        if self.next_dts is not None and dts < self.next_dts:
            fall = (self.next_dts - dts) * fraction(self.base or self.output.time_base)
            if fall > Fraction(1, 2) and self.output.type != "subtitle":
                goes_on = max(self.end, self.next_dts)
                self.jump += goes_on - dts
                dts = goes_on
            dts = max(dts, self.next_dts)
        self.repaired += found is None or abs(dts - found) > 1  # one tick is rounding
        pts = dts if packet.pts is None else packet.pts + self.jump
        packet.pts, packet.dts = max(pts, dts), dts
        self.next_dts = dts + self.strict
        self.end = dts + (packet.duration or 0)


_STYLE = re.compile(rb"</?(?:[ibus]|font)\b[^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)
"""What SubRip says of style: HTML's tags, and Advanced SubStation's ``{\\an8}``."""


def _as_plain_text(packet: "Packet[Any]", codec: str) -> tuple["Packet[Any]", bool]:
    """A subtitle without its style, and whether it had any.

    A player shows SubRip's tags as they stand where it expects plain text. In mov_text, style lies
    behind the text, whose length comes first, and stays behind when that is unwrapped.
    """
    data = bytes(packet)
    if codec == "mov_text":
        return packet, len(data) > 2 + int.from_bytes(data[:2], "big")
    text = _STYLE.sub(b"", data)
    if text == data:
        return packet, False
    plain: Packet[Any] = Packet(text)
    plain.pts, plain.dts, plain.duration = packet.pts, packet.dts, packet.duration
    plain.time_base = packet.time_base
    return plain, True
