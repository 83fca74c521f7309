"""One run at a time for each output."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vsr.errors import SinkError

if sys.platform != "win32":
    import fcntl

__all__ = ["lock_path", "locked"]

# A link of the lock's name would lead to somebody else's file.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


def lock_path(output: Path) -> Path:
    """The hidden file that carries the lock of ``output``; a link stands for what it leads to."""
    target = output.resolve()
    home = target if target.is_dir() else target.parent
    if not home.is_dir():  # it is made at the end, of pictures
        return home.parent / f".{home.name[:100]}.{target.name[:100]}.lock"
    return home / f".{target.name[:200]}.lock"


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keep other runs from writing ``output`` while the block runs.

    The lock is the kernel's, on a hidden file beside the output: it goes with the process that
    holds it, however that ends, so no dead run is ever waited for.

    Args:
        output: a file or a folder; a link stands for what it leads to.

    Raises:
        SinkError: another run of this machine writes it, or the folder cannot be written to.
    """
    path = lock_path(output)
    descriptor = _acquire(path, output)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, output: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, _FLAGS, 0o666)
        except OSError as error:
            raise SinkError(f"{output}: cannot be created: {error.strerror}") from error
        try:
            _lock(descriptor, output)
            if _is_still(path, descriptor):
                _sign(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has removed it in between: another file has the name


def _sign(descriptor: int) -> None:
    """Say which process holds the lock; without room on the disk, it goes unsaid."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())


def _lock(descriptor: int, output: Path) -> None:
    if sys.platform == "win32":  # has other locks: there runs only have different temporary files
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        process = f" (process {holder})" if holder.isdecimal() else ""
        raise SinkError(f"{output}: another run is writing it{process}") from error
    except OSError:  # a file system without locks
        return


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
