"""Where pictures are made, and how they get their names: all of them, or none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vsr.beside import unfinished_name
from vsr.completion import Stage, enter
from vsr.encoding.stills import Stills
from vsr.errors import OutputExistsError, SinkError
from vsr.files import followed, take_after
from vsr.sinks.destination import check_replaceable, partial_name

__all__ = ["Staging"]

_REPLACED = "replaced"
"""The folder for the pictures that were there before, until all have been replaced."""


class Staging:
    """A hidden folder for pictures that are being made, and their way to where they belong.

    Args:
        output: the output as it was named.
        stills: what its pictures are called.
        overwrite: whether existing files may be replaced.
        folder: where they are made instead; it stays until all have their names, and may be there
            already, with pictures of an earlier run.

    Raises:
        SinkError: pictures of that name exist, or the folder cannot be written to.
    """

    def __init__(
        self, output: Path, stills: Stills, *, overwrite: bool, folder: Path | None = None
    ) -> None:
        self._output, self._stills, self._overwrite = output, stills, overwrite
        self._target = followed(stills.folder)
        self._whole = not self._target.exists()
        """The folder itself is new, and made by renaming."""
        self._refuse()
        self._beside = self._target.parent if self._whole else self._target
        self.folder = folder or unfinished_name(output, self._beside)
        self._lasting = folder is not None
        try:
            self.folder.mkdir(exist_ok=self._lasting)
        except OSError as error:
            raise SinkError(f"{stills.folder}: cannot be written to: {error.strerror}") from error

    def publish(self, count: int) -> str | None:
        """Give ``count`` pictures their names.

        Returns:
            A line for the log if pictures of an earlier run remain, behind the new ones.

        Raises:
            SinkError: pictures have appeared meanwhile, or a file could not be renamed, and what
                was there before is there again; these are kept under another name, which the
                message says, or where they were made if that lasts.
            OSError: a file could not be renamed; those already renamed stay, and it can be gone on
                with.
        """
        if self._present() and not self._overwrite:
            if self._lasting:
                raise SinkError(f"{self._target}: has appeared meanwhile; -y replaces pictures")
            kept = self.keep_partial()
            raise SinkError(f"{self._target}: has appeared meanwhile; the result is in {kept}")
        enter(Stage.NAMING)
        if self._whole and not self._target.exists():
            with self._kept_otherwise():
                self.folder.rename(self._target)
            return None
        if self._lasting:
            for path in sorted(self.folder.iterdir()):
                take_after(path, self._target / path.name)
                os.replace(path, self._target / path.name)
        else:
            with self._kept_otherwise():
                self._replace_all()
        self.discard()
        left = [name for name in self._present() if (self._stills.number(name) or 0) > count]
        return f"{len(left)} pictures of an earlier run remain, from {left[0]} on" if left else None

    def _replace_all(self) -> None:
        """Give all pictures their names, or none: what those have replaced is there again then."""
        names, replaced = sorted(os.listdir(self.folder)), self.folder / _REPLACED
        replaced.mkdir()
        with ExitStack() as undo:
            undo.callback(_remove_empty, replaced)
            for name in names:
                made, path, before = self.folder / name, self._target / name, replaced / name
                take_after(made, path)
                if os.path.lexists(path):
                    _keep(path, before)
                    undo.callback(_give_back, before, path)
                os.replace(made, path)
                undo.callback(_give_back, path, made)
            undo.pop_all()

    @contextmanager
    def _kept_otherwise(self) -> Iterator[None]:
        """If the block cannot rename the pictures, they get a name that says that they are not all.

        Raises:
            SinkError: they could not be renamed, with what they are called now; if that cannot be
                either, they have been deleted.
            OSError: the same, and they stay where they are, since that lasts.
        """
        try:
            yield
        except OSError as error:
            if self._lasting:
                raise
            reason = f"{self._output}: cannot be written: {error.strerror}"
            try:
                kept = self.keep_partial()
            except OSError:
                self.discard()
                raise SinkError(reason) from error
            raise SinkError(f"{reason}; the result is in {kept}") from error

    def keep_partial(self) -> Path:
        """Move the pictures into a folder whose name says that they are not all."""
        place = partial_name(self._beside / self._name())
        enter(Stage.NAMING)
        self.folder.rename(place)
        return place

    def discard(self) -> None:
        """Delete the hidden folder with all that is in it."""
        with suppress(OSError):
            shutil.rmtree(self.folder)

    def _name(self) -> str:
        pattern = self._stills.pattern
        name = pattern.before if pattern is not None else Path(self._stills.name).stem
        return name.strip(" ._-") or self._target.name

    def _refuse(self) -> None:
        folder = self._stills.folder
        if self._target.is_symlink():  # one that was followed and is one still
            raise SinkError(f"{folder}: is a link that leads nowhere")
        if self._whole and not self._target.parent.is_dir():
            raise SinkError(f"{folder}: there is no directory {folder.parent}")
        if self._whole and self._stills.pattern is None:
            raise SinkError(f"{folder / self._stills.name}: there is no directory {folder}")
        if not self._whole and not self._target.is_dir():
            raise SinkError(f"{folder}: is not a directory")
        if not self._overwrite and (present := self._present()):
            raise OutputExistsError(f"{folder / present[0]}: already exists; -y replaces it")
        for name in self._present():
            if (self._target / name).is_dir():
                raise SinkError(f"{folder / name}: is a directory")
            check_replaceable(self._target / name, folder / name)

    def _present(self) -> list[str]:
        """Files that are there under names of these pictures, by number."""
        if not self._target.is_dir():
            return []
        numbers = {name: self._stills.number(name) for name in os.listdir(self._target)}
        found = sorted((number, name) for name, number in numbers.items() if number is not None)
        return [name for _, name in found]


def _keep(path: Path, before: Path) -> None:
    """Give what is at ``path`` the name ``before`` as well, until ``path`` is replaced.

    On file systems without links it has only that name, and for a moment nothing is at ``path``.
    """
    try:
        os.link(path, before)
    except OSError:
        os.rename(path, before)


def _give_back(kept: Path, path: Path) -> None:
    """Undo a renaming from ``path`` to ``kept``, or a link that :func:`_keep` made."""
    with suppress(OSError):
        os.replace(kept, path)
        kept.unlink(missing_ok=True)  # two names of one file stay when one is renamed to the other


def _remove_empty(folder: Path) -> None:
    """Delete ``folder``, unless it holds what could not be given back."""
    with suppress(OSError):
        folder.rmdir()
