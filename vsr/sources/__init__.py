"""Where frames come from: everything that is an iterable of :class:`vsr.frame.Frame`."""

from fractions import Fraction
from pathlib import Path

from vsr.sources.pyav import PyAVSource
from vsr.sources.report import SourceReport

__all__ = ["PyAVSource", "SourceReport", "open_source"]


def open_source(
    path: str | Path,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    frames: int | None = None,
    threads: int | None = None,
) -> PyAVSource:
    """Open a media file as a source of frames.

    Args:
        path: the file.
        start: skip to this position, in seconds from the start of the file.
        end: stop at this position, in seconds from the start of the file.
        frames: stop after this many frames.
        threads: threads of the decoder; None means up to 4.

    Returns:
        A context manager, iterable once; ``.info`` describes the stream.

    Raises:
        SourceError: the file is missing, is no media file, or holds no video that decodes.
    """
    return PyAVSource(Path(path), start=start, end=end, frames=frames, threads=threads)
