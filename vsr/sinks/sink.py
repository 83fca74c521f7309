"""What every sink is."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from vsr.frame import Frame, PixelFormat, VideoInfo

__all__ = ["Sink", "SinkContext", "check_frame"]


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

    def keep_broken(self) -> Path | None:
        """The same of an input that breaks off, so that nothing could ever follow."""

    def abort(self) -> None:
        """Delete what has been written; harmless after :meth:`finish`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class SinkContext:
    """How a sink ends: once, by hand or by its ``with`` statement.

    That finishes it, or aborts it on an error. A sink itself says what is done then: ``_finish``,
    ``_keep_partial``, and ``_abort``, which may be called again, and after either of the others.
    """

    _closed = _completed = False
    _result: Path | None = None

    @property
    def is_closed(self) -> bool:
        """Whether it has been finished or aborted by hand."""
        return self._closed

    def finish(self) -> Path | None:
        """Complete the output and give it its name; harmless if done before.

        Returns:
            Its name; None if there is no file, as of a pipe.

        Raises:
            SinkError: writing failed.
            ReaderGone: nobody reads the pipe.
            ValueError: it has been aborted, or could not be completed before.
        """
        return self._complete(self._finish)

    def keep_partial(self) -> Path | None:
        """Complete what there is, under a name that says so: ``out.partial.mp4``.

        Result and errors are those of :meth:`finish`.
        """
        return self._complete(self._keep_partial)

    def keep_broken(self) -> Path | None:
        """What :meth:`keep_partial` does, unless the sink knows of a difference."""
        return self._complete(self._keep_broken)

    def abort(self) -> None:
        """Delete what has been written; harmless after :meth:`finish`."""
        self._closed = True
        self._abort()

    def _complete(self, complete: Callable[[], Path | None]) -> Path | None:
        if not self._completed:
            if self._closed:
                raise ValueError("the sink has been closed")
            self._closed = True
            self._result = complete()
            self._completed = True
        return self._result

    def _finish(self) -> Path | None:
        raise NotImplementedError

    def _keep_partial(self) -> Path | None:
        raise NotImplementedError

    def _keep_broken(self) -> Path | None:
        return self._keep_partial()

    def _abort(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.abort()
        elif not self.is_closed:
            self.finish()


def check_frame(frame: Frame, format: PixelFormat, info: VideoInfo) -> None:
    """Make sure that ``frame`` is what a sink for ``info`` in ``format`` was opened for.

    Raises:
        ValueError: it is not, or not in main memory.
    """
    size, wanted = (frame.width, frame.height), (info.width, info.height)
    if frame.format != format or size != wanted:
        raise ValueError(
            f"frame is {frame.format.name} {size[0]}x{size[1]}, the sink was opened for "
            f"{format.name} {wanted[0]}x{wanted[1]}"
        )
    if any(plane.device.type != "cpu" for plane in frame.planes):
        raise ValueError("frame is not in main memory")
