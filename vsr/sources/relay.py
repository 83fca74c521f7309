"""Packets of the other streams, on their way from the demuxer to whoever copies them."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections import deque
from fractions import Fraction
from math import ceil

from av.packet import Packet
from av.stream import Stream

from vsr.encoding.streams import is_cover_art
from vsr.sources.samples import cut_samples, is_samples

__all__ = ["PacketRelay", "packet_end", "packet_time"]

_PATIENCE = Fraction(10)
"""Seconds of file to read on for streams with gaps after the pictures have ended."""


def packet_time(packet: Packet[Stream]) -> Fraction | None:
    """Presentation time in seconds, not shifted; None if the packet has no timestamp."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    if ticks is None:
        return None
    return ticks * Fraction(packet.time_base.num, packet.time_base.den)


def packet_end(packet: Packet[Stream]) -> Fraction | None:
    """Presentation time plus duration, in seconds."""
    if (time := packet_time(packet)) is None:
        return None
    return time + (packet.duration or 0) * Fraction(packet.time_base.num, packet.time_base.den)


def _end_by(packet: Packet[Stream], stop: Fraction) -> None:
    """Shorten ``packet`` so that it is not shown beyond ``stop``, in seconds; it begins before."""
    time = packet_time(packet)
    if time is not None and packet.duration:
        base = Fraction(packet.time_base.num, packet.time_base.den)
        packet.duration = min(packet.duration, ceil((stop - time) / base))


class PacketRelay:
    """Passes on what lies inside the trim, in file order; plain samples to the very sample.

    A subtitle that is shown beyond an end that is known when it is passed on is shown up to there.

    Args:
        dense: indices of the streams that have no gaps (audio).
    """

    def __init__(self, *, dense: set[int]) -> None:
        self.packets: deque[Packet[Stream]] = deque()
        self.wanted: set[int] = set()
        self._dense = dense
        self._first: Fraction | None = None
        self._stop: Fraction | None = None
        self._hold = False
        self._held: deque[Packet[Stream]] = deque()
        self._early: list[Packet[Stream]] = []
        self._started = False
        self._past: set[int] = set()
        self._heard: set[int] = set()
        self._begin: Fraction | None = None

    def limit(
        self, *, begin: Fraction, first: Fraction | None, stop: Fraction | None, hold: bool
    ) -> None:
        """Set the trim.

        Args:
            begin: where the output begins (seconds, not shifted).
            first: packets before this time (seconds, not shifted) are dropped.
            stop: packets at or after this time are dropped.
            hold: keep packets back until :meth:`release` says how far the video has come, because
                nobody knows yet where it will stop.
        """
        self._begin, self._first, self._stop, self._hold = begin, first, stop, hold

    def early_times(self) -> list[Fraction]:
        """Times of what has been kept before :meth:`start`."""
        times = (packet_time(packet) for packet in self._early if not is_cover_art(packet.stream))
        return [time for time in times if time is not None]

    def start(self) -> None:
        """The wanted streams are known from here on: pass on what has been kept for them."""
        self._started = True
        early, self._early = self._early, []
        for packet in early:
            self.offer(packet)

    def restart(self) -> None:
        """Forget what was kept, after a seek."""
        self._early.clear()

    def offer(self, packet: Packet[Stream]) -> None:
        """Take a packet of any stream but the video's, empty ones excepted."""
        if not self._started:
            if not self._is_before(packet):  # a pipe is read up to the trim's start
                self._early.append(packet)
            return
        if packet.stream_index not in self.wanted:
            return
        if self._hold:
            self._held.append(packet)
        else:
            self._pass_on(packet)

    def release(self, until: Fraction) -> None:
        """Pass on the held packets up to the first that lies at or after ``until``."""
        while self._held:
            held = self._held[0]  # samples wait until it is known that none of them is to be cut
            time = packet_end(held) if is_samples(held) else packet_time(held)
            if time is not None and time >= until:
                return
            self._pass_on(self._held.popleft())

    def stop_at(self, stop: Fraction) -> None:
        """The video ends at ``stop``, if not earlier."""
        self._stop = stop if self._stop is None else min(stop, self._stop)

    def finish(self) -> None:
        """Pass on the rest, up to the end."""
        self._hold = False
        while self._held:
            self._pass_on(self._held.popleft())

    def awaits(self, packet: Packet[Stream]) -> bool:
        """Whether packets before the end may still follow ``packet`` in the file.

        A packet past the end settles a stream without gaps. Streams with gaps are settled when
        those without are, or when the file is ``_PATIENCE`` seconds past the end.
        """
        time = packet_time(packet)
        if not self.wanted or self._stop is None or time is None:
            return bool(self.wanted)
        if time >= self._stop:
            self._past.add(packet.stream_index)
        dense = self.wanted & self._dense
        settled = bool(dense) and dense <= self._past
        return not settled and time < self._stop + _PATIENCE

    def _pass_on(self, packet: Packet[Stream]) -> None:
        if self._is_before(packet):
            return
        time = packet_time(packet)
        ended = self._stop is not None and time is not None and time >= self._stop
        if ended and not is_cover_art(packet.stream):
            self._past.add(packet.stream_index)
            return
        if self._is_edited_out(packet):
            return
        if packet.stream.type == "subtitle" and self._stop is not None:
            _end_by(packet, self._stop)
        part = cut_samples(packet, self._begin, self._stop) if is_samples(packet) else packet
        if part is not None:
            self.packets.append(part)

    def _is_edited_out(self, packet: Packet[Stream]) -> bool:
        """Whether it is sound that MOV's edit list leaves out, sent to warm a decoder up.

        Ahead of the first part it is the encoder's delay, as a rule; samples have none.
        """
        if packet.stream.type != "audio":
            return False
        if not packet.is_discard:
            self._heard.add(packet.stream_index)
        heard = packet.stream_index in self._heard
        return packet.is_discard and (heard or is_samples(packet))

    def _is_before(self, packet: Packet[Stream]) -> bool:
        """Whether ``packet`` lies before the trim; PCM and subtitles count by their end."""
        if self._first is None or is_cover_art(packet.stream):
            return False
        reaches = packet.stream.type == "subtitle" or is_samples(packet)
        time = packet_end(packet) if reaches else packet_time(packet)
        return time is not None and time < self._first
