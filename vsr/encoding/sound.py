"""Sound that a container cannot hold as it is: what it is encoded as instead, and by what encoder.

Sound is copied wherever that can be. Else it is better heard anew than not at all: without loss
where the container has such a codec that players know, which WebM and MPEG-TS have not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.format import AudioFormat
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer

__all__ = ["SoundCodec", "add_sound", "known_layout", "lost_layout", "sound_codecs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundCodec:
    """What sound is encoded as."""

    encoder: str
    """FFmpeg's name."""
    layout: str
    """FFmpeg's name of what its channels are."""
    bit_rate: int | None = None
    """Bits a second; None where nothing is lost beyond 24 bits."""


_ENCODERS = {
    "matroska": "flac", "nut": "flac", "mp4": "alac", "mov": "alac", "avi": "pcm_s24le",
    "webm": "libopus", "mpegts": "aac",
}  # fmt: skip
_CHANNEL_RATES = {"libopus": 96_000, "aac": 128_000}
"""Bits a second for each channel, of those that lose something."""
_CHANNELS_ONLY = ("matroska", "nut")
"""Containers that say of PCM how many channels it has, and not which."""
_LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
"""What one to eight channels are, if nothing says it or an encoder has not their own order."""


def known_layout(layout: AudioLayout) -> str | None:
    """FFmpeg's name of ``layout``; where that is only a number of channels, their usual layout.

    Returns:
        None: there is no usual one.
    """
    channels = layout.nb_channels
    if layout.name != f"{channels} channels":
        return layout.name
    return _LAYOUTS[channels - 1] if 0 < channels <= len(_LAYOUTS) else None


def lost_layout(muxer: str, source: AudioStream, codec: SoundCodec | None) -> str | None:
    """FFmpeg's name of what the channels of ``source`` are, if the output does not say it.

    Args:
        muxer: FFmpeg's name of the output's container.
        source: sound.
        codec: what it is encoded as; None if it is copied.
    """
    layout = source.codec_context.layout
    if layout.name in (f"{layout.nb_channels} channels", *_LAYOUTS[: layout.nb_channels][-1:]):
        return None
    if codec is not None:
        return None if codec.layout == layout.name else layout.name
    plain = source.codec_context.codec.canonical_name.startswith("pcm_")
    return layout.name if plain and muxer in _CHANNELS_ONLY else None


def sound_codecs(muxer: str, source: AudioStream, *, web: bool = False) -> Iterator[SoundCodec]:
    """What FFmpeg's ``muxer`` may get instead of ``source``, which it cannot hold, best first.

    Args:
        muxer: FFmpeg's name of the output's container.
        source: sound.
        web: browsers are to play it, not only the container to hold it.
    """
    context = source.codec_context
    if muxer not in _ENCODERS or context is None or not context.layout.nb_channels:
        return
    encoder, channels = _ENCODERS[muxer], context.layout.nb_channels
    if web and encoder != "libopus":
        encoder = "aac"
    rate = _CHANNEL_RATES[encoder] * channels if encoder in _CHANNEL_RATES else None
    for layout in (known_layout(context.layout), *_LAYOUTS[channels - 1 : channels]):
        if layout is not None:
            yield SoundCodec(encoder=encoder, layout=layout, bit_rate=rate)


def add_sound(
    container: OutputContainer, source: AudioStream, codec: SoundCodec, *, bitexact: bool = False
) -> AudioStream:
    """Add a stream that ``source`` is to be encoded into, as like it as ``codec`` allows.

    Args:
        container: where to add the stream.
        source: sound.
        codec: what it is encoded as.
        bitexact: whether the encoder leaves out its version.

    Raises:
        ValueError: there is no such encoder or layout, or no decoder for ``source``.
    """
    found = source.codec_context
    if not found.is_decoder or not found.sample_rate:
        raise ValueError(f"stream {source.index} cannot be decoded")
    encoder = av.Codec(codec.encoder, "w")
    rates = encoder.audio_rates or [found.sample_rate]
    rate = min((r for r in rates if r >= found.sample_rate), default=max(rates))
    stream = container.add_stream(codec.encoder, rate=rate, layout=codec.layout)
    assert isinstance(stream, AudioStream)
    context = stream.codec_context
    context.format = _sample_format(found.format, [f.name for f in encoder.audio_formats or ()])
    if codec.bit_rate is not None:
        context.bit_rate = codec.bit_rate
    if bitexact:
        context.flags |= Flags.bitexact
    stream.time_base = context.time_base = Fraction(1, rate)
    return stream


def _sample_format(source: AudioFormat, offered: list[str]) -> str:
    """Of those ``offered``: 16 bits for what has no more, else all bits that there are."""
    wanted = ("s16", "s16p") if source.bytes <= 2 else ("s32", "s32p", "flt", "fltp")
    return next((name for name in wanted if name in offered), offered[0])
