"""Sound decoded and encoded anew, for containers that cannot hold it as it is."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream

from vsr.encoding.streams import codec_of
from vsr.ffmpeg import fraction

__all__ = ["SoundEncoder", "silent_sample"]

_SILENT = {"pcm_u8": 0x80, "pcm_alaw": 0xD5, "pcm_mulaw": 0xFF}
"""Bytes of samples without sound, where they are not 0."""


def silent_sample(stream: Stream) -> bytes:
    """A sample of all channels of PCM without sound; empty for all else."""
    codec = codec_of(stream)
    if not isinstance(stream, AudioStream) or not codec.startswith("pcm_"):
        return b""
    bits = "".join(character for character in codec if character.isdigit()) or "8"
    count = int(bits) // 8 * stream.codec_context.layout.nb_channels
    return bytes([_SILENT.get(codec, 0)]) * count


class SoundEncoder:
    """Makes packets of one codec of packets of another, at the times that those have.

    Gaps become silence and what overlaps is cut, as FFmpeg's ``aresample=async=1`` does: encoded
    sound has no gaps.

    Args:
        source: the stream whose packets come.
        output: the stream, of :func:`vsr.encoding.sound.add_sound`, that they go to.

    Attributes:
        time_base: of the packets that come.
        damaged: packets that could not be decoded.
        heard: seconds of sound that were decoded.
        silent: seconds of silence in its gaps.
    """

    def __init__(self, source: AudioStream, output: AudioStream) -> None:
        self.time_base = source.time_base
        self.damaged = 0
        self.heard = self.silent = Fraction(0)
        self._decoder = source.codec_context
        self._output = output
        self._encoder = output.codec_context
        self._resampler: AudioResampler | None = None
        self._shape: tuple[object, ...] = ()
        self._gapless = _make_gapless(self._encoder)
        self._end = 0
        self._reached: int | None = None

    def encode(self, packet: "Packet[Any]") -> "Iterator[Packet[Any]]":
        """Decode a packet and encode what is complete by then."""
        yield from self._encode(self._decode(packet))

    def finish(self) -> "Iterator[Packet[Any]]":
        """What is still held on the way; the last call."""
        yield from self._encode(self._decode(None))
        yield from self._encode_even(self._flush_resampler())
        self._gapless.push(None)
        for frame in _pull(self._gapless):
            yield from self._timed(self._encoder.encode(frame))
        yield from self._timed(self._encoder.encode(None))

    def _decode(self, packet: "Packet[Any] | None") -> list[AudioFrame]:
        try:
            return self._decoder.decode(packet)
        except av.FFmpegError:
            self.damaged += 1
            return []

    def _encode(self, frames: Iterable[AudioFrame]) -> "Iterator[Packet[Any]]":
        for frame in frames:
            yield from self._encode_even(self._resample(frame))

    def _encode_even(self, frames: Iterable[AudioFrame]) -> "Iterator[Packet[Any]]":
        """Encode frames that have the encoder's format."""
        for frame in frames:
            self._count_gap(frame)
            self._gapless.push(frame)
            for whole in _pull(self._gapless):
                yield from self._timed(self._encoder.encode(whole))

    def _count_gap(self, frame: AudioFrame) -> None:
        """Count the sound in ``frame``, and the silence up to it."""
        rate, begin = self._encoder.sample_rate, frame.pts
        self.heard += Fraction(frame.samples, rate)
        if begin is None:
            begin = self._reached or 0
        if self._reached is not None:
            self.silent += Fraction(max(0, begin - self._reached), rate)
        self._reached = max(self._reached or 0, begin + frame.samples)

    def _resample(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate, frame.time_base)
        if shape != self._shape:  # a broadcast may go from stereo to 5.1 and back
            yield from self._flush_resampler()
            encoder = self._encoder
            self._resampler = AudioResampler(encoder.format, encoder.layout, encoder.sample_rate)
            self._shape = shape
        assert self._resampler is not None
        yield from self._counted(self._resampler.resample(frame))

    def _flush_resampler(self) -> Iterator[AudioFrame]:
        resampler, self._resampler = self._resampler, None
        if resampler is not None:
            yield from self._counted(resampler.resample(None))

    def _counted(self, frames: Iterable[AudioFrame | None]) -> Iterator[AudioFrame]:
        """Frames whose times count samples; what fits already, the resampler leaves as it is."""
        unit = Fraction(1, self._encoder.sample_rate)
        for frame in frames:
            if frame is not None:
                if frame.pts is not None and frame.time_base is not None:
                    frame.pts = round(frame.pts * fraction(frame.time_base) / unit)
                frame.time_base = unit
                yield frame

    def _timed(self, packets: "Iterable[Packet[Any]]") -> "Iterator[Packet[Any]]":
        """Give each packet its stream, and the last its time, which the encoder leaves out.

        FLAC ends with an empty one for the header, which not every muxer knows.
        """
        for packet in packets:
            if not packet.size:
                continue
            if packet.pts is None:
                packet.pts = packet.dts = self._end
            self._end = packet.pts + (packet.duration or 0)
            packet.stream = self._output
            yield packet


def _make_gapless(encoder: AudioCodecContext) -> Graph:
    graph = Graph()
    source = graph.add_abuffer(
        sample_rate=encoder.sample_rate, format=encoder.format, layout=encoder.layout,
        time_base=Fraction(1, encoder.sample_rate),
    )  # fmt: skip
    sink = graph.add("abuffersink")
    graph.link_nodes(source, graph.add("aresample", "async=1"), sink).configure()
    return graph


def _pull(graph: Graph) -> Iterator[AudioFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, AudioFrame)
        yield frame
