"""A sequence of pictures: the work folder of one, and the sequence from what is finished of it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from av.packet import Packet

from vsr.beside import without_companions
from vsr.encoding import Encoding
from vsr.encoding.stills import IMAGES, Stills, find_stills
from vsr.encoding.streams import StreamSource
from vsr.errors import DamagedSegmentError, SinkError
from vsr.ffmpeg import explain
from vsr.files import sync_folder
from vsr.frame import Frame, VideoInfo
from vsr.notes import Notes
from vsr.resume.manifest import Entry, Manifest
from vsr.resume.picture_files import (
    FOLDER,
    LOG,
    FinishedPicture,
    PictureFiles,
    PictureWriter,
    pictures_of,
)
from vsr.resume.segments import Index
from vsr.resume.work import WorkFolder
from vsr.sinks.staging import Staging
from vsr.sinks.still_coder import StillCoder, still_losses

__all__ = ["PictureCoder", "PictureJoiner", "PictureWorkFolder", "stills_of"]

logger = logging.getLogger(__name__)


def stills_of(output: Path, encoding: Encoding) -> Stills | None:
    """Where the pictures of a run go; None if it makes none, or one."""
    if encoding.muxer != IMAGES:
        return None
    stills = find_stills(output, IMAGES, encoding.codec, encoding.first_number, encoding.stems)
    return stills if stills is not None and stills.pattern is not None else None


class PictureWorkFolder(WorkFolder):
    """Finished pictures, the segments that name them, and the manifest.

    See note [Pictures are finished one by one] in :mod:`vsr.resume.picture_files`.

    Args:
        path: the folder.
        output: what is being made, in messages.
        manifest: what is finished; saved with every change.
        stills: how pictures are called, and where they go in the end.

    Attributes:
        pictures: the pictures in it.
    """

    frame_by_frame = True
    copies = 1  # pictures are renamed

    def __init__(self, path: Path, output: Path, manifest: Manifest, stills: Stills) -> None:
        super().__init__(path, output, manifest)
        self.shown_by = stills.folder / stills.file(1)
        self.pictures = PictureFiles(path, stills)

    @property
    def frames(self) -> int:
        """Finished pictures."""
        return super().frames + self.pictures.frames

    @property
    def kept(self) -> Mapping[int, Mapping[int, FinishedPicture]]:
        """Finished pictures of segments that are not finished: by segment, then by place."""
        return self.pictures.kept

    def verify(self) -> list[str]:
        """Look whether all pictures are what was written; those that are not are forgotten.

        Returns:
            A line for each that has to be made again.
        """
        return super().verify() + self._check_logs()

    def add(self, index: Index, *, size: int, sha256: str, anchor: str) -> None:
        """Enter a segment that is complete and on the disk.

        Raises:
            OSError: the manifest cannot be written.
        """
        super().add(index, size=size, sha256=sha256, anchor=anchor)
        self.pictures.forget_log(index.number)

    def _check(self, entry: Entry) -> list[str]:
        """Look at each picture of a segment; if any is not what it was, the others are kept."""
        lines = super()._check(entry)
        good, bad = self._sound(entry.number, pictures_of(self.index(entry)))
        if bad:
            self.pictures.keep(entry.number, good)
            del self.manifest.segments[entry.number]
        return lines + bad

    def _check_logs(self) -> list[str]:
        """Find the pictures of segments that are not finished."""
        lines: list[str] = []
        for path in sorted(self.path.glob(f"*.{LOG}")):
            number, count = int(path.stem), self.manifest.segment_frames
            good, bad = self._sound(number, self.pictures.read_log(path, count))
            self.pictures.keep(number, good)
            lines += bad
            if len(good) == count:
                self._enter(number)
        return lines

    def _sound(
        self, segment: int, pictures: Mapping[int, FinishedPicture]
    ) -> tuple[dict[int, FinishedPicture], list[str]]:
        """Those of ``pictures`` that are what they were, and a line for each other."""
        good, lines = {}, []
        for place, picture in sorted(pictures.items()):
            number = segment * self.manifest.segment_frames + place
            try:
                self.pictures.check(number, picture, published=self.manifest.published is not None)
                good[place] = picture
            except DamagedSegmentError as error:
                name = self.pictures.stills.file(number + 1)
                lines.append(f"picture {name} is made again: {error}")
        return good, lines

    def _enter(self, number: int) -> None:
        """Enter a segment that lacks nothing but that: the run was killed in between."""
        index = Index(number=number, first=number * self.manifest.segment_frames)
        writer = PictureWriter(self.pictures, index, uneven=lambda: None, step=0)
        sha256 = writer.finish()
        self.add(index, size=writer.size, sha256=sha256, anchor="")

    def _needed(self) -> set[str]:
        """Also of pictures, and of what names those of segments that are not finished."""
        logs = (path for path in self.path.glob(f"*.{LOG}") if path.stem.isdecimal())
        unfinished = (log for log in logs if int(log.stem) not in self.manifest.segments)
        return super()._needed() | {FOLDER, *(log.name for log in unfinished)}

    def _bytes(self, entry: Entry) -> int:
        return sum(size for _, size, _ in self.index(entry).packets)


class PictureCoder:
    """An encoder for the pictures of one segment; a :class:`vsr.resume.coding.Coder`."""

    extradata = b""

    def __init__(self, encoding: Encoding, info: VideoInfo, warn: Callable[[str], None]) -> None:
        self.times: list[int] = []
        """The numbers of the frames that were given to it."""
        self._coder = StillCoder(encoding, info, warn)

    def encode(self, frame: Frame) -> "list[Packet[Any]]":
        """The pictures that are ready after ``frame``."""
        self.times.append(len(self.times))
        return self._coder.encode(frame, self.times[-1])

    def flush(self) -> "list[Packet[Any]]":
        """The pictures that are left."""
        return self._coder.flush()


class PictureJoiner:
    """Gives finished pictures their names; a :class:`vsr.resume.join.Joiner`.

    Args:
        work: where the pictures are.
        encoding: how the pictures are encoded.
        info: facts about the *output*.
        source: whose other streams stay behind; None for none.
        overwrite: whether existing pictures may be replaced.
        companions: what the run will write beside them.

    Attributes:
        notes: a line for everything that is lost.

    Raises:
        SinkError: pictures of that name exist, or their folder cannot be written to.
    """

    def __init__(
        self, work: PictureWorkFolder, encoding: Encoding, info: VideoInfo,
        source: StreamSource | None, *, overwrite: bool, companions: Sequence[Path],
    ) -> None:  # fmt: skip
        self._work, self._files, self._companions = work, work.pictures, companions
        self._staging(overwrite=overwrite)
        self.notes = Notes(still_losses(encoding, info, source), logger=logger)

    def join(self, *, overwrite: bool) -> Path:
        """Give the pictures their names.

        Raises:
            SinkError: a picture is damaged, or cannot be renamed; --resume goes on.
        """
        with self._errors():
            staging = self._staging(overwrite=overwrite)
            count = self._look_again()
            self._work.announce(self._files.find(0))
            with without_companions(self._work.output, self._companions if overwrite else ()):
                note = staging.publish(count)
        if note is not None:
            self.notes.warn(note)
        sync_folder(self._files.stills.folder)
        return self._work.output

    def join_partial(self) -> Path:
        """Leave them in a folder whose name says that they are not all: ``out.partial``."""
        with self._errors():
            return self._staging(overwrite=True).keep_partial()

    def _staging(self, *, overwrite: bool) -> Staging:
        return Staging(
            self._work.output, self._files.stills, overwrite=overwrite, folder=self._files.folder
        )

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
