"""Where relative paths lead while a script has the process's working directory to itself.

Note [One directory for all threads]
    A script is evaluated in its folder, as under vspipe, and a process has one working directory
    for all of its threads. So scripts are evaluated one after another, and where there are other
    threads, a run looks the directory up once, when it begins: its relative paths say what the
    caller wrote, and lead where that led then. A thread alone needs none of that, and may stand in
    a directory that no absolute path leads to: one above it may be closed to this user.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["AnchoredPath", "anchored", "working_in"]


class AnchoredPath(Path):
    """A relative path that leads from one folder, whatever the working directory is.

    It is shown and compared as it was written; what opens it gets an absolute path.
    """

    def __init__(self, *segments: str | os.PathLike[str], folder: str) -> None:
        super().__init__(*segments)
        self._folder = folder

    def with_segments(self, *segments: str | os.PathLike[str]) -> "AnchoredPath":
        """A path made of ``segments``, from the same folder: parents, neighbours, children."""
        return AnchoredPath(*segments, folder=self._folder)

    def __fspath__(self) -> str:
        return os.path.join(self._folder, str(self))

    def __reduce__(self) -> tuple[type[Path], tuple[str]]:
        return Path, (os.fspath(self),)

    def absolute(self) -> "AnchoredPath":
        """Where it leads, said in full."""
        return self.with_segments(os.fspath(self))


_evaluating = threading.RLock()
_guard = threading.Lock()
_moved: tuple[int, str] | None = None
"""The thread that has changed the working directory, and where that was before."""


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """In this block the working directory is ``folder``, for all threads; others wait to do so.

    Raises:
        OSError: there is no such folder, or the present one has been deleted.
    """
    global _moved
    with _evaluating:
        with _guard:
            before, outer = os.getcwd(), _moved
            os.chdir(folder)
            _moved = outer or (threading.get_ident(), before)
        try:
            yield
        finally:
            with _guard:
                try:
                    os.chdir(before)
                finally:
                    _moved = outer


def anchored(path: Path) -> Path:
    """``path``, bound to the present working directory if a script of another thread may change it.

    A script that asks for this itself means its own folder. What is absolute, or ``-`` for a pipe,
    stays as it is; see note [One directory for all threads].
    """
    if path.is_absolute() or isinstance(path, AnchoredPath) or str(path) == "-":
        return path
    with _guard:
        if threading.active_count() == 1:
            return path
        try:
            others = _moved is not None and _moved[0] != threading.get_ident()
            folder = _moved[1] if _moved is not None and others else os.getcwd()
        except FileNotFoundError:  # it has been deleted, and nothing can be found from it
            return path
    return AnchoredPath(path, folder=folder)
