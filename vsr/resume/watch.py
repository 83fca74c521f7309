"""Whether what a run reads is, while it works, still what its work was begun with."""

from pathlib import Path

from vsr.errors import ChangedSourceError, SourceError
from vsr.planning import Plan
from vsr.resume.matching import changed_picture
from vsr.resume.settings import changes, files_of, identity
from vsr.resume.work import WorkFolder

__all__ = ["InputWatch"]


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

    def check(self) -> None:
        """Make sure that nothing has changed: other streams are about to be read from it.

        Raises:
            ChangedSourceError: something has.
            SourceError: it cannot be read again.
            SinkError: the work folder cannot be read or written.
        """
        for name, path in self._files.items():
            self._compare(name, path)
        if changed := changed_picture(self._plan, self._folder):
            words = f"{changed} has changed since it was enlarged"
            raise self._refusal(self._plan.config.input, words)

    def _compare(self, name: str, path: Path) -> None:
        try:
            now = identity(path)
        except OSError as error:
            raise SourceError(f"{path}: cannot be read again: {error.strerror}") from error
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
