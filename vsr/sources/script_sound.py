"""The sound of a VapourSynth script: a file of raw samples that is made while FFmpeg reads it."""

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import vapoursynth as vs  # type: ignore[import-untyped]
from av.container import InputContainer
from numpy.typing import NDArray

from vsr.errors import SourceError
from vsr.ffmpeg import listening
from vsr.sources.environment import Environment
from vsr.sources.script_errors import telling_line

__all__ = ["ScriptSound"]

_FRAME_SAMPLES = 3072
"""Of every frame of sound but the last, by VapourSynth's interface."""


class ScriptSound:
    """A sound output of a script; a :class:`vsr.sources.companion.MadeSound`.

    Args:
        node: a ``vapoursynth.AudioNode``.
        environment: where it was made.
        name: its script in a message.
    """

    def __init__(self, node: Any, environment: Environment, name: str) -> None:  # noqa: ANN401
        self.name = name
        self.length = Fraction(node.num_samples, node.sample_rate)
        self._node, self._environment = node, environment
        self._sample_bytes = _bytes_of(node)

    @property
    def size(self) -> int:
        """Bytes of all samples."""
        return int(self._node.num_samples * self.block)

    @property
    def block(self) -> int:
        """Bytes of one sample of all channels."""
        return int(self._node.num_channels * self._sample_bytes)

    def open(self) -> InputContainer:
        """The samples as a media file with one stream, from the beginning; it can be sought in."""
        node = self._node
        kind = "f" if node.sample_type == vs.FLOAT else "s"
        options = {"sample_rate": str(node.sample_rate), "ch_layout": hex(node.channel_layout)}
        with listening():
            return av.open(
                _Samples(self), "r", format=f"{kind}{8 * self._sample_bytes}le", options=options
            )

    def frame(self, number: int) -> bytes:
        """Frame ``number``, its channels' samples in turn.

        Raises:
            SourceError: it cannot be made.
        """
        try:
            with self._environment.use(), self._node.get_frame(number) as frame:
                channels = [np.asarray(frame[index]) for index in range(frame.num_channels)]
                return _packed(np.stack(channels, axis=1), self._sample_bytes)
        except vs.Error as error:
            reason = telling_line(error)
            raise SourceError(f"{self.name}: sound, frame {number}: {reason}") from None

    def close(self) -> None:
        """Let go of the node; harmless if done before."""
        self._node = None


class _Samples(io.RawIOBase):
    """What PyAV reads from."""

    def __init__(self, sound: ScriptSound) -> None:
        self._sound, self._position = sound, 0
        self._number, self._frame = -1, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._sound.size}
        self._position = max(0, origin[whence] + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        parts, end = [], self._sound.size
        if size >= 0:
            end = min(end, self._position + size)
        while self._position < end:
            number, begin = divmod(self._position, _FRAME_SAMPLES * self._sound.block)
            if number != self._number:
                self._number, self._frame = number, self._sound.frame(number)
            parts.append(self._frame[begin : begin + end - self._position])
            self._position += len(parts[-1])
        return b"".join(parts)


def _bytes_of(node: Any) -> int:  # noqa: ANN401
    """Bytes that FFmpeg's format takes for a sample; 24 bits lie in 32 in VapourSynth alone."""
    whole = int(node.bytes_per_sample)
    return 3 if node.sample_type == vs.INTEGER and 16 < node.bits_per_sample <= 24 else whole


def _packed(samples: NDArray[Any], size: int) -> bytes:
    """(samples, channels) as little-endian bytes, the upper ``size`` of each sample."""
    little = samples.astype(samples.dtype.newbyteorder("<"), copy=False)
    octets = little[..., None].view(np.uint8)
    return octets[..., octets.shape[-1] - size :].tobytes()
