"""One run at a time for each output.

Note [What the lock's file says]
    Its first line names the process that holds the lock, its host, and the system that runs there.
    What follows is the manifest of an output
    that is complete, written before the work folder goes. So the last step of a run, the removal of
    this one file, takes both away at once: a run that is killed before has left word that there is
    nothing more to do.

Note [Locks that do not work]
    On a share, locks may fail (a server without them), or hold on one machine only. So who holds
    the lock also touches its file every few seconds. Who gets no lock, or gets that of a run on
    another system, watches the file for a while: if its time moves on, that run is alive. Clocks of
    machines differ, so no time is compared with another's, but to tell that nobody has touched the
    file for an hour. The containers of a machine have one system, and locks hold among them.
"""

import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from vsr.beside import lock_path
from vsr.errors import SinkError

if sys.platform != "win32":
    import fcntl

__all__ = ["leave_note", "locked", "read_note"]

logger = logging.getLogger(__name__)

_LINE = 121
"""Bytes of the first line."""
_BEAT = 5.0
_PATIENCE = 6 * _BEAT
"""Seconds; what a file system remembers of a file that another machine has touched is older than
the file by less."""
_FORGOTTEN = 3600.0
"""Seconds after which a file that nobody has touched is not watched any more."""
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
        Whether others are kept off: there are systems and file systems without such locks, where
        the file tells of a run that works already, but not of one that begins at the same time.

    Raises:
        SinkError: another run writes it, or the folder cannot be written to, or
            not the lock's file, which another user's run has left.
    """
    path = lock_path(output)
    descriptor, alone = _acquire(path, output)
    try:
        with _touched(descriptor, path):
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
                _watch(descriptor, path, output, alone=alone)
            if _is_still(path, descriptor):
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
    line = f"{os.getpid()} {_SYSTEM} {platform.node()}".encode("ascii", "replace")
    with suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, line[: _LINE - 1].ljust(_LINE - 1) + b"\n")


def _this_system() -> str:
    """What tells the system that runs here from that of another machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return platform.node() or "unknown"


_SYSTEM = _this_system().replace(" ", "-")


class _Holder(NamedTuple):
    """Who has signed a lock's file; what it does not say is empty."""

    process: str
    system: str
    host: str

    @classmethod
    def of(cls, descriptor: int) -> "_Holder":
        """Who has signed the file of ``descriptor``."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        line = os.read(descriptor, _LINE).decode("ascii", "replace").partition("\n")[0]
        process, system, host, *_ = [*line.split(), "", "", ""]
        return cls(process, system, host) if process.isdecimal() else cls("", "", "")

    def refusal(self, output: Path) -> SinkError:
        """That it is writing ``output``."""
        there = f" on {self.host}" if self.host not in ("", platform.node()) else ""
        process = f" (process {self.process}{there})" if self.process else ""
        return SinkError(f"{output}: another run is writing it{process}")


def _lock(descriptor: int, output: Path) -> bool:
    """Lock the file, and say whether that is possible."""
    if sys.platform == "win32":  # has other locks: there runs only have different temporary files
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _Holder.of(descriptor).refusal(output) from error
    except OSError as error:  # a file system without locks
        logger.warning(
            "%s: its disk has no locks (%s): do not begin another run of that output meanwhile",
            output, error.strerror,
        )  # fmt: skip
        return False
    return True


def _watch(descriptor: int, path: Path, output: Path, *, alone: bool) -> None:
    """Make sure that no run is at work whose lock is not seen here.

    See note [Locks that do not work].

    Args:
        descriptor: of the lock's file.
        path: its name.
        output: what is to be written.
        alone: whether it could be locked.

    Raises:
        SinkError: one is.
    """
    holder = _Holder.of(descriptor)
    if not holder.system or (alone and holder.system == _SYSTEM):
        return
    touched = os.fstat(descriptor).st_mtime_ns
    if abs(time.time() - touched / 1e9) > _FORGOTTEN:
        return
    until = time.monotonic() + _PATIENCE
    logger.info("%s: waiting to see whether a run on %s is at work", output, holder.host)
    while time.monotonic() < until:
        time.sleep(_BEAT / 5)
        try:
            with path.open("rb") as file:  # opened anew, a share tells of what was done elsewhere
                now = os.fstat(file.fileno()).st_mtime_ns
        except OSError:  # its run has just ended
            return
        if now != touched:
            raise holder.refusal(output)


@contextmanager
def _touched(descriptor: int, path: Path) -> Iterator[None]:
    """Touch the lock's file every few seconds while the block runs."""
    over = threading.Event()
    file = descriptor if os.utime in os.supports_fd else path

    def touch() -> None:
        while not over.wait(_BEAT):
            with suppress(OSError):
                os.utime(file)

    thread = threading.Thread(target=touch, name="vsr-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
