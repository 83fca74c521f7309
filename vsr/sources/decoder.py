"""Packets to pictures, going on after damage, and without losing the pictures behind it."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import cast

import av
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags, ThreadType
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.sources.beginning import Beginning
from vsr.sources.ffv1 import SliceChecker

__all__ = ["Decoder"]

logger = logging.getLogger(__name__)
_MAX_THREADS = 4
_TAIL_SHORTEST = 32
"""Packets to keep at least: more than threads and reordering can hold back."""
_TAIL_PACKETS = 512
_TAIL_BYTES = 64 << 20
_DEEP = ("h264", "hevc")
"""Codecs whose decoders may hold back more than one packet to put pictures in order."""


class Decoder:
    """Decodes one video stream with threads, tolerating packets that are damaged.

    When a threaded decoder is emptied at the end of the stream, PyAV stops at the first error and
    there is no way to ask for the frames behind it. The last packets, from a key frame on, are
    therefore kept, and if frames are short at the end, these packets are decoded once more without
    threads and the rest is taken from there.

    Args:
        stream: the stream.
        context: its decoder, which must not be open yet.
        threads: threads to use; None means one per processor, up to 4.
        reopen: gives a fresh codec context for the same stream.

    Attributes:
        codec: FFmpeg's name of the codec.
        errors: packets that could not be decoded.
        beginning: what the first packets led to.
    """

    beginning: Beginning

    def __init__(
        self, stream: VideoStream, context: VideoCodecContext, threads: int | None,
        reopen: Callable[[], VideoCodecContext],
    ) -> None:  # fmt: skip
        self.errors = 0
        self._stream, self._context = stream, context
        self._context.flags |= Flags.copy_opaque  # frames say which packet they come from
        self._context.thread_type = ThreadType.AUTO
        self._context.thread_count = threads or min(_MAX_THREADS, os.cpu_count() or 1)
        self._reopen = reopen
        # Asked before the first packet: a context that could not be opened has lost its codec.
        self.codec = str(self._context.codec.canonical_name)
        self._checker = SliceChecker() if self.codec == "ffv1" else None
        self.reset()

    def reset(self) -> None:
        """Forget everything about the packets so far, after a seek."""
        self.errors = 0
        self.beginning = Beginning(self.codec)
        self._sent = self._received = self._kept = 0
        self._splitter = self._new_splitter()
        # Of a picture's packet it says that it was cut short, of a transport stream's often only
        # that another recording begins behind it.
        self._flags_tell = self._stream.container.format.name != "mpegts"
        self._last: int | None = None
        self._damaged: deque[int] = deque(maxlen=64)
        self._tail: deque[Packet[Stream]] = deque()
        self._tail_bytes = 0
        self._keys: deque[int] = deque()  # numbers of the key frames' packets in the tail

    def decode(self, packet: Packet[Stream]) -> Iterator[tuple[VideoFrame, bool]]:
        """Frames that ``packet`` brings out, each with whether it is damaged.

        An empty packet brings out all that is left.
        """
        if packet.size == 0 and packet.dts is None:
            yield from self._drain(packet)
            return
        self._sent += 1
        for part in self._split(packet):
            self._remember(part)
            for frame in self._try(self._context, part):
                yield self._hand_out(frame)

    def is_key(self, frame: VideoFrame) -> bool:
        """Whether ``frame``, one of the latest, can be decoded alone; libvpx does not say."""
        return frame.key_frame or _origin(frame) in self._keys

    def held_since(self, frame: VideoFrame) -> int | None:
        """Decoding timestamp of the packet that ``frame``, one of the latest, is coded in.

        ``frame.dts`` is that of the packet that went in when the frame came out. If there are more
        between the two than the codec reorders, these gave no pictures: they need others, from
        which the file was cut. Then it is that of the last one of them. (How many H.264 reorders,
        PyAV does not say: there they count as held.)
        """
        if (origin := _origin(frame)) is None:
            return None
        index = origin - (self._kept - len(self._tail))
        if not 0 <= index < len(self._tail):
            return None
        held = [packet.dts for packet in islice(self._tail, index, None)]
        if self.codec in _DEEP or frame.dts not in held:
            return held[0]
        return held[max(0, held.index(frame.dts) - 1)]

    def close(self) -> None:
        """Stop the decoder's threads.

        The interpreter lock is released here, but not where the codec context is freed; a worker
        that wanted to log would wait for the lock while being waited for.
        """
        if self._context.is_open:
            self._context.flush_buffers()

    def __del__(self) -> None:
        """Stop the threads of what nobody has closed, before the codec context is freed."""
        if hasattr(self, "_context"):
            self.close()

    def _drain(self, flush: Packet[Stream]) -> Iterator[tuple[VideoFrame, bool]]:
        errors = self.errors
        for frame in self._try(self._context, flush):
            yield self._hand_out(frame)
        # Errors seen so far do not explain a shortage: they are not one for each frame.
        if self._received < self._sent and self._context.thread_count > 1:
            self.errors = errors
            yield from self._decode_tail(flush)
            # An error of the first pass may have been met again; each cost one frame at least.
            self.errors = max(errors, min(self.errors, self._sent - self._received))

    def _decode_tail(self, flush: Packet[Stream]) -> Iterator[tuple[VideoFrame, bool]]:
        context = self._reopen()
        context.thread_count = 1
        context.flags |= Flags.copy_opaque
        passed, errors = self._received == 0, self.errors
        for packet in [*self._tail, flush]:
            for frame in self._try(context, packet):
                if passed:
                    yield self._hand_out(frame)
                passed = passed or _origin(frame) == self._last
            if not passed:
                self.errors = errors  # those were counted the first time

    def _try(self, context: VideoCodecContext, packet: Packet[Stream] | None) -> list[VideoFrame]:
        try:
            return context.decode(packet)
        except av.error.BlockingIOError:
            # A packet before failed while this decoder still held another, and PyAV never asks it
            # for that one's frame: it would refuse everything from here on.
            rescued = self._try(context, None)
            context.flush_buffers()
            return rescued + (self._try(context, packet) if packet is not None else [])
        except (av.FFmpegError, ValueError) as error:  # ValueError: it could not be opened before
            self.errors += 1
            logger.debug("packet at dts %s: %s", packet and packet.dts, error)
            return []

    def _split(self, packet: Packet[Stream]) -> list[Packet[Stream]]:
        """The pictures in a packet; more than one only in VP9.

        An error in one of several would leave the decoder in the state described in ``_try``.
        """
        if self._splitter is None:
            return [packet]
        try:
            parts = self._splitter.filter(packet)
        except av.FFmpegError:
            return [packet]
        for part in parts:
            part.time_base = packet.time_base
        return parts

    def _hand_out(self, frame: VideoFrame) -> tuple[VideoFrame, bool]:
        self._received += 1
        self._last = _origin(frame)
        self.beginning.receive(self._last, self.errors)
        return frame, frame.is_corrupt or _origin(frame) in self._damaged

    def _new_splitter(self) -> BitStreamFilterContext | None:
        if self._context.codec.name != "vp9":  # libvpx takes them apart itself
            return None
        return BitStreamFilterContext("vp9_superframe_split", self._stream)

    def _remember(self, packet: Packet[Stream]) -> None:
        packet.opaque = self._kept
        self.beginning.send(packet, self._kept)
        is_cut = self._flags_tell and packet.is_corrupt
        if is_cut or (self._checker is not None and self._checker.is_damaged(bytes(packet))):
            self._damaged.append(self._kept)
        if packet.is_keyframe:
            self._keys.append(self._kept)
        self._tail.append(packet)
        self._tail_bytes += packet.size
        self._kept += 1
        while len(self._keys) > 1 and self._kept - self._keys[1] >= _TAIL_SHORTEST:
            self._keys.popleft()
            self._drop_tail(until=self._keys[0])
        while len(self._tail) > _TAIL_PACKETS or self._tail_bytes > _TAIL_BYTES:
            self._drop_tail(until=self._kept - len(self._tail) + 1)

    def _drop_tail(self, *, until: int) -> None:
        while self._kept - len(self._tail) < until:
            self._tail_bytes -= self._tail.popleft().size


def _origin(frame: VideoFrame) -> int | None:
    """The number of the packet that ``frame`` comes from; its time may be missing."""
    return cast("int | None", frame.opaque)
