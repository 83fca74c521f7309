"""A sink that counts frames and keeps nothing: ``-f null -``, for timing."""

from types import TracebackType
from typing import Self

from vsr.frame import Frame

__all__ = ["NullSink"]


class NullSink:
    """Discards the picture; same methods as :class:`vsr.sinks.pyav.PyAVSink`."""

    def __init__(self) -> None:
        self.frames = 0
        """Frames written so far."""
        self.notes: list[str] = []

    def write(self, frame: Frame) -> None:
        """Count ``frame``."""
        self.frames += 1

    def finish(self) -> None:
        """There is no file: returns None."""

    def keep_partial(self) -> None:
        """There is no file: returns None."""

    def abort(self) -> None:
        """Nothing is there to delete."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to close."""
