"""What every sink is."""

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from vsr.frame import Frame

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes frames in order; its output is complete under its final name, or not there."""

    @property
    def notes(self) -> list[str]:
        """One line for everything that was lost or repaired; complete after :meth:`finish`."""

    @property
    def frames(self) -> int:
        """Frames written so far."""

    def write(self, frame: Frame) -> None:
        """Take one frame.

        Raises:
            SinkError: writing failed, e.g. the disk is full.
        """

    def finish(self) -> Path | None:
        """Complete the output and give it its name; returns it, None if there is no file.

        Raises:
            SinkError: writing failed; nothing is left.
        """

    def keep_partial(self) -> Path | None:
        """Complete what there is, under a name that says so."""

    def abort(self) -> None:
        """Delete what has been written; harmless after :meth:`finish`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
