"""A sequence of pictures from what runs have finished of it."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from av.packet import Packet

from vsr.encoding import Encoding
from vsr.encoding.stills import IMAGES, Stills, find_stills
from vsr.encoding.streams import StreamSource
from vsr.errors import SinkError
from vsr.ffmpeg import explain
from vsr.frame import Frame, VideoInfo
from vsr.resume.disk import sync_folder
from vsr.resume.picture_files import PictureFiles
from vsr.resume.work import WorkFolder
from vsr.sinks.images import Staging, StillCoder, still_losses

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

    def __init__(self, encoding: Encoding, info: VideoInfo) -> None:
        self.times: list[int] = []
        """The numbers of the frames that were given to it."""
        self._coder = StillCoder(encoding, info)

    def encode(self, frame: Frame) -> "list[Packet[Any]]":
        """The pictures that are ready after ``frame``."""
        self.times.append(len(self.times))
        return self._coder.encode(frame, self.times[-1])

    def flush(self) -> "list[Packet[Any]]":
        """The pictures that are left."""
        return self._coder.flush()


class PictureJoiner:
    """Gives finished pictures their names; a :class:`vsr.resume.join.Joins`.

    Args:
        work: where the pictures are.
        files: how they are called.
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
        self, work: WorkFolder, files: PictureFiles, encoding: Encoding, info: VideoInfo,
        source: StreamSource | None, *, overwrite: bool,
    ) -> None:  # fmt: skip
        self._work, self._files = work, files
        Staging(files.stills, overwrite=overwrite, folder=files.folder)
        self.notes = still_losses(encoding, info, source)

    def join(self, *, overwrite: bool) -> Path:
        """Give the pictures their names.

        Raises:
            SinkError: a picture is damaged, or cannot be renamed; --resume goes on.
        """
        with self._errors():
            staging = Staging(self._files.stills, overwrite=overwrite, folder=self._files.folder)
            count = self._look_again()
            self._work.announce(self._files.find(0))
            left = staging.publish(count)
        if left:
            self.notes.append(f"{len(left)} pictures of an earlier run remain, from {left[0]} on")
            logger.warning("%s", self.notes[-1])
        sync_folder(self._files.stills.folder)
        return self._work.output

    def join_partial(self) -> Path:
        """Leave them in a folder whose name says that they are not all: ``out.partial``."""
        with self._errors():
            staging = Staging(self._files.stills, overwrite=True, folder=self._files.folder)
            return staging.keep_partial()

    def _look_again(self) -> int:
        """Make sure that all pictures are there, whole; returns how many."""
        number = 0
        for key in sorted(self._work.manifest.segments):
            for _, size, _ in self._work.index(self._work.manifest.segments[key]).packets:
                path = self._files.find(number)
                if not path.exists() or path.stat().st_size != size:
                    raise SinkError(f"{path}: has been altered since it was written")
                number += 1
        return number

    def _errors(self) -> AbstractContextManager[None]:
        return explain(f"{self._work.output}: cannot be written", SinkError, listen=False)
