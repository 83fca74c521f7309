"""Segments of pictures: encoded, and put into files of their own when all are there."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from av.packet import Packet

from vsr.encoding import Encoding, encoder_time_base
from vsr.errors import SinkError
from vsr.ffmpeg import explain
from vsr.frame import Frame, VideoInfo
from vsr.resume.disk import sync_file, sync_folder
from vsr.resume.segments import file_name, read_packets
from vsr.resume.work import WorkFolder
from vsr.sinks.images import Staging, StillCoder, still_losses
from vsr.stills import IMAGES, Stills, find_stills
from vsr.streams import StreamSource

__all__ = ["PictureCoder", "PictureJoiner", "stills_of"]

logger = logging.getLogger(__name__)


def stills_of(output: Path, encoding: Encoding) -> Stills | None:
    """Where the pictures of a run go; None if it makes none, or one."""
    if encoding.muxer != IMAGES:
        return None
    stills = find_stills(output, IMAGES, encoding.codec)
    return stills if stills is not None and stills.pattern is not None else None


class PictureCoder:
    """An encoder for the pictures of one segment; a :class:`vsr.resume.coding.Coder`."""

    extradata = b""

    def __init__(self, encoding: Encoding, info: VideoInfo, warn: Callable[[str], None]) -> None:
        self.times: list[int] = []
        """The numbers of the frames."""
        self._coder = StillCoder(encoding, info)
        self._step, self._warn = 1 / info.rate, warn
        self._last: Frame | None = None

    def encode(self, frame: Frame) -> "list[Packet[Any]]":
        """The pictures that are ready after ``frame``."""
        last, self._last = self._last, frame
        if last is not None:
            off = abs((frame.pts - last.pts) * frame.time_base - self._step)
            if off > frame.time_base:
                self._warn(
                    "timestamps are lost: frames do not come evenly, and pictures hold no time"
                )
        self.times.append(len(self.times))
        return self._coder.encode(frame, self.times[-1])

    def flush(self) -> "list[Packet[Any]]":
        """The pictures that are left."""
        return self._coder.flush()


class PictureJoiner:
    """Puts the pictures of finished segments into files; a :class:`vsr.resume.join.Joins`.

    Args:
        work: where the segments are.
        encoding: how the pictures are encoded.
        info: facts about the *output*.
        source: whose other streams stay behind; None for none.
        overwrite: whether existing pictures may be replaced.

    Attributes:
        notes: a line for everything that is lost.

    Raises:
        SinkError: pictures of that name exist, or their folder cannot be written to.
    """

    def __init__(
        self, work: WorkFolder, encoding: Encoding, info: VideoInfo, source: StreamSource | None,
        *, overwrite: bool,
    ) -> None:  # fmt: skip
        stills = stills_of(work.output, encoding)
        assert stills is not None
        self._work, self._stills = work, stills
        self._base = encoder_time_base(encoding, info)
        Staging(stills, overwrite=overwrite, home=work.path).discard()
        self.notes = still_losses(encoding, info, source)

    def join(self, *, overwrite: bool) -> Path:
        """Write the pictures, and give them their names.

        Raises:
            SinkError: a segment is damaged, or writing failed.
        """
        staging = Staging(self._stills, overwrite=overwrite, home=self._work.path)
        with self._errors():
            count = self._write(staging)
            self._work.announce(staging.folder / self._stills.file(1))
            left = staging.publish(count)
        if left:
            self.notes.append(f"{len(left)} pictures of an earlier run remain, from {left[0]} on")
            logger.warning("%s", self.notes[-1])
        sync_folder(self._stills.folder)
        return self._work.output

    def join_partial(self) -> Path:
        """The same in a folder whose name says that they are not all: ``out.partial``."""
        staging = Staging(self._stills, overwrite=True, home=self._work.path)
        with self._errors():
            self._write(staging)
            return staging.keep_partial()

    def _write(self, staging: Staging) -> int:
        segments, number = self._work.manifest.segments, 0
        try:
            for entry in (segments[key] for key in sorted(segments)):
                path, index = self._work.path / file_name(entry.number), self._work.index(entry)
                for packet in read_packets(path, index, self._base, entry.sha256):
                    number += 1
                    picture = staging.folder / self._stills.file(number)
                    picture.write_bytes(packet)
                    sync_file(picture)
        except BaseException:
            staging.discard()
            raise
        return number

    def _errors(self) -> AbstractContextManager[None]:
        return explain(f"{self._work.output}: cannot be written", SinkError, listen=False)
