"""The work folder of a run: made, read again, and removed."""

import json
import logging
import os
import re
import shutil
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from vsr.errors import DamagedSegmentError, SinkError
from vsr.files import sync_folder
from vsr.resume.disk import find_damage
from vsr.resume.feed import Done
from vsr.resume.inputs import INPUTS
from vsr.resume.lock import leave_note
from vsr.resume.manifest import MANIFEST, End, Entry, Manifest, Published
from vsr.resume.picture_files import FOLDER, LOG, FinishedPicture
from vsr.resume.segments import SUFFIX, Index, file_name, read_index
from vsr.sources import SourceReport

__all__ = ["WorkFolder", "has_lost_manifest", "remove_work"]

logger = logging.getLogger(__name__)

# The manifest's name with .part is one that earlier versions gave.
_OURS = re.compile(
    rf"\d{{6,}}({re.escape(SUFFIX)}|\.{LOG})(\.part)?|{re.escape(MANIFEST)}\.part|{FOLDER}"
    rf"|{re.escape(INPUTS)}"
    r"|\..*\.[0-9a-f]{8}\.part"
)
_FINISHED = re.compile(rf"\d{{6,}}({re.escape(SUFFIX)}|\.{LOG})|{FOLDER}")
_REMOVED = "manifest.removed"
"""What the manifest is called while the folder is removed: whoever finds it may finish that."""
_SAID_SECONDS = 10.0


class WorkFolder:
    """Finished segments of a film and their manifest.

    Args:
        path: the folder.
        output: what is being made, in messages.
        manifest: what is finished; saved with every change.
    """

    frame_by_frame = False
    """Whether each frame is finished by itself. Else it lasts once its segment is finished, and the
    encoder of a segment is told the times of all frames before."""
    copies = 2
    """How often the picture is on the disk: segments and the file that they are joined to are there
    at once."""

    def __init__(self, path: Path, output: Path, manifest: Manifest) -> None:
        self.path, self.output, self.manifest = path, output, manifest
        self.shown_by = output
        """The file whose presence says that the output has its name."""

    @property
    def frames(self) -> int:
        """Frames safely on the disk; single pictures of unfinished segments are counted, too."""
        return self.manifest.frames

    @property
    def kept(self) -> Mapping[int, Mapping[int, FinishedPicture]]:
        """Finished frames of segments that are not finished: by segment, then by place."""
        return {}

    @classmethod
    def create(cls, path: Path, output: Path, manifest: Manifest) -> "WorkFolder":
        """A new folder, with nothing finished.

        Raises:
            SinkError: it cannot be made.
        """
        try:
            path.mkdir(_mode_for(output))
            manifest.save(path)
        except OSError as error:
            raise SinkError(f"{path}: cannot be created: {error.strerror}") from error
        return cls(path, output, manifest)

    @classmethod
    def open(cls, path: Path, output: Path) -> "WorkFolder":
        """The folder that an earlier run has left.

        Raises:
            SinkError: it is none, or its manifest is damaged.
        """
        if path.is_symlink() or not path.is_dir():
            raise SinkError(f"{path}: is in the way: it is no work folder of vsr's")
        return cls(path, output, Manifest.load(path))

    def verify(self) -> list[str]:
        """Look whether all segments are what was written; those that are not are forgotten.

        Returns:
            A line for each that has to be done again.
        """
        lines, progress = [], _CheckProgress(len(self.manifest.segments))
        self._tidy()
        for entry in list(self.manifest.segments.values()):
            try:
                lines += self._check(entry)
            except DamagedSegmentError as error:
                del self.manifest.segments[entry.number]
                last = entry.first + entry.frames - 1
                lines.append(f"frames {entry.first} to {last} are done again: {error}")
            progress.tick()
        if lines:
            if not self.frame_by_frame:  # pictures that have their names are found under them
                self.manifest.published = None
            self.save()
        return lines

    def _tidy(self) -> None:
        """Delete what a run that was killed had not finished."""
        needed = self._needed()
        for file in self.path.iterdir():
            if file.name not in needed:
                _delete(file)

    def finished_numbers(self) -> Iterator[int]:
        """The numbers of the finished frames, counted from 0."""
        for entry in self.manifest.segments.values():
            yield from range(entry.first, entry.first + entry.frames)
        for segment, pictures in self.kept.items():
            first = segment * self.manifest.segment_frames
            yield from (first + place for place in pictures)

    def _needed(self) -> set[str]:
        """The names of what holds finished frames, of the manifest, and of what was read."""
        return {MANIFEST, INPUTS, *(file_name(number) for number in self.manifest.segments)}

    def _check(self, entry: Entry) -> list[str]:
        """Look whether a segment is what was written; a line for each part of it that is not.

        Raises:
            DamagedSegmentError: none of it can be used.
        """
        path = self.path / file_name(entry.number)
        if damage := find_damage(path, entry.size, entry.sha256):
            raise DamagedSegmentError(f"{path.name}: {damage}")
        self.index(entry)
        return []

    def index(self, entry: Entry) -> Index:
        """What the segment of ``entry`` holds.

        Raises:
            DamagedSegmentError: it is missing, or not what the manifest says.
        """
        path = self.path / file_name(entry.number)
        index = read_index(path)
        found = (index.number, index.first, len(index.pts))
        if found != (entry.number, entry.first, entry.frames):
            raise DamagedSegmentError(f"{path}: holds other frames than the manifest says")
        return index

    def done(self) -> dict[int, Done]:
        """What is known of the frames of all finished segments."""
        return {number: self._done(entry) for number, entry in self.manifest.segments.items()}

    def _done(self, entry: Entry) -> Done:
        index = self.index(entry)
        return Done(
            pts=array("q", index.pts), durations=array("q", index.durations),
            anchor=entry.anchor, timing=index.timing,
        )  # fmt: skip

    def add(self, index: Index, *, size: int, sha256: str, anchor: str) -> None:
        """Enter a segment that is complete and on the disk.

        Raises:
            OSError: the manifest cannot be written.
        """
        self.manifest.segments[index.number] = Entry(
            number=index.number, first=index.first, frames=len(index.pts),
            packets=len(index.packets), start=index.pts[0],
            end=index.pts[-1] + index.durations[-1], size=size, sha256=sha256, anchor=anchor,
        )  # fmt: skip
        self.save()

    def forget(self, number: int) -> None:
        """Take back a segment, which a run that goes on makes again."""
        self.manifest.segments.pop(number, None)
        with suppress(OSError):  # a short segment is not believed without the film's end
            self.save()

    def conclude(self, end: End, report: SourceReport) -> None:
        """Note where the film ends, and what there is to say of its source.

        Raises:
            OSError: the manifest cannot be written.
        """
        if self.manifest.end != end:
            self.manifest.end, self.manifest.source = end, report
            self.save()

    def announce(self, file: Path) -> None:
        """Note what the output looks like that is about to get its name.

        Raises:
            OSError: the manifest cannot be written.
        """
        found = file.stat()
        self.manifest.published = Published(size=found.st_size, mtime_ns=found.st_mtime_ns)
        self.save()

    def has_published(self) -> bool:
        """Whether the output that is there is this work's, from a run that ended right after."""
        published = self.manifest.published
        try:
            found = self.shown_by.stat()
        except OSError:
            return False
        return published == Published(size=found.st_size, mtime_ns=found.st_mtime_ns)

    def save(self) -> None:
        """Write the manifest.

        Raises:
            OSError: it cannot be written.
        """
        self.manifest.save(self.path)

    def room_missing(self, total: int | None) -> int:
        """Bytes that the disk will be short of, judging by the segments so far; 0 if it is not."""
        frames, manifest = self.manifest.frames, self.manifest
        if total is None or not frames:
            return 0
        size = sum(map(self._bytes, manifest.segments.values()))
        wanted = self.copies * size * total // frames - size
        return max(0, wanted - shutil.disk_usage(self.path).free)

    def _bytes(self, entry: Entry) -> int:
        """What the frames of a segment take on the disk."""
        return entry.size

    def retire(self) -> None:
        """Delete the folder of an output that is complete, with all that belongs beside it.

        Raises:
            SinkError: it cannot be deleted, or holds something else.
        """
        self.manifest.finished = True
        with suppress(OSError):  # without room for that, the rest can be deleted all the same
            self.save()
            leave_note(self.output, json.dumps(self.manifest.content()))
        self.remove()

    def remove(self) -> None:
        """Delete the folder.

        Raises:
            SinkError: it cannot be deleted, or holds something else.
        """
        remove_work(self.path, manifest_last=self.manifest.finished)


class _CheckProgress:
    """Says how far a long check is, ten seconds apart at least, and ten times at most.

    Args:
        total: how much there is to check.
    """

    def __init__(self, total: int) -> None:
        self._total, self._done, self._said = total, 0, 0
        self._at = time.monotonic()

    def tick(self) -> None:
        """One more is checked."""
        self._done += 1
        tenth, now = 10 * self._done // self._total, time.monotonic()
        if self._said < tenth < 10 and now - self._at >= _SAID_SECONDS:
            self._said, self._at = tenth, now
            logger.info("checked %d %% of what is finished", 10 * tenth)


def _mode_for(output: Path) -> int:
    """Who may enter the folder: what is to be replaced may be private, and so are its segments."""
    if not output.is_file():
        return 0o777
    mode = output.stat().st_mode
    return 0o700 | (0o070 if mode & 0o040 else 0) | (0o007 if mode & 0o004 else 0)


def remove_work(path: Path, *, manifest_last: bool = False) -> None:
    """Delete the work folder ``path`` with what vsr has put into it; anything else stays.

    Args:
        path: the folder.
        manifest_last: whether the manifest outlasts the segments, since it says that they are not
            needed. Else it is renamed first, which says that they are not to be gone on with.

    Raises:
        SinkError: it cannot be deleted, or holds something else.
    """
    if not path.exists():
        return
    if path.is_symlink() or not path.is_dir():
        raise SinkError(f"{path}: is in the way: it is no work folder of vsr's")
    try:
        _empty(path, manifest_last=manifest_last)
        if left := next(path.iterdir(), None):
            raise SinkError(f"{path}: cannot be removed: {left.name} is not vsr's")
        path.rmdir()
    except OSError as error:
        if isinstance(error, SinkError):
            raise
        raise SinkError(f"{path}: cannot be removed: {error.strerror}") from error
    sync_folder(path.parent)


def _empty(path: Path, *, manifest_last: bool) -> None:
    """Delete what vsr has put into the folder; what says what is to become of it goes last."""
    if not manifest_last:
        with suppress(FileNotFoundError):
            os.replace(path / MANIFEST, path / _REMOVED)
    for file in path.iterdir():
        _delete(file)
    for name in (MANIFEST, _REMOVED):
        (path / name).unlink(missing_ok=True)


def has_lost_manifest(path: Path) -> bool:
    """Whether ``path`` is a work folder whose manifest was lost, and not on its way to be removed.

    A file system that was repaired may be without it, or a backup that was brought back in part.
    """
    names: set[str] = set()
    with suppress(OSError):  # it is no folder, or one that cannot be read
        names.update(os.listdir(path))
    return not names & {MANIFEST, _REMOVED} and any(map(_FINISHED.fullmatch, names))


def _delete(file: Path) -> None:
    """Delete ``file`` if its name is one that vsr gives: a segment, or something unfinished."""
    if not _OURS.fullmatch(file.name):
        return
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink()
