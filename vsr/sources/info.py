"""What a source will hand out, as far as that is known before its frames."""

import logging
from collections.abc import Iterator
from fractions import Fraction
from math import ceil

from av.sidedata.sidedata import Type as SideDataType

from vsr.config import SourceConfig
from vsr.frame import FieldOrder, VideoInfo
from vsr.immersive import Immersive
from vsr.sources.planes import native_format
from vsr.sources.reader import InputFacts, Reader
from vsr.sources.stage import PictureStage
from vsr.sources.steps import Note

__all__ = ["video_info"]


def video_info(reader: Reader, stage: PictureStage, config: SourceConfig, note: Note) -> VideoInfo:
    """The stream, from its first frame and the first that comes out of the filters.

    Args:
        reader: where the frames come from.
        stage: what they go through.
        config: which part of the input is wanted, and what is done to it.
        note: takes a line for each thing that is dropped, and for each guess.
    """
    facts, shape = reader.facts, stage.shape
    rate = shape.rate or facts.rate
    frames, duration = _expected_length(facts, config, rate)
    hdr, lost = reader.hdr(stage.first)
    immersive, unread = _immersive(reader, stage)
    unseen = [*_unseen_alpha(facts, stage), *_active_format(facts, stage)]
    note(*lost, *unread, *unseen, level=logging.WARNING)
    return VideoInfo(
        width=shape.width, height=shape.height, format=stage.format,
        colour=stage.colour_of(stage.first_picture),
        time_base=shape.time_base, rate=rate,
        rate_is_guess=facts.rate_is_guess and rate == facts.rate, frames=frames,
        duration=duration, sar=shape.sar,
        display_matrix=stage.display_matrix, field_order=_field_order(reader, stage, config),
        icc=facts.icc, hdr=hdr, immersive=immersive, codec=facts.codec,
    )  # fmt: skip


def _immersive(reader: Reader, stage: PictureStage) -> tuple[Immersive | None, list[str]]:
    """Of what comes out of the filters; none if they may have moved what it is said of."""
    found, notes = reader.immersive(stage.first)
    if found is None or not stage.moves:
        return found, notes
    why = f"filters change what it is said of ({', '.join(stage.moves)})"
    return None, [*notes, *(f"the description of {part} is dropped: {why}" for part in found.parts)]


def _expected_length(
    facts: InputFacts, config: SourceConfig, rate: Fraction
) -> tuple[int | None, Fraction | None]:
    """Frames and seconds that will come out, as far as the input says.

    Args:
        facts: what the input says of its whole length.
        config: which part of it is wanted.
        rate: nominal frames per second of what comes out, behind filters.
    """
    length, count = facts.length, facts.count
    if length is not None and config.start and config.start >= length:
        length = count = None  # recordings that were joined: the header knows the first
    if count is not None and rate != facts.rate:
        count = round(count * rate / facts.rate)
    if length is not None and (config.start or config.end is not None):
        start, end = config.start or Fraction(0), config.end
        if end is None or end >= length:
            end, last = length, round(length * rate)
        else:
            last = _before(end, rate)
        count, length = max(1, last - _before(start, rate)), max(end - start, Fraction(0))
    elif count is None and length is not None:
        count = max(1, round(length * rate))
    if config.frames is not None and (count is None or count > config.frames):
        count, length = config.frames, config.frames / rate
    return count, length


def _before(time: Fraction, rate: Fraction) -> int:
    """How many frames of an even ``rate`` begin before ``time``, which may be rounded."""
    return ceil(time * rate - Fraction(1, 100))


def _unseen_alpha(facts: InputFacts, stage: PictureStage) -> Iterator[str]:
    """A line if the container says that there is alpha, and none was decoded.

    VP8 and VP9 have it as a second picture beside the first, of which libvpx decodes 8 bits.
    """
    if facts.claims_alpha and not native_format(stage.first).alpha:
        yield f"alpha is dropped: the decoder of {facts.codec} does not see it"


def _active_format(facts: InputFacts, stage: PictureStage) -> Iterator[str]:
    """A line if the video says which part of its picture is used (AFD, SMPTE ST 2016-1)."""
    if facts.has_side_data and SideDataType.AFD in stage.first.side_data:
        code = bytes(stage.first.side_data[SideDataType.AFD])[0]
        yield f"the active format description ({code}) is dropped: no encoder here writes it"


def _field_order(reader: Reader, stage: PictureStage, config: SourceConfig) -> FieldOrder:
    """Of the frames that are handed on."""
    fields, stated = config.fields, config.input.field_order
    if fields is not None and (fields.deinterlace or fields.ivtc):
        return FieldOrder.PROGRESSIVE
    if stated is not None:
        return stated
    tagged = reader.field_order(stage.first)
    if tagged or stage.fields is None or not stage.fields.is_combed:
        return tagged
    return stage.fields.order
