"""One run at a time for each output.

Note [What the lock's file says]
    Its first line names the process that holds the lock. What follows is the manifest of an output
    that is complete, written before the work folder goes. So the last step of a run, the removal of
    this one file, takes both away at once: a run that is killed before has left word that there is
    nothing more to do.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from vsr.beside import lock_path
from vsr.errors import SinkError

if sys.platform != "win32":
    import fcntl

__all__ = ["leave_note", "locked", "read_note"]

_LINE = 21
"""Bytes of the first line."""
# A link of the lock's name would lead to somebody else's file.
_SAFELY = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_FLAGS = os.O_RDWR | os.O_CREAT | _SAFELY
_TO_LOOK = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _SAFELY  # a FIFO would be waited for


@contextmanager
def locked(output: Path) -> Iterator[bool]:
    """Keep other runs from writing ``output`` while the block runs.

    The lock is the kernel's, on a hidden file beside the output: it goes with the process that
    holds it, however that ends, so no dead run is ever waited for.

    Args:
        output: a file or a folder; a link stands for what it leads to.

    Yields:
        Whether others are kept off: there are systems and file systems without such locks.

    Raises:
        SinkError: another run of this machine writes it, or the folder cannot be written to, or
            not the lock's file, which another user's run has left.
    """
    path = lock_path(output)
    descriptor, alone = _acquire(path, output)
    try:
        yield alone
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def leave_note(output: Path, text: str) -> None:
    """Leave ``text`` in the lock's file for later runs; ``output`` must be locked.

    Raises:
        OSError: it cannot be written.
    """
    with lock_path(output).open("r+b") as file:
        file.seek(_LINE)
        file.write(text.encode())
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def read_note(output: Path) -> str:
    """What a run that was killed has left in the lock's file; empty if that is nothing."""
    try:
        return lock_path(output).read_bytes()[_LINE:].decode("utf-8", "replace")
    except OSError:
        return ""


def _acquire(path: Path, output: Path) -> tuple[int, bool]:
    """The lock's file, open, and whether it keeps others off."""
    while True:
        descriptor, refused = _open(path, output)
        try:
            alone = _lock(descriptor, output)
            if _is_still(path, descriptor):
                if refused is not None:
                    _refuse(path, refused)
                _sign(descriptor)
                return descriptor, alone
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has removed it in between: another file has the name


def _open(path: Path, output: Path) -> tuple[int, OSError | None]:
    """The lock's file; only to look who holds it where, for the reason returned, it is no more."""
    try:
        return os.open(path, _FLAGS, 0o666), None
    except OSError as error:
        if not (isinstance(error, PermissionError) and os.path.lexists(path)):
            raise SinkError(f"{output}: cannot be created: {error.strerror}") from error
        refused = error
    try:
        return os.open(path, _TO_LOOK), refused
    except OSError:
        _refuse(path, refused)


def _refuse(path: Path, refused: OSError) -> NoReturn:
    raise SinkError(
        f"{path}: cannot be written: {refused.strerror}; it is the lock of another user's run, to "
        "be removed if that is over"
    ) from refused


def _sign(descriptor: int) -> None:
    """Say which process holds the lock; without room on the disk, it goes unsaid."""
    with suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{os.getpid():<{_LINE - 1}}\n".encode())


def _lock(descriptor: int, output: Path) -> bool:
    """Lock the file, and say whether that is possible."""
    if sys.platform == "win32":  # has other locks: there runs only have different temporary files
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, _LINE).decode("ascii", "replace").strip()
        process = f" (process {holder})" if holder.isdecimal() else ""
        raise SinkError(f"{output}: another run is writing it{process}") from error
    except OSError:  # a file system without locks
        return False
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
