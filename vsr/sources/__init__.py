"""Where frames come from: everything that is an iterable of :class:`vsr.frame.Frame`."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from vsr.checking import file_name
from vsr.config import SourceConfig
from vsr.places import anchored
from vsr.sources.companion import Companion
from vsr.sources.report import SourceReport
from vsr.sources.video import VideoSource

__all__ = ["Companion", "SourceConfig", "SourceReport", "VideoSource", "open_source"]


def open_source(
    path: str | Path,
    config: SourceConfig | None = None,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    frames: int | None = None,
    threads: int | None = None,
) -> VideoSource:
    """Open a media file, a pipe, pictures, or a VapourSynth script as a source of frames.

    A script is a program, and runs: do not open a ``.vpy`` of unknown origin.

    Args:
        path: a file, ``-`` for standard input, a picture, a folder, pattern or glob of pictures.
        config: what is done to the pictures; what else is given here overrules it.
        start: skip to this position, in seconds from the start of the file.
        end: stop at this position, in seconds from the start of the file.
        frames: stop after this many frames.
        threads: threads of the decoder; None means up to 4.

    Returns:
        A context manager, iterable once; ``.info`` describes the stream.

    Raises:
        SourceError: the file is missing, is no media file, or holds no video that decodes.
        ConfigError: ``path`` cannot be a name; ``config`` asks to look for interlaced frames, there
            are some, and it does not say what to do with them; or a filter is refused.
    """
    config = config or SourceConfig()
    config = replace(
        config,
        start=config.start if start is None else start,
        end=config.end if end is None else end,
        frames=config.frames if frames is None else frames,
        threads=config.threads if threads is None else threads,
    )
    if config.audio_from is not None:
        config = replace(config, audio_from=anchored(config.audio_from))
    return VideoSource(anchored(file_name("path", path)), config)
