"""One stream beside the picture, from the source's packets to those of the output."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from vsr.encoding.streams import codec_of
from vsr.ffmpeg import fraction
from vsr.sinks.plain_text import OneAtATime
from vsr.sinks.sound import SoundEncoder
from vsr.sinks.track_times import Placement, TrackClock, fill_dts

__all__ = ["Track"]

_NOTICED = Fraction(1, 50)
"""Seconds without sound from which they are a gap: times are rounded, to milliseconds or frames."""
_MUCH_SILENCE = Fraction(1)
"""Seconds; so long are a few breaks of a broadcast, and where times are wrong, it is much more."""
_SILENT_SHARE = Fraction(1, 10)
"""Of the sound, from which silence is much."""
_STRAY = 8
"""Packets that may be damaged, rather than of another codec."""
_UNNOTICED = Fraction(1, 20)
"""Seconds; the packet in which sound sets in may begin before that."""


@dataclass(slots=True, kw_only=True)
class Track:
    """A stream beside the picture: what is done to its packets, in this order.

    They are placed in time, get a dts, another wrapping, and times that the muxer takes; gaps are
    filled where the container has none, and sound is encoded where it cannot be copied.
    """

    name: str
    output: Stream
    placement: Placement
    clock: TrackClock
    empty: int
    """Packets of this many bytes or fewer mean "no subtitle now"; they are not copied."""
    marks: tuple[bytes, ...]
    """What packets begin with, one of these; empty if that is not known."""
    silence: bytes
    """A sample of all channels that nobody hears, for containers that count samples and have no
    gaps; empty where a gap stays one."""
    rewrite: "Callable[[Packet[Any], str], tuple[Packet[Any], bool]] | None" = None
    """Takes a subtitle and the name of its codec to another's text; says if style is lost."""
    joined: OneAtATime | None = None
    """What joins texts that are shown together; None where they may be."""
    wrapping: BitStreamFilterContext | None = None
    """From one container's form of plain text to another's."""
    sound: SoundEncoder | None = None
    """What encodes the packets anew; None where they are copied."""
    _without_dts: "list[Packet[Any]]" = field(default_factory=list)  # while none has a dts
    _written: int = 0
    _foreign: int = 0  # packets that begin otherwise, as those of another codec
    _unstyled: int = 0  # subtitles that have lost italics, colours or places
    _filled: Fraction = Fraction(0)  # seconds of silence between packets that are copied
    _heard: Fraction = Fraction(0)  # seconds of these

    def write(self, container: OutputContainer, packet: "Packet[Any]") -> None:
        """Do all of that to a packet of the source, and mux what comes of it."""
        if packet.size <= self.empty or not self.placement.move(packet):
            return
        self._written += 1
        if self.marks and not bytes(memoryview(packet)[:2]).startswith(self.marks):
            self._foreign += 1
        for one in self._with_dts(packet):
            self._mux(container, one)

    def finish(self, container: OutputContainer) -> None:
        """Write what is still held."""
        for packet in self._without_dts:
            self._mux(container, packet)
        for text in self.joined.finish() if self.joined is not None else ():
            self._mux_wrapped(container, text)
        if self.sound is not None:
            container.mux(list(self.sound.finish()))

    def complaints(self, muxer: str) -> Iterator[str]:
        """What was lost or repaired on the way to a container, a line each."""
        if self.sound is not None and (damaged := self.sound.damaged):
            several = "1 packet" if damaged == 1 else f"{damaged} packets"
            yield f"{self.name}: {several} could not be decoded"
        yield from self._note_silence()
        if self._foreign > _STRAY:
            yield (
                f"{self.name}: {self._foreign} packets of {self._written} are of another codec: the"
                " sound changes in mid-stream, and players will not play both"
            )
        if repaired := self.clock.repaired:
            yield f"{self.name}: {_count(repaired, 'timestamp')} repaired"
        if self._unstyled:
            several = "1 text loses" if self._unstyled == 1 else f"{self._unstyled} texts lose"
            left = "italics, bold and underline alone" if muxer == "webm" else "plain text"
            yield f"{self.name}: {several} style, colour or place: {muxer} gets {left}"
        if self.placement.cut:
            yield f"{self.name}: {_cut(self.placement, heard=self.output.type == 'audio')}"

    def _note_silence(self) -> Iterator[str]:
        """A line if gaps have become so much silence that the times of the sound may be wrong."""
        heard, silent = self._heard, self._filled
        if self.sound is not None:
            heard, silent = self.sound.heard, self.sound.silent
        if silent > max(_MUCH_SILENCE, _SILENT_SHARE * heard):
            yield (
                f"{self.name}: its times leave gaps of {float(silent):.1f} s in all, which are"
                f" filled with silence, between {float(heard):.1f} s of sound"
            )

    def _with_dts(self, packet: "Packet[Any]") -> "Iterable[Packet[Any]]":
        """``packet``, and those that waited for a dts; nothing while it has none either."""
        if packet.dts is None and self.clock.lowest is None and self.output.type == "video":
            self._without_dts.append(packet)
            return ()
        if not self._without_dts:
            return (packet,)
        fill_dts(self._without_dts, packet)
        waited, self._without_dts = self._without_dts, []
        return (*waited, packet)

    def _mux(self, container: OutputContainer, packet: "Packet[Any]") -> None:
        if self.rewrite is not None:
            packet, styled = self.rewrite(packet, codec_of(packet.stream))
            self._unstyled += styled
        for one in [packet] if self.joined is None else self.joined.add(packet):
            self._mux_wrapped(container, one)

    def _mux_wrapped(self, container: OutputContainer, packet: "Packet[Any]") -> None:
        base = packet.time_base
        for one in self._wrapped(packet):
            begun, end = self.clock.lowest is not None, self.clock.end
            self.clock.repair(one)
            self._heard += (one.duration or 0) * fraction(base)
            if self.silence and begun:
                self._fill(container, end, one.dts or 0, fraction(base))
            if self.sound is not None:
                container.mux(list(self.sound.encode(one)))
            else:
                one.stream = self.output
                container.mux_one(one)

    def _wrapped(self, packet: "Packet[Any]") -> "Iterator[Packet[Any]]":
        """``packet`` in the form of the output's container, its times in units of the clock."""
        base = packet.time_base
        for one in [packet] if self.wrapping is None else self.wrapping.filter(packet):
            one.time_base = base  # filters forget it
            one.rescale_ts(self.output.time_base if self.sound is None else self.sound.time_base)
            yield one

    def _fill(self, container: OutputContainer, begin: int, end: int, tick: Fraction) -> None:
        """Write silence from ``begin`` up to ``end``, unless that is a matter of rounding.

        ``tick`` is what times were rounded to, in seconds.
        """
        base = fraction(self.output.time_base)
        if (gap := (end - begin) * base) < _NOTICED or gap <= tick:
            return
        self._filled += gap
        step = max(1, round(1 / base))  # a second at a time
        for start in range(begin, end, step):
            duration = min(step, end - start)
            samples = round(duration * base * self.output.sample_rate)  # type: ignore[attr-defined]
            packet: Packet[Any] = Packet(self.silence * samples)
            packet.pts = packet.dts = start
            packet.duration, packet.time_base = duration, self.output.time_base
            packet.stream = self.output
            container.mux_one(packet)


def _count(number: int, noun: str) -> str:
    return f"1 {noun} was" if number == 1 else f"{number} {noun}s were"


def _cut(placement: Placement, *, heard: bool) -> str:
    """What was cut, and whether anybody misses it."""
    gone = f"{_count(placement.cut, 'packet')} cut, ahead of the start"
    if heard and placement.unheard > _UNNOTICED:
        return f"{gone}, with {float(placement.unheard):.2f} s of sound that players play"
    hidden = ", where the input hides them: players leave them out as well"
    return gone + hidden if placement.hidden else gone
