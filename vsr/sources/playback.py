"""One pass over a file or a pipe: packets become frames, each with a sound timestamp."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from collections.abc import Iterator
from fractions import Fraction

from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vsr.config import InputConfig
from vsr.ffmpeg import known_fraction
from vsr.sources.decoder import Decoder
from vsr.sources.demuxer import Demuxer
from vsr.sources.describe import container_start, has_only_decoding_times
from vsr.sources.lookahead import Lookahead, TimedFrame, with_next
from vsr.sources.pace import choose_pace
from vsr.sources.relay import PacketRelay
from vsr.sources.timestamps import DecodingClock, Timeline

__all__ = ["Playback"]


class Playback:
    """Decodes the video that a demuxer reads, and hands the other streams' packets to a relay.

    It goes on from where it is; :meth:`land` and :meth:`reopen` move it. Where to is decided in
    :mod:`vsr.sources.seeking`.

    Args:
        demuxer: the open input; closed with this.
        config: what the user knows better.
        threads: threads of the decoder; None means one per processor, up to 4.

    Attributes:
        demuxer: the same.
        pace: rate and clock of the frames.
        relay: packets of the other streams.
        timeline: what gives the frames their times; a new one wherever decoding starts anew.
    """

    timeline: Timeline

    def __init__(self, demuxer: Demuxer, config: InputConfig, threads: int | None) -> None:
        self.demuxer, self._threads = demuxer, threads
        self._lookahead = Lookahead()
        self._closed = False
        self._clock: DecodingClock | None = None
        self._is_clock_chosen = False
        self._decoder = self._new_decoder()
        try:
            self.pace = choose_pace(demuxer, config)
        except BaseException:
            self.close()
            raise
        self.relay = PacketRelay(dense={s.index for s in demuxer.container.streams.audio})
        self._restart()

    @property
    def stream(self) -> VideoStream:
        """The video stream that is decoded."""
        return self.demuxer.stream

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec."""
        return self._decoder.codec

    @property
    def errors(self) -> int:
        """Packets that the decoder refused since it started, or since they were forgotten."""
        return self._decoder.errors

    @property
    def lost_ahead(self) -> int:
        """Packets at the start of the file that led to no picture, as they need earlier ones."""
        return self._decoder.beginning.lost

    def forget_errors(self) -> None:
        """What was refused or lost so far is nobody's concern."""
        self._decoder.errors = 0
        self._decoder.beginning.forget()

    @property
    def has_waiting(self) -> bool:
        """Whether frames are decoded and not taken."""
        return bool(self._lookahead)

    def next(self) -> TimedFrame | None:
        """The next frame; None at the end of the input."""
        return self._lookahead.take(self._read)

    def peek(self, count: int, size: int) -> list[TimedFrame]:
        """Up to ``count`` of the coming frames, together about ``size`` bytes; they stay."""
        return self._lookahead.peek(self._read, count, size)

    def put_back(self, timed: TimedFrame) -> None:
        """Make the frame that was taken last the coming one again."""
        self._lookahead.appendleft(timed)

    @property
    def can_seek(self) -> bool:
        """Whether a time leads to a frame."""
        return self.demuxer.seekable and not self.pace.counted

    def land(self, position: Fraction, target: int) -> bool:
        """Seek, and look where that leads.

        Args:
            position: where to, in seconds by the file's clock.
            target: timestamp of the frame that is wanted.

        Returns:
            Whether decoding resumes at a key frame that is not behind ``target``.
        """
        self.relay.restart()
        if not self.demuxer.seek(position):
            return False
        self._restart()
        self._decoder.beginning.forget()
        if (first := self._read()) is None:
            return False
        self._lookahead.append(first)
        found = first.frame.pts is not None and not first.repaired
        return self._decoder.is_key(first.frame) and found and first.pts <= target

    def reopen(self) -> None:
        """Go back to the start of the file."""
        self.relay.restart()
        self._decoder.close()
        self.demuxer.reopen()
        self._decoder = self._new_decoder()
        self._restart()

    def serve_others(self, stopped_at: Fraction | None) -> None:
        """Read on for the other streams, after the video was stopped early.

        Args:
            stopped_at: where the video ended, in seconds and not shifted; None if at the end of
                the trim, of which the relay knows.
        """
        if stopped_at is not None:
            self.relay.stop_at(stopped_at)
        for packet in self._packets:
            if not self.relay.awaits(packet):
                break
            if not self.demuxer.is_video(packet):
                self.relay.offer(packet)

    def why_nothing(self) -> str:
        """Why there is not even a first frame, once that is known."""
        codec, errors = self.codec, self.errors
        if errors:
            return f"none of its {codec} video could be decoded ({errors} errors)"
        if self.demuxer.broken:
            return self.demuxer.broken
        if self.demuxer.container.format.name.startswith("mov,") and not self.demuxer.seekable:
            return (
                "its index stands behind the video, which is over when that is known: give it as a"
                " file, or make it with -movflags +faststart"
            )
        return f"its {codec} video stream holds no frames"

    def close(self) -> None:
        """Close the input and stop the decoder; harmless if done before."""
        if not self._closed:
            self._closed = True
            self._lookahead.clear()
            self._decoder.close()
            self.demuxer.close()

    def _new_decoder(self) -> Decoder:
        demuxer = self.demuxer
        return Decoder(self.stream, demuxer.context(), self._threads, demuxer.fresh_context)

    def _restart(self) -> None:
        self._lookahead.clear()
        self._decoder.reset()
        self.timeline = Timeline(round(1 / (self.pace.rate * self.pace.time_base)))
        if self._clock is not None:
            self._clock.begin_again()
        self._packets = self.demuxer.packets()
        self._timed = self._time()

    def _read(self) -> TimedFrame | None:
        return next(self._timed, None)

    def _time(self) -> Iterator[TimedFrame]:
        for (frame, damaged, sar), coming in with_next(self._decode()):
            following = None if coming is None else coming[0].pts
            dts = frame.dts
            if dts is None and not self.timeline.begun:  # a picture without times begins as all
                begin = container_start(self.demuxer.container) or 0
                dts = round(begin / self.pace.time_base)
            pts, repaired = self.timeline.place(frame.pts, dts, frame.duration, following)
            if frame.pts is None and not self.pace.has_times:  # nor should it have one
                repaired = False
            yield TimedFrame(frame, pts, repaired, damaged, sar)

    def _decode(self) -> Iterator[tuple[VideoFrame, bool, Fraction | None]]:
        number = 0
        for packet in self._packets:
            if not self.demuxer.is_video(packet):
                self.relay.offer(packet)
                continue
            self._choose_clock(packet)
            for frame, damaged in self._decoder.decode(packet):
                if self.pace.counted:
                    frame.pts, frame.duration = number, 1
                elif self._clock is not None:
                    since = self._decoder.held_since(frame)
                    frame.pts = self._clock.time(frame.dts, since, self.timeline.step)
                    frame.dts = frame.pts
                number += 1
                sar = known_fraction(self.stream.codec_context.sample_aspect_ratio)
                yield frame, damaged, sar

    def _choose_clock(self, packet: Packet[Stream]) -> None:
        """By the first packet of the file."""
        if not self._is_clock_chosen and has_only_decoding_times(self.demuxer.container, packet):
            self._clock = DecodingClock()
        self._is_clock_chosen = True
