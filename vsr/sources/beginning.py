"""Packets at the start of a stream that lead to no picture, as where it begins amid a group."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from av.packet import Packet
from av.stream import Stream

__all__ = ["Beginning"]

_GROUPED = ("mpeg1video", "mpeg2video", "h264", "hevc", "vvc")
"""Codecs of which recordings begin anywhere, and each packet is a picture or a field of one."""


class Beginning:
    """Counts packets that need pictures from before the stream begins.

    Decoders drop them without a word. They are those ahead of the first key frame, and those that
    are coded behind it and shown before it. Packets that turn out to be decodable all the same do
    not count, nor do those that the container says not to show.

    Args:
        codec: FFmpeg's name of the codec.
    """

    def __init__(self, codec: str) -> None:
        self._counts = codec in _GROUPED
        self._key: int | None = None
        self._key_time: int | None = None
        self._shown_first: int | None = None
        self._earliest: int | None = None
        self._hidden: list[int] = []
        self._leading = self._refused = 0
        self._is_over = False

    def send(self, packet: Packet[Stream], number: int) -> None:
        """Note the packet ``number``, counted from 0, on its way to the decoder."""
        if not self._counts or self._is_over:
            return
        if packet.is_keyframe and self._key is not None:
            self._is_over = True
        elif packet.is_keyframe:
            self._key, self._key_time = number, packet.pts
        elif self._key is None and packet.is_discard:
            self._hidden.append(number)
        elif packet.pts is not None and self._key_time is not None and not packet.is_discard:
            self._leading += packet.pts < self._key_time

    def receive(self, number: int | None, errors: int) -> None:
        """Note a picture that came of packet ``number``.

        Args:
            number: None if it is not known.
            errors: packets that the decoder has refused so far, which are counted elsewhere.
        """
        if number is None:
            self._counts = False
        elif self._shown_first is None:
            self._shown_first = self._earliest = number
            self._refused = errors
        elif self._earliest is not None:
            self._earliest = min(self._earliest, number)

    def forget(self) -> None:
        """What there was so far is nobody's concern."""
        self._counts = False

    @property
    def lost(self) -> int:
        """Packets that led to no picture."""
        if not self._counts or self._earliest is None:
            return 0
        decodable = self._earliest if self._key is None else min(self._key, self._earliest)
        lost = decodable - sum(number < decodable for number in self._hidden)
        if self._shown_first == self._key:  # pictures come in the order in which they are shown
            lost += self._leading
        return max(0, lost - self._refused)
