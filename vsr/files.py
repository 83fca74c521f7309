"""Files that appear whole or not at all, and what they hash to."""

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "file_sha256",
    "followed",
    "hidden_name",
    "may_replace",
    "name_beside",
    "set_aside",
    "shortened",
    "sync_file",
    "sync_folder",
    "take_after",
    "unfinished",
    "written_whole",
]

_LONGEST = 255
"""Bytes of a name, on the file systems of today."""


def followed(path: Path) -> Path:
    """``path`` with all links followed; one that leads back to itself stays as it is.

    ``Path.resolve`` does the same from Python 3.13 on; before, such a link is a RuntimeError to it.
    """
    return Path(os.path.realpath(path))


def hidden_name(path: Path) -> Path:
    """A name beside ``path`` that is hidden and nobody else's, for what is to become ``path``."""
    mark = f".{secrets.token_hex(4)}.part"
    return path.with_name(f".{shortened(path.name, _LONGEST - 1 - len(mark))}{mark}")


def unfinished(path: Path) -> list[Path]:
    """What lies beside ``path`` under names that :func:`hidden_name` gives for it, in order.

    Call it only while nobody else can be writing ``path``: the file of a run at work looks the
    same.
    """
    like = hidden_name(path).name
    random = len(".00000000.part")
    pattern = re.compile(rf"{re.escape(like[:-random])}\.[0-9a-f]{{8}}\.part", re.DOTALL)
    try:
        names = sorted(filter(pattern.fullmatch, os.listdir(path.parent)))
    except OSError:  # there is no such folder, or it cannot be read
        return []
    return [path.with_name(name) for name in names]


def name_beside(path: Path, ending: str) -> Path:
    """``path`` with ``ending`` appended; a name that would get too long for that is shortened."""
    return path.with_name(shortened(path.name, _LONGEST - len(os.fsencode(ending))) + ending)


def shortened(name: str, limit: int) -> str:
    """``name`` if it has up to ``limit`` bytes, else its beginning, and a hash of all of it."""
    data = os.fsencode(name)
    if len(data) <= limit:
        return name
    mark = hashlib.sha256(data).hexdigest()[:8]
    return f"{data[: limit - len(mark) - 1].decode('utf-8', 'ignore')}~{mark}"


@contextmanager
def written_whole(
    path: Path, *, durable: bool = False, part: Path | None = None, replace: bool = True
) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` when the block ends, and vanishes if it raises.

    Args:
        path: what is to be written.
        durable: make sure that what was written is on the disk before it gets its name, and then
            the name: after a power cut, too, there is the old file or the new one, whole.
        part: the name to write to, in the same folder; None takes :func:`hidden_name`'s.
        replace: whether a file that is there may be replaced.

    Raises:
        FileExistsError: there is a file that may not be replaced.
        OSError: it cannot be renamed, or be brought to the disk.
    """
    part = part or hidden_name(path)
    try:
        yield part
        if durable:
            sync_file(part)
        _give(part, path, replace=replace)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def _give(part: Path, path: Path, *, replace: bool) -> None:
    if not replace and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "it has appeared meanwhile")
    os.replace(part, path)


@contextmanager
def set_aside(names: Iterable[tuple[Path, Path]]) -> Iterator[None]:
    """Hide files while the block runs: if it raises they are back, else they are deleted.

    Args:
        names: of each its own and a hidden one in the same folder. What is no file, or cannot be
            renamed, stays where it is.
    """
    hidden = []
    try:
        for path, away in names:
            if path.is_file() or path.is_symlink():
                with suppress(OSError):
                    os.rename(path, away)
                    hidden.append((path, away))
        yield
    except BaseException:
        for path, away in hidden:
            with suppress(OSError):
                os.replace(away, path)
        raise
    for _, away in hidden:
        with suppress(OSError):
            away.unlink()


def may_replace(path: Path) -> bool:
    """Whether this user may rename another file to ``path``, which exists, as far as owners count.

    In a folder like ``/tmp`` (sticky) only a file's owner may do so, the folder's, and root.

    Raises:
        OSError: it cannot be looked at.
    """
    folder = path.parent.stat()
    if not hasattr(os, "geteuid") or not folder.st_mode & stat.S_ISVTX:
        return True
    return os.geteuid() in (0, folder.st_uid, path.lstat().st_uid)


def take_after(path: Path, model: Path) -> None:
    """Give ``path`` the permissions of the file ``model``, if there is one, and its group.

    Root gives it its owner as well. What may not be given stays as it is.
    """
    try:
        found = model.stat()
    except OSError:
        return
    if not stat.S_ISREG(found.st_mode):
        return
    if hasattr(os, "chown"):
        with suppress(OSError):  # a group that this user is not in
            os.chown(path, found.st_uid if os.geteuid() == 0 else -1, found.st_gid)
    with suppress(OSError):
        path.chmod(stat.S_IMODE(found.st_mode) & 0o777)


def sync_file(path: Path) -> None:
    """Make sure that what ``path`` holds is on the disk.

    Raises:
        OSError: it is not, e.g. the disk is full.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make sure that the names in ``path`` are on the disk, where its file system can be asked."""
    with suppress(OSError):
        sync_file(path)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
