"""Pictures that a run reads, as they were: of those that are finished, none may have changed.

Note [Mended pictures]
    A sequence stops at a scan that is damaged or cut short, after days perhaps. Whoever mends that
    file has not changed what is finished, so the work goes on with it. What may change is a picture
    that no finished frame was made of; filters, of which a frame may depend on several pictures,
    let none change.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vsr.errors import SinkError
from vsr.resume import plain
from vsr.resume.disk import write_json
from vsr.sources.listing import find_images

__all__ = ["INPUTS", "Pictures", "accept_mended", "note_pictures", "stat_line"]

logger = logging.getLogger(__name__)

INPUTS = "inputs.json"


def stat_line(path: Path) -> str:
    """Size and time of the last change of a file.

    Raises:
        OSError: it cannot be read.
    """
    found = path.stat()
    return f"{found.st_size} bytes of {found.st_mtime_ns / 1e9:.6f}"


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of an input, in order."""

    names: tuple[str, ...]
    states: tuple[str, ...]
    """Size and time of each."""

    @classmethod
    def at(cls, location: Path) -> "Pictures | None":
        """Those at ``location`` now; None if it is no place of pictures.

        Raises:
            OSError: one cannot be read.
        """
        images = find_images(location)
        if images is None:
            return None
        states = tuple(stat_line(path) for path in images.paths)
        return cls(tuple(path.name for path in images.paths), states)

    @classmethod
    def load(cls, folder: Path) -> "Pictures":
        """Those that a work folder was begun with.

        Raises:
            SinkError: it does not say.
        """
        path = folder / INPUTS
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            names, states = (tuple(plain.lines(content[key])) for key in ("names", "states"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SinkError(f"{path}: cannot be read: --restart begins again") from error
        return cls(names, states)

    def save(self, folder: Path) -> None:
        """Write them into a work folder.

        Raises:
            OSError: they cannot be written.
        """
        write_json(folder / INPUTS, {"names": self.names, "states": self.states})

    def changed_since(self, before: "Pictures", among: Iterable[int] | None = None) -> list[str]:
        """The names of those that are not what they were.

        Args:
            before: what they were, of the same names.
            among: numbers of those that count, from 0; None is all.
        """
        counted = range(len(self.names)) if among is None else sorted(set(among))
        pairs = zip(self.states, before.states, strict=True)
        differing = {number for number, (now, then) in enumerate(pairs) if now != then}
        return [self.names[number] for number in counted if number in differing]


def note_pictures(location: Path, folder: Path) -> None:
    """Write the pictures at ``location``, if it is a place of some, into a new work folder.

    Raises:
        SinkError: that cannot be done.
    """
    try:
        if (pictures := Pictures.at(location)) is not None:
            pictures.save(folder)
    except OSError as error:
        raise SinkError(f"{folder}: cannot be written: {error}") from error


def accept_mended(location: Path, folder: Path, finished: Iterable[int] | None) -> str | None:
    """Take pictures as they are now; see note [Mended pictures].

    Args:
        location: of the pictures, whose names are what they were; or of another input.
        folder: the work folder.
        finished: the numbers of those that must not have changed, from 0; None is all.

    Returns:
        The name of one that has changed though it must not; None if all is well.

    Raises:
        SinkError: the work folder cannot be read or written.
    """
    try:
        if (pictures := Pictures.at(location)) is None:
            return None
        before = Pictures.load(folder)
        if changed := pictures.changed_since(before, finished):
            return changed[0]
        if mended := pictures.changed_since(before):
            count = "1 picture" if len(mended) == 1 else f"{len(mended)} pictures"
            logger.info("%s of those that are not finished changed, first %s", count, mended[0])
            pictures.save(folder)
    except OSError as error:
        raise SinkError(f"{location}: cannot be read again: {error}") from error
    return None
