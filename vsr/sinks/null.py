"""A sink that counts frames and keeps nothing: ``-f null -``, for timing."""

from vsr.frame import Frame
from vsr.sinks.sink import SinkContext

__all__ = ["NullSink"]


class NullSink(SinkContext):
    """Discards the picture."""

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
