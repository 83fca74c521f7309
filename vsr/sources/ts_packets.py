"""Does an MPEG transport stream end where one of its packets does?

Its packets (ISO/IEC 13818-1, 2.4.3) have 188 bytes, of which the first is always the same; 204 with
a code that corrects errors behind it, 192 with a clock ahead of it (Blu-ray).
"""

__all__ = ["TS_TAIL", "missing_of_ts"]

TS_TAIL = 2048
"""Bytes of the end that tell."""
_SYNC = 0x47
_LAYOUTS = ((188, 0), (192, 4), (204, 0))
"""Bytes of a packet, and of what stands in it ahead of the first byte of each."""
_FEWEST = 4
"""Packets in a row that are no accident."""


def missing_of_ts(tail: bytes) -> int:
    """Bytes that the last packet lacks; 0 if it is whole, or if these are no packets.

    Args:
        tail: the last :data:`TS_TAIL` bytes of a stream; fewer if there are no more.
    """
    found = []
    for size, ahead in _LAYOUTS:
        for last in range(len(tail) - 1, max(-1, len(tail) - 1 - size), -1):
            syncs = tail[last::-size]
            if len(syncs) >= _FEWEST and all(byte == _SYNC for byte in syncs):
                found.append((size - ahead - (len(tail) - last)) % size)
    return min(found, default=0)  # another byte may be the same in all of them
