"""Finished segments as one file: their packets, beside them the other streams of the source.

Note [The dts of a joined film]
    Each encoder counts its dts from the start of its own segment, so those of one segment would
    reach into the one before. They are made anew for the whole film: packet number i of the order
    of coding is decoded when frame number i - d is shown, where d is the largest distance that any
    frame is moved back in that order. As d is one for all, dts rise strictly, and none is above
    its pts. The first d are as far ahead of the first frame as frame d is behind it (x264 does the
    same in one go).
"""

import logging
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from av.packet import Packet

from vsr.encoding import Encoding
from vsr.encoding.streams import is_cover_art
from vsr.errors import SinkError
from vsr.ffmpeg import explain
from vsr.files import followed, sync_file, sync_folder
from vsr.frame import VideoInfo
from vsr.notes import Notes
from vsr.resume.manifest import Entry
from vsr.resume.others import OtherStreams
from vsr.resume.segments import Index, file_name, read_packets
from vsr.resume.verify import Expected, verify
from vsr.resume.work import WorkFolder
from vsr.sinks.container import MediaOutput
from vsr.sinks.destination import FileDestination
from vsr.sources import Companion

__all__ = ["Joiner", "SegmentJoiner", "decoding_times"]

logger = logging.getLogger(__name__)


def decoding_times(pts: "array[int]") -> Iterator[int]:
    """The dts of packets, in the order of coding; see Note [The dts of a joined film].

    Args:
        pts: of the packets, in that order; all different.
    """
    shown = array("q", sorted(pts))
    moved = (number - bisect_left(shown, time) for number, time in enumerate(pts))
    delay = max(moved, default=0)
    for number in range(len(pts)):
        if number >= delay:
            yield shown[number - delay]
        else:
            yield shown[number] - (shown[delay] - shown[0])


class Joiner(Protocol):
    """Makes an output of finished segments."""

    notes: Notes
    """A line for everything that is lost or repaired; complete when joined."""

    def join(self, *, overwrite: bool) -> Path:
        """Make the output, and give it its name, which is returned."""

    def join_partial(self) -> Path:
        """The same under a name that says that it is a part."""


class SegmentJoiner:
    """Makes the output of finished segments.

    The constructor writes the head of a trial file and deletes it, so that what FFmpeg refuses is
    known before the first frame.

    Args:
        work: where the segments are.
        encoding: container, codec and options.
        info: facts about the *output*.
        other_streams: opens the file that the other streams are copied from, trimmed; returns None
            if there is none.
        companions: what the run will write beside the output.

    Attributes:
        notes: a line for everything that is lost or repaired; complete when joined.

    Raises:
        SinkError: the file cannot be created, or FFmpeg refuses the combination of streams.
    """

    def __init__(
        self, work: WorkFolder, encoding: Encoding, info: VideoInfo, other_streams: OtherStreams,
        companions: Sequence[Path],
    ) -> None:  # fmt: skip
        self._work, self._encoding, self._info = work, encoding, info
        self._other_streams, self._companions = other_streams, companions
        self.notes = Notes(logger=logger)
        with self._opened(overwrite=True) as (_, output, _):
            output.abort()

    def join(self, *, overwrite: bool) -> Path:
        """Join, verify, and give the file its name, which is returned.

        Raises:
            SinkError: a segment is damaged, writing failed, or the result is not what it should be.
        """
        return self._join(overwrite=overwrite, partial=False)

    def join_partial(self) -> Path:
        """The same under a name that says that it is a part: ``out.partial.mp4``."""
        return self._join(overwrite=True, partial=True)

    def _join(self, *, overwrite: bool, partial: bool) -> Path:
        with self._opened(overwrite=overwrite) as (destination, output, others):
            expected = self._mux(output, others)
            with explain(f"{self._work.output}: cannot be written", SinkError):
                verify(destination.file, expected)
                sync_file(destination.file)
                self._work.announce(destination.file)
            path = destination.publish_partial() if partial else destination.publish()
        sync_folder(followed(path).parent)
        return path

    @contextmanager
    def _opened(
        self, *, overwrite: bool
    ) -> Iterator[tuple[FileDestination, MediaOutput, Companion | None]]:
        others = self._other_streams()
        try:
            destination = FileDestination(
                self._work.output, overwrite=overwrite, folder=self._work.path,
                companions=self._companions,
            )  # fmt: skip
            try:
                output = MediaOutput(
                    destination, self._encoding, self._info, source=others, notes=self.notes
                )
                yield destination, output, others
            except BaseException:
                destination.discard()
                raise
        finally:
            if others is not None:
                others.close()

    def _mux(self, output: MediaOutput, others: Companion | None) -> Expected:
        """Write all packets, and say what the picture's stream must be now."""
        dts = decoding_times(self._coded())
        shown, end, place = array("q"), 0, self._place(output)
        if others is not None:
            others.start()
        with explain(f"{self._work.output}: cannot be written", SinkError, listen=False):
            try:
                for entry in self._entries():
                    index = self._work.index(entry)
                    end = max(end, self._mark(output, index, shown))
                    for packet in self._packets(output, entry, index):
                        packet.dts = next(dts)
                        output.mux([packet])
                        self._mux_others(output, others, packet)
                self._finish_others(others)
            except BaseException:
                output.abort()
                raise
        output.complete([])
        return Expected(
            name=str(self._work.output), muxer=self._encoding.muxer, place=place,
            time_base=output.clock.base, pts=shown, end=end,
        )  # fmt: skip

    def _entries(self) -> list[Entry]:
        segments = self._work.manifest.segments
        return [segments[number] for number in sorted(segments)]

    def _coded(self) -> "array[int]":
        """The pts of all packets, in the order of coding."""
        pts = array("q")
        for entry in self._entries():
            pts.extend(packet[0] for packet in self._work.index(entry).packets)
        return pts

    def _mark(self, output: MediaOutput, index: Index, shown: "array[int]") -> int:
        """Tell the output's clock the times of a segment's frames; returns the latest end.

        They are added to ``shown``.
        """
        end, base = 0, self._work.manifest.time_base
        for pts, duration in zip(index.pts, index.durations, strict=True):
            time, lasting = output.clock.mark(pts, duration, base)
            shown.append(time)
            end = max(end, time + lasting)
        return end

    def _packets(self, output: MediaOutput, entry: Entry, index: Index) -> "Iterator[Packet[Any]]":
        headers = (output.encoder.context.extradata or b"").hex()
        path = self._work.path / file_name(entry.number)
        if index.extradata != headers:
            raise SinkError(f"{path}: its headers are not those of the other segments")
        return read_packets(path, index, output.clock.base, entry.sha256)

    def _mux_others(
        self, output: MediaOutput, others: Companion | None, packet: "Packet[Any]"
    ) -> None:
        if others is not None and packet.pts is not None:
            others.advance((packet.pts + (packet.duration or 0)) * output.clock.base)
            output.mux_others()

    def _finish_others(self, others: Companion | None) -> None:
        manifest = self._work.manifest
        if others is not None:
            stopped = manifest.end is None or manifest.end.stopped  # a part has no end
            others.finish(self._entries()[-1].end * manifest.time_base, stopped=stopped)

    def _place(self, output: MediaOutput) -> int:
        """How many pictures' streams precede the output's own."""
        return sum(
            stream.type == "video" and not is_cover_art(stream) for stream in output.streams_before
        )
