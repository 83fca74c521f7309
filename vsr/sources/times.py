"""When the frames of a file are shown, without decoding it."""

from fractions import Fraction
from pathlib import Path

from vsr.config import InputConfig
from vsr.sources.demuxer import Demuxer
from vsr.sources.describe import has_only_decoding_times

__all__ = ["read_times"]


def read_times(path: Path, config: InputConfig) -> list[Fraction]:
    """The times of all packets of a file's picture, in seconds, in order.

    Args:
        path: the file; what it has is read to its end, 2 seconds for a gigabyte in memory.
        config: what the user knows better.

    Raises:
        SourceError: it cannot be opened or has no video.
    """
    demuxer, times = Demuxer(path, config), list[int]()
    try:
        packets = (packet for packet in demuxer.packets() if demuxer.is_video(packet))
        first, decoding = True, False
        for packet in packets:
            if first:
                first, decoding = False, has_only_decoding_times(demuxer.container, packet)
            time = packet.dts if decoding else packet.pts
            if time is not None and not packet.is_discard:
                times.append(time)
    finally:
        demuxer.close()
    return [time * demuxer.time_base for time in sorted(times)]
