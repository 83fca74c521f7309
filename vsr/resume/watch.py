"""Whether what a run reads is, while it works, still what its work was begun with.

Note [A source that changes]
    A film may take days, and what it is made of may be written, replaced or deleted meanwhile. So
    after each segment, before that is entered as finished, size and time of the files are looked
    at: nothing of another input is kept, and who comes back in days is not told of it only then. A
    file that is missing is no reason to end: the system keeps what is open, and it may come back (a
    share that was away) before it is needed again, for the other streams. Of pictures there may be
    so many that each look would take long: they are compared at the end.
"""

import logging
from pathlib import Path

from vsr.errors import ChangedSourceError, SourceError
from vsr.planning import Plan
from vsr.resume.inputs import stat_line
from vsr.resume.matching import changed_picture
from vsr.resume.settings import changes, files_of, identity
from vsr.resume.work import WorkFolder

__all__ = ["InputWatch"]

logger = logging.getLogger(__name__)


class InputWatch:
    """Looks at the input of a run, and at the file that its sound comes from.

    What is accepted is what a run that goes on accepts (:func:`vsr.resume.matching.check_settings`
    and ``compare_pictures``): so no run that was let through then is refused when it joins.

    Args:
        plan: the run.
        folder: its work, whose manifest says what was read.
    """

    def __init__(self, plan: Plan, folder: WorkFolder) -> None:
        self._plan, self._folder = plan, folder
        self._files = files_of(plan.config)
        self._watched = {name: path for name, path in self._files.items() if path.is_file()}
        self._states: dict[str, str] = {}  # by name, of those that have been compared
        self._missing: set[str] = set()

    def glance(self) -> None:
        """Make sure that no file has been changed until now; one that is missing is a warning.

        See note [A source that changes].

        Raises:
            ChangedSourceError: one has been.
        """
        for name, path in self._watched.items():
            try:
                state = stat_line(path)
                now = None if state == self._states.get(name) else identity(path)
            except OSError as error:
                self._miss(name, path, error)
                continue
            self._missing.discard(name)
            if now is not None:
                self._compare(name, path, now)
            self._states[name] = state

    def check(self) -> None:
        """Make sure that nothing has changed: other streams are about to be read from it.

        Raises:
            ChangedSourceError: something has.
            SourceError: it cannot be read again.
            SinkError: the work folder cannot be read or written.
        """
        for name, path in self._files.items():
            try:
                now = identity(path)
            except OSError as error:
                raise SourceError(f"{path}: cannot be read again: {error.strerror}") from error
            self._compare(name, path, now)
        if changed := changed_picture(self._plan, self._folder):
            words = f"{changed} has changed since it was enlarged"
            raise self._refusal(self._plan.config.input, words)

    def _miss(self, name: str, path: Path, error: OSError) -> None:
        if name not in self._missing:
            self._missing.add(name)
            logger.warning(
                "%s: cannot be found any more (%s): it must be back when the last frame is done",
                path, error.strerror,
            )  # fmt: skip

    def _compare(self, name: str, path: Path, now: str) -> None:
        before = self._folder.manifest.settings.get(name, "")
        if changed := changes({name: before}, {name: now}, {name: path}):
            raise self._refusal(path, changed)

    def _refusal(self, path: Path, changed: str) -> ChangedSourceError:
        """An error that says what has changed, and what can be done about it."""
        said = f"{path}: was changed while it was read: {changed}"
        if finished := self._folder.frames:
            said += (
                f"; {finished} frames are finished: with all as it was --resume goes on, "
                "--restart throws that work away"
            )
        return ChangedSourceError(said)
