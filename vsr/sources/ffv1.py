"""Slice checksums of FFV1, which FFmpeg's decoder verifies but reports nowhere but in its log.

RFC 9043, section 4.9: in versions 3 and later each slice ends with its size (3 bytes, big endian,
these trailing bytes not counted), an error status (1 byte) and a parity (4 bytes) that makes the
CRC-32 of the whole slice zero. Slices are found from the end of the packet.
"""

from vsr.crc import crc32

__all__ = ["SliceChecker"]

_TRAILER = 8


class SliceChecker:
    """Tells which packets of an FFV1 stream are damaged.

    A stream without checksums is recognised by not one slice of its first packets matching, and
    nothing is claimed about it.
    """

    _PATIENCE = 8

    def __init__(self) -> None:
        self._has_checksums = False
        self._tried = 0

    def is_damaged(self, packet: bytes) -> bool:
        """Whether a slice of ``packet`` contradicts its checksum."""
        if not self._has_checksums and self._tried >= self._PATIENCE:
            return False
        self._tried += 1
        slices = _split(packet)
        matching = sum(crc32(part) == 0 for part in slices or ())
        self._has_checksums = self._has_checksums or matching > 0
        return self._has_checksums and (slices is None or matching < len(slices))


def _split(packet: bytes) -> list[bytes] | None:
    """The slices, last first; None if the sizes do not add up."""
    slices, end = [], len(packet)
    while end > 0:
        if end < _TRAILER:
            return None
        size = int.from_bytes(packet[end - 8 : end - 5], "big") + _TRAILER
        if size > end:
            return None
        slices.append(packet[end - size : end])
        end -= size
    return slices
