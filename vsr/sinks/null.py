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

    def _finish(self) -> None:
        """There is no file."""

    def _keep_partial(self) -> None:
        """There is no file."""

    def _abort(self) -> None:
        """Nothing is there to delete."""
