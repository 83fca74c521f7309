"""Media files through the VapourSynth plugin BestSource, which lists all frames beforehand."""

import logging
import os
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import vapoursynth as vs  # type: ignore[import-untyped]
from av.video.frame import VideoFrame

from vsr.config import InputConfig
from vsr.errors import SourceError
from vsr.ffmpeg import known_fraction
from vsr.sources import describe
from vsr.sources.environment import make_environment
from vsr.sources.opening import open_container
from vsr.sources.script import Clip, ContainerFacts, check_constant
from vsr.sources.script_errors import telling_line
from vsr.sources.siting import meaning_of_left
from vsr.sources.stream_choice import choose_stream

__all__ = ["open_bestsource"]

logger = logging.getLogger(__name__)
_UNKNOWN = -(1 << 63)
"""FFmpeg's ``AV_NOPTS_VALUE``."""
_ASKED = ("clip", "timebasenum", "timebaseden", "timestamps")


def open_bestsource(path: Path, config: InputConfig | None = None) -> Clip:
    """A media file through the plugin BestSource, which indexes it and decodes by frame number.

    Pictures are not rotated, and timestamps are those of the file.

    Args:
        path: the file.
        config: which of its video streams, and whether it may name other files.

    Raises:
        SourceError: the plugin is missing, or cannot read the file.
        UnsupportedFormatError: the size or format varies.
    """
    seen = _look(path, config or InputConfig())
    logger.info("%s: BestSource decodes the file once to list its frames", path.name)
    environment = make_environment(path)
    try:
        with environment.use():
            found = _open(path, seen.index)
            check_constant(path, found["clip"])
        times = tuple(None if t == _UNKNOWN else int(t) for t in found["timestamps"])
        base = Fraction(found["timebasenum"], found["timebaseden"])
        first = min((time for time in times if time is not None), default=0) * base
        begin = first if seen.begin is None else seen.begin
        return Clip(
            node=found["clip"], environment=environment, codec=seen.codec,
            facts=replace(seen.facts, begin=begin), notes=_notes(seen, found["clip"], first),
            times=times, time_base=base,
        )  # fmt: skip
    except BaseException:
        environment.close()
        raise


def _notes(seen: "_Stream", node: Any, first: Fraction) -> list[str]:  # noqa: ANN401
    """What BestSource does on its own, of which it says nothing."""
    notes = ["the file is decoded by BestSource", *seen.notes]
    if (node.width, node.height) != seen.size:
        width, height = seen.size
        notes.append(f"BestSource cuts the picture: {width}x{height} to {node.width}x{node.height}")
    if seen.start is not None and first > seen.start:
        late = float(first - seen.start)
        notes.append(f"BestSource leaves out what lies before its first frame, {late:.3f} s")
    return notes


def _open(path: Path, index: int) -> dict[str, Any]:
    if not hasattr(vs.core, "bs"):
        raise SourceError(
            f"{path}: the VapourSynth plugin BestSource is not installed:"
            " pip install vapoursynth-bestsource"
        )
    try:  # the index is not kept: nothing is written beside the user's files
        found = vs.core.bs.VideoSource(
            os.fspath(path), track=index, cachemode=0, apply_rotation=0, exporttimestamps=1,
            showprogress=0,
        )  # fmt: skip
    except vs.Error as error:
        raise SourceError(f"{path}: {telling_line(error)}") from None
    if not isinstance(found, dict) or not all(name in found for name in _ASKED):
        raise SourceError(f"{path}: this BestSource gives no timestamps: version 22 is needed")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    """What FFmpeg knows of the video stream without decoding it."""

    index: int
    codec: str
    size: tuple[int, int]
    begin: Fraction | None
    """Where the file starts, in seconds, if it says."""
    start: Fraction | None
    """Where the stream does."""
    facts: ContainerFacts
    notes: list[str]


def _look(path: Path, config: InputConfig) -> _Stream:
    """The video stream, and what BestSource does not hand on."""
    with open_container(path, config) as container:
        stream, notes = choose_stream(container, str(path), config.video_stream)
        context = stream.codec_context
        matrix = context.coded_side_data.get("display_matrix")
        no_frame = VideoFrame(16, 16, "gray")
        hdr, lost = describe.hdr_metadata(stream, no_frame)
        immersive, unread = describe.immersive(stream, no_frame)
        tags = describe.context_colour(stream)
        facts = ContainerFacts(
            tags=tags, left_means=meaning_of_left(stream, tags.siting),
            sar=describe.sample_aspect(stream), cropping=describe.cropping(stream), hdr=hdr,
            display_matrix=None if matrix is None else bytes(matrix), immersive=immersive,
        )  # fmt: skip
        base, start = known_fraction(stream.time_base), stream.start_time
        return _Stream(
            index=stream.index, codec=str(context.codec.canonical_name),
            size=(context.width, context.height), begin=describe.container_start(container),
            start=None if base is None or start is None else start * base, facts=facts,
            notes=[*notes, *lost, *unread],
        )  # fmt: skip
