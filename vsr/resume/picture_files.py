"""Finished pictures of a work folder, each a file of its own.

Note [Pictures are finished one by one]
    A sequence needs no encoder that begins anew, so what lasts is each picture: it is written under
    the name that it will have, into a folder inside the work folder, and a line of a log says when
    it is shown and what it hashes to. When all of a segment are there, the segment's file takes the
    place of the log, with the same facts of each picture and no packets. What a run that was killed
    had not entered, or half written, or what a power cut took, does not fit its hash or has none,
    and is made again. So nothing has to be flushed to the disk before it is entered; it is flushed
    every few seconds, lest much be lost.
"""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from av.packet import Packet

from vsr.encoding.stills import Stills
from vsr.errors import DamagedSegmentError
from vsr.files import sync_file, sync_folder, written_whole
from vsr.resume.disk import find_damage
from vsr.resume.segments import Index, Provenance, SegmentWriter

__all__ = ["FOLDER", "LOG", "FinishedPicture", "PictureFiles", "PictureWriter", "pictures_of"]

FOLDER = "pictures"
LOG = "log"

_SYNC_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedPicture:
    """What is known of a finished picture beside its file."""

    place: int
    """Its number in its segment, counted from 0."""
    pts: int
    """In units of the source's time base."""
    duration: int
    size: int
    """Bytes of its file."""
    sha256: str
    made: Provenance

    def line(self) -> str:
        """Its line in a log."""
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"

    @classmethod
    def parse(cls, line: str) -> "FinishedPicture":
        """What :meth:`line` wrote.

        Raises:
            ValueError, TypeError: it is something else.
        """
        values = json.loads(line)
        if not isinstance(values, dict) or set(values) != set(cls.__slots__):
            raise ValueError("it is no picture")
        numbers = [values[name] for name in ("place", "pts", "duration", "size")]
        if any(type(number) is not int for number in numbers) or values["place"] < 0:
            raise ValueError("it is no picture")
        if not isinstance(values["made"], dict):
            raise ValueError("it is no picture")  # noqa: TRY004 - as all else here
        return cls(**{**values, "made": Provenance(**values["made"])})


def pictures_of(index: Index) -> dict[int, FinishedPicture]:
    """What the index of a finished segment says of its pictures, by place."""
    rows = zip(index.pts, index.durations, index.packets, index.sha256, strict=True)
    made = {place: Provenance(repeats=True) for place in index.repeats}
    made |= {place: Provenance(fault=fault, repaired=ok) for place, fault, ok in index.incidents}
    return {
        place: FinishedPicture(
            place=place, pts=pts, duration=lasting, size=packet[1], sha256=sha256,
            made=made.get(place, Provenance()),
        )
        for place, (pts, lasting, packet, sha256) in enumerate(rows)
    }  # fmt: skip


class PictureFiles:
    """The pictures in a work folder.

    Args:
        work: the work folder.
        stills: how pictures are called, and where they go in the end.

    Attributes:
        kept: finished pictures of segments that are not finished: by segment, then by place.
    """

    def __init__(self, work: Path, stills: Stills) -> None:
        self.folder = work / FOLDER
        self.stills = stills
        self.kept: dict[int, dict[int, FinishedPicture]] = {}
        self._work = work

    @property
    def frames(self) -> int:
        """How many pictures are finished of segments that are not."""
        return sum(len(pictures) for pictures in self.kept.values())

    def find(self, number: int) -> Path:
        """Where picture ``number``, counted from 0, is: it may have got its name already."""
        name = self.stills.file(number + 1)
        inside = self.folder / name
        return inside if inside.exists() else self.stills.folder / name

    def check(self, number: int, picture: FinishedPicture, *, published: bool) -> None:
        """Make sure that picture ``number`` of the film is what was written.

        Raises:
            DamagedSegmentError: it is missing, or something else.
        """
        path = self.find(number) if published else self.folder / self.stills.file(number + 1)
        if damage := find_damage(path, picture.size, picture.sha256):
            raise DamagedSegmentError(f"it {damage}")

    def log(self, segment: int) -> Path:
        """The file with a line for each finished picture of a segment that is not finished."""
        return self._work / f"{segment:06d}.{LOG}"

    def read_log(self, path: Path, count: int) -> dict[int, FinishedPicture]:
        """The pictures that a log names; a line that is cut short is nothing finished.

        Args:
            path: the log.
            count: how many pictures a segment has.
        """
        found = {}
        for line in path.read_text("utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError, RecursionError):
                picture = FinishedPicture.parse(line)
                if picture.place < count:
                    found[picture.place] = picture
        return found

    def keep(self, segment: int, pictures: Mapping[int, FinishedPicture]) -> None:
        """Write the log of a segment anew: these of its pictures are finished.

        Raises:
            OSError: it cannot be written; the old one stays.
        """
        with written_whole(self.log(segment), durable=True) as part:
            part.write_text("".join(picture.line() for picture in pictures.values()), "utf-8")
        self.kept[segment] = dict(pictures)

    def forget_log(self, segment: int) -> None:
        """The segment is finished, and its own file says what the log said."""
        self.kept.pop(segment, None)
        self.log(segment).unlink(missing_ok=True)


class PictureWriter:
    """Writes the pictures of one segment; a :class:`vsr.resume.segments.Writer`.

    Args:
        files: where pictures go.
        index: number and first frame of the segment.
        uneven: told once if frames do not come evenly.
        step: how far apart they should come, in units of the source's time base.

    Raises:
        OSError: a file cannot be created.
    """

    def __init__(
        self, files: PictureFiles, index: Index, *, uneven: Callable[[], None], step: float
    ) -> None:
        self.index = index
        self.size = 0
        self._files, self._uneven, self._step = files, uneven, step
        self._done = files.kept.setdefault(index.number, {})
        self._entered: deque[tuple[int, int, int, Provenance]] = deque()
        self._log = files.log(index.number).open("a", encoding="utf-8")
        self._unsynced: list[Path] = []
        self._synced = time.monotonic()

    @property
    def frames(self) -> int:
        """How many pictures are finished, or with the encoder."""
        return len(self._done) + len(self._entered)

    def enter(self, place: int, pts: int, duration: int, made: Provenance) -> None:
        """Picture ``place`` of the segment is given to the encoder."""
        self._entered.append((place, pts, duration, made))

    def add(self, packet: "Packet[Any]") -> None:
        """Write the next picture that the encoder has finished.

        Raises:
            OSError: writing failed, e.g. the disk is full.
        """
        assert packet.pts is not None
        data = bytes(packet)
        place, pts, duration, made = self._entered.popleft()
        path = self._files.folder / self._files.stills.file(self.index.first + place + 1)
        path.write_bytes(data)
        picture = FinishedPicture(
            place=place, pts=pts, duration=duration, size=len(data),
            sha256=hashlib.sha256(data).hexdigest(), made=made,
        )  # fmt: skip
        self._log.write(picture.line())
        self._log.flush()
        self._done[place] = picture
        self.index.packets.append((packet.pts, len(data), True))
        self._unsynced.append(path)
        if time.monotonic() - self._synced >= _SYNC_SECONDS:
            self._sync()

    def finish(self) -> str:
        """Write the segment's file, which names all pictures; returns its SHA-256.

        Raises:
            OSError: writing failed.
            DamagedSegmentError: pictures are missing in between.
        """
        self._sync()
        self._log.close()
        self._complete_index()
        writer = SegmentWriter(self._files.log(0).parent, self.index)
        try:
            sha256 = writer.finish()
        finally:
            writer.abort()
        self.size = writer.size
        return sha256

    def abort(self) -> None:
        """Close the log; what is finished stays."""
        with suppress(OSError):
            self._log.close()

    def _complete_index(self) -> None:
        """Say in the index what is known of all pictures, whichever run made them."""
        pictures, index = [self._done[place] for place in sorted(self._done)], self.index
        if [picture.place for picture in pictures] != list(range(len(pictures))):
            raise DamagedSegmentError(f"segment {index.number}: pictures are missing in between")
        index.pts = [picture.pts for picture in pictures]
        index.durations = [picture.duration for picture in pictures]
        index.packets = [(picture.place, picture.size, True) for picture in pictures]
        index.sha256 = [picture.sha256 for picture in pictures]
        for picture in pictures:
            index.note(picture.place, picture.made)
        if any(abs(b - a - self._step) > 1 for a, b in pairwise(index.pts)):
            self._uneven()

    def _sync(self) -> None:
        for path in self._unsynced:
            sync_file(path)
        self._unsynced.clear()
        sync_folder(self._files.folder)
        os.fsync(self._log.fileno())
        self._synced = time.monotonic()
