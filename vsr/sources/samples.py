"""Sound of plain samples, which can be cut between any two of them."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import re
from fractions import Fraction
from math import ceil, floor

from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream

from vsr.sources.stream_choice import has_decoder

__all__ = ["SOUND_AHEAD", "cut_samples", "is_plain", "is_samples"]

SOUND_AHEAD = 1
"""Seconds ahead of where a part begins at which a packet may lie that is to be cut there."""
_PLAIN = re.compile(r"pcm_[suf](8|16|24|32|64)([bl]e)?")
"""Not those with headers of their own, as on discs, or with channels one after the other."""


def is_plain(stream: Stream) -> bool:
    """Whether ``stream`` is sound of plain samples."""
    return _sample_bytes(stream) is not None


def is_samples(packet: Packet[Stream]) -> bool:
    """Whether ``packet`` is nothing but samples, and begins at a known time."""
    return packet.pts is not None and _block(packet) is not None


def cut_samples(
    packet: Packet[Stream], first: Fraction | None, stop: Fraction | None
) -> Packet[Stream] | None:
    """What of ``packet``, which :func:`is_samples`, lies inside a part.

    Args:
        packet: sound.
        first: where the part begins, in seconds; None: not here.
        stop: where it ends; None: not here.

    Returns:
        ``packet`` itself where nothing is to be cut; None if nothing is left.
    """
    stream, block, pts = packet.stream, _block(packet), packet.pts
    assert isinstance(stream, AudioStream)
    assert block is not None
    assert pts is not None
    rate, base = stream.codec_context.sample_rate, packet.time_base
    tick = Fraction(base.num, base.den)
    begin, count = pts * tick, packet.size // block
    skipped = 0 if first is None else max(0, ceil((first - begin) * rate))
    kept = (count if stop is None else min(count, floor((stop - begin) * rate))) - skipped
    if kept <= 0:
        return None
    if kept == count:
        return packet
    cut: Packet[Stream] = Packet(bytes(packet)[skipped * block : (skipped + kept) * block])
    cut.stream, cut.time_base, cut.is_keyframe = stream, base, packet.is_keyframe
    cut.pts = cut.dts = round((begin + Fraction(skipped, rate)) / tick)
    cut.duration = round(Fraction(kept, rate) / tick)
    return cut


def _block(packet: Packet[Stream]) -> int | None:
    """Bytes of one sample of all channels, if ``packet`` consists of such."""
    block = _sample_bytes(packet.stream)
    return block if block and packet.size % block == 0 else None


def _sample_bytes(stream: Stream) -> int | None:
    """Bytes of one sample of all channels, of sound that is nothing else."""
    if not isinstance(stream, AudioStream) or not has_decoder(stream):
        return None
    if not (context := stream.codec_context).sample_rate:
        return None
    if not (match := _PLAIN.fullmatch(context.codec.canonical_name)):
        return None
    return int(match[1]) // 8 * context.layout.nb_channels
