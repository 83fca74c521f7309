"""Where a sink's bytes go: to a file that appears when it is complete, or to standard output."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from vsr.beside import unfinished_name, without_companions
from vsr.completion import Stage, enter
from vsr.config import PIPE
from vsr.errors import OutputExistsError, SinkError
from vsr.ffmpeg import explain
from vsr.files import followed, may_replace, name_beside, take_after
from vsr.stdout import ReaderGone, Stdout

__all__ = [
    "Destination",
    "FileDestination",
    "PipeDestination",
    "Writable",
    "check_replaceable",
    "check_target",
    "open_destination",
    "partial_name",
]


class Writable(Protocol):
    """Takes bytes in order; that it cannot seek tells FFmpeg to write front to back."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Take all of ``data``; returns its length."""


class Destination(Protocol):
    """What a sink needs to know of the place it writes to."""

    @property
    def file(self) -> Path | None:
        """The unfinished file, which may be gone over again; None for a pipe."""

    def errors(self, *, listen: bool = True) -> AbstractContextManager[None]:
        """Translate what goes wrong in the block; see :func:`vsr.ffmpeg.explain`."""

    def open(self) -> Writable:
        """The way to write front to back."""

    def publish(self) -> Path | None:
        """Give the complete output its name, and return it; None for a pipe.

        Raises:
            SinkError: the name cannot be given.
            ReaderGone: not all that was written has been read.
        """

    def publish_partial(self) -> Path | None:
        """Give an output that was ended early a name that says so, and return it."""

    def discard(self) -> None:
        """Delete what has been written; harmless after :meth:`publish`."""


def open_destination(
    path: Path, *, overwrite: bool, stdout: Stdout | None, companions: Sequence[Path] = ()
) -> Destination:
    """Make ready what ``path`` names.

    Args:
        path: a file, or :data:`~vsr.config.PIPE`.
        overwrite: whether an existing file may be replaced.
        stdout: the stream that :data:`~vsr.config.PIPE` stands for.
        companions: what the run will write beside it; see :class:`FileDestination`.

    Raises:
        SinkError: the file cannot be created.
        ValueError: a pipe without ``stdout``.
    """
    if path != PIPE:
        return FileDestination(path, overwrite=overwrite, companions=companions)
    if stdout is None:
        raise ValueError("standard output has not been reserved")
    return PipeDestination(stdout)


class FileDestination:
    """A file that has its name only when it is complete; until then it is hidden beside it.

    Args:
        path: its name. A link stays one, and what it leads to is replaced. A file that is replaced
            hands on its permissions.
        overwrite: whether an existing file may be replaced.
        folder: where it is until then, on the same file system; None means in its own.
        companions: what the run will write beside it; files of these names tell of the one that is
            replaced, and go with that.

    Raises:
        SinkError: it cannot be created.
    """

    def __init__(
        self, path: Path, *, overwrite: bool, folder: Path | None = None,
        companions: Sequence[Path] = (),
    ) -> None:  # fmt: skip
        self._path, self._companions = path, companions
        self._overwrite = overwrite
        self._target = check_target(path, overwrite=overwrite)
        self._lasting = folder is not None
        self._file = _create_hidden(folder or self._target.parent, path, self._target)
        self._stream: BinaryIO | None = None

    @property
    def file(self) -> Path:
        """The unfinished file."""
        return self._file

    def errors(self, *, listen: bool = True) -> AbstractContextManager[None]:
        """Translate what goes wrong in the block to SinkError."""
        return explain(f"{self._path}: cannot be written", SinkError, listen=listen)

    def open(self) -> Writable:
        """The way to write front to back."""
        self._stream = self._file.open("wb")
        return self._stream

    def publish(self) -> Path:
        """Give the file its name, and return it.

        Raises:
            SinkError: it cannot be renamed, or another has taken its name meanwhile; the message
                says what it is called now. If that cannot be either, or it can be made again from
                what lasts in its folder, it has been deleted.
        """
        self._close()
        if not self._overwrite and self._target.exists():
            kept = self._rename(self._partial_name())
            raise SinkError(f"{self._path}: has appeared meanwhile; the result is in {kept}")
        try:
            replaced = self._companions if self._overwrite else ()
            with without_companions(self._path, replaced), self.errors():
                self._give(self._target)
        except SinkError as error:
            if self._lasting:
                self.discard()
                raise
            kept = self._rename(self._partial_name())
            raise SinkError(f"{error}; the result is in {kept}") from error
        return self._path

    def publish_partial(self) -> Path:
        """Name the file ``out.partial.mp4``, and return that.

        Raises:
            SinkError: it cannot be renamed, and has been deleted.
        """
        self._close()
        return self._rename(self._partial_name())

    def discard(self) -> None:
        """Delete the file; harmless after :meth:`publish`."""
        with suppress(SinkError):
            self._close()
        self._delete()

    def _close(self) -> None:
        """Write what is left; the file is deleted if that fails."""
        if self._stream is None:
            return
        try:
            with self.errors(listen=False):
                self._stream.close()
        except SinkError:
            self._delete()
            raise

    def _partial_name(self) -> Path:
        return partial_name(self._target.with_name(self._target.stem), self._target.suffix)

    def _delete(self) -> None:
        with suppress(OSError):
            self._file.unlink()

    def _rename(self, target: Path) -> Path:
        """Give the file another name beside its own; returns where that is, as the user said it."""
        try:
            with self.errors():
                self._give(target)
        except SinkError:
            self.discard()
            raise
        beside = self._path.with_name(target.name)  # unless the path is a link to another folder
        return beside if followed(beside.parent) == target.parent else target

    def _give(self, name: Path) -> None:
        take_after(self._file, self._target)
        enter(Stage.NAMING)
        os.replace(self._file, name)


class PipeDestination:
    """Standard output; what is written is gone."""

    def __init__(self, stdout: Stdout) -> None:
        self._stdout = stdout
        self._discarded = False

    @property
    def file(self) -> None:
        """There is none."""
        return None

    def errors(self, *, listen: bool = True) -> AbstractContextManager[None]:
        """Translate what goes wrong in the block to SinkError, unless the reader has gone."""
        return explain("standard output: cannot be written", SinkError, listen=listen)

    def open(self) -> Writable:
        """The way to write front to back."""
        return self

    def write(self, data: bytes | memoryview, /) -> int:
        """Pass ``data`` on; after :meth:`discard` it is dropped, lest a broken stream look whole.

        Raises:
            ReaderGone: nobody reads.
        """
        return memoryview(data).nbytes if self._discarded else self._stdout.write(data)

    def publish(self) -> None:
        """Make sure that all has been written.

        Raises:
            ReaderGone: the reader went before the end.
        """
        if self._stdout.gone:
            raise ReaderGone("the reader of standard output has gone")
        enter(Stage.NAMING)

    def publish_partial(self) -> None:
        """Make sure that all has been written; see :meth:`publish`."""
        self.publish()

    def discard(self) -> None:
        """Write no more."""
        self._discarded = True


def check_target(path: Path, *, overwrite: bool) -> Path:
    """Where ``path`` leads, links followed: a link stays one and its target is replaced.

    Args:
        path: the name of an output.
        overwrite: whether a file that is there may be replaced.

    Raises:
        SinkError: no file can appear there.
    """
    target = followed(path)
    if target.exists() and not target.is_file():
        what = "a directory" if target.is_dir() else "not a regular file"
        raise SinkError(f"{path}: is {what}")
    if target.match("/proc/*/fd/*"):  # as >(…) gives
        raise SinkError(f"{path}: is no file: - is standard output")
    check_replaceable(target, path)
    if target.exists() and not overwrite:
        raise OutputExistsError(f"{path}: already exists; -y replaces it")
    if not target.parent.is_dir():
        raise SinkError(f"{path}: there is no directory {path.parent}")
    return target


def check_replaceable(target: Path, path: Path) -> None:
    """Refuse to compute what could not be renamed to ``target``, which ``path`` leads to.

    Raises:
        SinkError: it exists, and only somebody else may replace it.
    """
    if target.exists() and not may_replace(target):
        raise SinkError(f"{path}: is somebody else's, and only its owner may replace it there")


def _create_hidden(folder: Path, path: Path, target: Path) -> Path:
    """A new, empty, hidden file in ``folder``, that will be ``path``, which leads to ``target``.

    What is there may be private: nobody may read that file who may not read this one.
    """
    temporary = unfinished_name(path, folder)
    try:
        mode = target.stat().st_mode & 0o666 | 0o600 if target.exists() else 0o666
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    except OSError as error:
        raise SinkError(f"{path}: cannot be created: {error.strerror}") from error
    return temporary


def partial_name(stem: Path, suffix: str = "") -> Path:
    """``out.partial.mp4``, or ``out.partial2.mp4`` and so on if there is one already.

    Args:
        stem: the name of the whole without its suffix: ``out``.
        suffix: what it ends with, the dot included; folders have none.
    """
    endings = (f".partial{number}{suffix}" for number in ("", *range(2, 10_000)))
    return next(p for ending in endings if not (p := name_beside(stem, ending)).exists())
