"""The file whose other streams go beside the pictures, and where in time the two meet."""

from __future__ import annotations  # av's generic classes are generic in the stubs only

from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from vsr.config import SourceConfig
from vsr.encoding.streams import Timecode, timecode_of
from vsr.sources.companion import Companion
from vsr.sources.reader import InputFacts, Reader

__all__ = ["Beside", "open_beside"]


@dataclass(slots=True)
class Beside:
    """What goes beside the pictures of a reader."""

    companion: Companion | None = None
    """The file, with its trim set; None if the other streams are those of the input."""
    delay: int = 0
    """By how much the pictures come later than by the reader's clock, in its time base."""
    notes: list[str] = field(default_factory=list)
    """A line for each decision."""


def open_beside(path: Path, config: SourceConfig, reader: Reader) -> Beside:
    """Open the file whose other streams are copied, if that is not what ``reader`` reads.

    Raises:
        SourceError: the file is missing, or no media file.
        ConfigError: it is standard input, which the pictures may need.
    """
    if config.audio_from is not None:
        beside = Beside(Companion(config.audio_from, self_contained=config.input.self_contained))
    elif config.decoder == "bestsource":
        beside = Beside(Companion(path, config.input.video_stream))
    elif reader.facts.sound is not None:
        beside = Beside(Companion(path, sound=reader.facts.sound))
    else:
        return Beside()
    assert beside.companion is not None
    beside.companion.timecode = _timecode(reader)
    try:
        _trim(beside, beside.companion, config, reader.facts)
    except BaseException:
        beside.companion.close()
        raise
    return beside


def _timecode(reader: Reader) -> Timecode | None:
    if reader.container is None or reader.stream is None:
        return None
    facts, text = reader.facts, timecode_of(reader.container, reader.stream)
    return Timecode(text, facts.rate, facts.skipped - facts.lead) if text else None


def _trim(beside: Beside, companion: Companion, config: SourceConfig, facts: InputFacts) -> None:
    if config.audio_from is not None:
        _align(beside, companion, facts)
    end = None if config.end is None else config.end + beside.delay * facts.time_base
    cut_short = config.end is not None or config.frames is not None
    companion.trim(facts.skipped, end, cut_short=cut_short)
    if config.audio_from is not None and facts.has_other_streams:
        beside.notes.append(f"other streams come from {companion.name}, not from the input")


def _align(beside: Beside, companion: Companion, facts: InputFacts) -> None:
    """Let the first picture of the input stand for the first one of ``companion``.

    In a file the picture may begin after the sound; of frames that have gone through a pipe, a
    script or files of their own nobody can see that any more. So the pictures are delayed; if a
    part is wanted, or they are what begins too late, the companion moves instead.
    """
    if companion.lead is None:
        return
    late = companion.lead - facts.lead
    if late <= 0 or facts.skipped > 0:
        companion.begin += late
        return
    beside.delay = ceil(late / facts.time_base)
    companion.begin -= beside.delay * facts.time_base - late
    beside.notes.append(
        f"the first picture of {companion.name} comes {float(late):.3f} s after its start,"
        " and so does ours"
    )
