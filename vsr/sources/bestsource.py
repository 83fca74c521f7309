"""Media files through the VapourSynth plugin BestSource, which lists all frames beforehand."""

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import vapoursynth as vs  # type: ignore[import-untyped]

from vsr.config import InputConfig
from vsr.errors import SourceError
from vsr.sources import describe
from vsr.sources.environment import make_environment
from vsr.sources.opening import choose_stream, open_container
from vsr.sources.script import Clip, Facts, check_constant, telling_line

__all__ = ["open_bestsource"]

_log = logging.getLogger(__name__)
_UNKNOWN = -(1 << 63)
"""FFmpeg's ``AV_NOPTS_VALUE``."""
_ASKED = ("clip", "timebasenum", "timebaseden", "timestamps")


def open_bestsource(path: Path) -> Clip:
    """A media file through the plugin BestSource, which indexes it and decodes by frame number.

    Pictures are not rotated, and timestamps are those of the file.

    Raises:
        SourceError: the plugin is missing, or cannot read the file.
        UnsupportedFormatError: the size or format varies.
    """
    index, codec, facts, begin = _look(path)
    _log.info("%s: BestSource decodes the file once to list its frames", path.name)
    environment = make_environment()
    try:
        with environment.use():
            found = _open(path, index)
            check_constant(path, found["clip"])
        times = tuple(None if t == _UNKNOWN else int(t) for t in found["timestamps"])
        base = Fraction(found["timebasenum"], found["timebaseden"])
        if begin is None:
            begin = min((time for time in times if time is not None), default=0) * base
        return Clip(
            node=found["clip"], environment=environment, codec=codec,
            facts=replace(facts, begin=begin), notes=["the file is decoded by BestSource"],
            times=times, time_base=base,
        )  # fmt: skip
    except BaseException:
        environment.close()
        raise


def _open(path: Path, index: int) -> dict[str, Any]:
    if not hasattr(vs.core, "bs"):
        raise SourceError(
            f"{path}: the VapourSynth plugin BestSource is not installed:"
            " pip install 'vsr[bestsource]'"
        )
    try:  # the index is not kept: nothing is written beside the user's files
        found = vs.core.bs.VideoSource(
            str(path), track=index, cachemode=0, apply_rotation=0, exporttimestamps=1,
            showprogress=0,
        )  # fmt: skip
    except vs.Error as error:
        raise SourceError(f"{path}: {telling_line(error)}") from None
    if not isinstance(found, dict) or not all(name in found for name in _ASKED):
        raise SourceError(f"{path}: this BestSource gives no timestamps: version 22 is needed")
    return found


def _look(path: Path) -> tuple[int, str, Facts, Fraction | None]:
    """Number and codec of the video stream, what BestSource does not hand on, and the start."""
    with open_container(path, InputConfig()) as container:
        stream, _ = choose_stream(container, str(path))
        context = stream.codec_context
        matrix = context.coded_side_data.get("display_matrix")
        facts = Facts(
            tags=describe.context_colour(stream), sar=describe.sample_aspect(stream),
            cropping=describe.cropping(stream),
            display_matrix=None if matrix is None else bytes(matrix),
        )  # fmt: skip
        begin = describe.container_start(container)
        return stream.index, str(context.codec.canonical_name), facts, begin
