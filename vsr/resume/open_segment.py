"""A segment that is being written: an encoder of its own, and what takes its packets."""

from collections.abc import Callable
from typing import Any

from av.packet import Packet

from vsr.errors import SinkError
from vsr.frame import Frame
from vsr.resume.feed import Anchor
from vsr.resume.job import SegmentJob
from vsr.resume.segments import Index, Provenance
from vsr.resume.work import WorkFolder
from vsr.sinks.clock import EncoderClock
from vsr.sinks.framemd5 import digest

__all__ = ["OpenSegment"]


class OpenSegment:
    """A segment from its first frame to the last; :meth:`abort` is called at the end in any case.

    Args:
        number: which it is, counted from 0.
        work: where it goes, and where it is entered when it is complete.
        job: what it is made with.
        clock: gives the frames their times.
        note: takes a line for what the encoder loses.

    Raises:
        SinkError: the work folder has disappeared.
    """

    def __init__(
        self, number: int, work: WorkFolder, job: SegmentJob, clock: EncoderClock,
        note: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._work, self._job = work, job
        self._index = Index(number=number, first=number * work.manifest.segment_frames)
        try:
            self._coder = job.tools.new_coder(clock, note)
            self._writer = job.tools.new_writer(self._index, note)
        except FileNotFoundError as error:
            raise SinkError(f"{work.path}: has disappeared") from error

    @property
    def number(self) -> int:
        """Which it is, counted from 0."""
        return self._index.number

    @property
    def frames(self) -> int:
        """How many of its frames need no more to be handed in."""
        return self._writer.frames

    def encode(self, place: int, frame: Frame, made: Provenance) -> None:
        """Encode ``frame``, the one at ``place`` of the segment, which came about as ``made`` says.

        Raises:
            FFmpegError, OSError: encoding or writing failed.
        """
        unit = frame.time_base / self._work.manifest.time_base
        self._writer.enter(place, round(frame.pts * unit), round(frame.duration * unit), made)
        if self._job.framemd5:
            md5, self._index.frame_bytes = digest(frame)
            self._index.md5.append(md5)
        self._put(self._coder.encode(frame))

    def flush(self) -> None:
        """Write what the encoder still holds; there can be no frame after that.

        Raises:
            FFmpegError, OSError: encoding or writing failed.
        """
        self._put(self._coder.flush())

    def finish(self, anchor: Anchor) -> None:
        """Complete the segment, and enter it into the manifest.

        Args:
            anchor: by what its last frame is known again.

        Raises:
            SinkError: the packets are not those of its frames.
            FFmpegError, OSError: encoding or writing failed.
        """
        self.flush()
        self._index.extradata = self._coder.extradata.hex()
        self._compare()
        self._index.timing = anchor.timing
        sha256 = self._writer.finish()
        self._work.add(self._index, size=self._writer.size, sha256=sha256, anchor=anchor.md5)

    def abort(self) -> None:
        """Drop what is not finished; harmless after :meth:`finish`."""
        self._writer.abort()

    def _put(self, packets: "list[Packet[Any]]") -> None:
        for packet in packets:
            self._writer.add(packet)

    def _compare(self) -> None:
        """Make sure that the encoder gave a packet for each frame of the decoder, and no other."""
        index = self._index
        found, wanted = sorted(packet[0] for packet in index.packets), sorted(self._coder.times)
        if found == wanted:
            return
        what = f"{len(wanted)} frames went in, {len(found)} packets came out"
        if len(found) == len(wanted):
            what = "packets came out with other times than the frames that went in"
        raise SinkError(
            f"{self._work.output}: segment {index.number} (frames {index.first} to "
            f"{index.first + len(wanted) - 1}): of {self._job.encoding.codec} {what}"
        )
