"""When packets are decoded, where a film has long gaps.

Note [Decoding times close gaps up]
    An encoder that changes the order of pictures decodes packet number i when frame number i - d is
    shown. So the d packets behind a gap are decoded ahead of it, and wait for as long as it lasts.
    MP4 stores this wait with each packet in 32 bits, and readers take less: libavformat of FFmpeg 5
    drops all times of a file in which it is 2^28 ticks, 50 minutes at 90 kHz. These packets are
    therefore decoded when they would be if the gap was as long as a frame. Their distances stay, so
    decoding times still rise; and none is later than any time at which it or a later packet is
    shown, which is known a few packets later.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

from av.packet import Packet

from vsr.sinks.clock import Gap

__all__ = ["GapCloser"]


class GapCloser:
    """Moves decoding times from ahead of a gap to its end.

    See note [Decoding times close gaps up]. Packets that have nothing to do with a gap pass.

    Args:
        gaps: where they are; each is there before the packet behind it is, and is removed when it
            lies behind.
        step: from one frame to the next, in units of the packets' times.
    """

    def __init__(self, gaps: list[Gap], step: int) -> None:
        self._gaps, self._step = gaps, max(1, step)
        self._waiting: deque[Packet[Any]] = deque()

    def add(self, packet: "Packet[Any]") -> "list[Packet[Any]]":
        """The packets that are ready after ``packet``, in order."""
        self._waiting.append(packet)
        return list(self._ready(packet.dts))

    def flush(self) -> "list[Packet[Any]]":
        """All that are left."""
        return list(self._ready(None))

    def _ready(self, newest: int | None) -> "Iterator[Packet[Any]]":
        """Those of which it is known when they must be decoded at the latest.

        Args:
            newest: decoding time of the latest packet; nothing that comes is shown before it. None
                if nothing comes.
        """
        while self._waiting:
            latest = self._latest() if self._lags(self._waiting[0]) else None
            if latest is not None and newest is not None and newest < latest:
                return
            packet = self._waiting.popleft()
            if packet.dts is not None:
                self._forget_gaps(packet.dts)
                packet.dts = self._moved(packet.dts, packet.dts if latest is None else latest)
            yield packet

    def _lags(self, packet: "Packet[Any]") -> bool:
        """Whether ``packet`` is decoded ahead of a gap and shown behind it."""
        pts, dts = packet.pts, packet.dts
        if pts is None or dts is None:
            return False
        return any(dts <= gap.before and gap.after <= pts for gap in self._gaps)

    def _latest(self) -> int:
        """When the first of the waiting packets must be decoded: they follow it."""
        return min(packet.pts for packet in self._waiting if packet.pts is not None)

    def _moved(self, dts: int, latest: int) -> int:
        """``dts`` without the gaps up to ``latest``."""
        crossed = [gap for gap in self._gaps if dts <= gap.before and gap.after <= latest]
        return dts + sum(after - before - self._step for before, after in crossed)

    def _forget_gaps(self, dts: int) -> None:
        """Drop the gaps that ``dts`` lies behind, and so does all that comes."""
        while self._gaps and self._gaps[0].after <= dts:
            del self._gaps[0]
