"""What is done to pictures ahead of the network, decided from the first of them."""

import logging
from itertools import takewhile
from typing import NamedTuple, Protocol

from vsr.config import FieldsConfig, SourceConfig
from vsr.frame import FieldOrder, PixelFormat
from vsr.orientation import Orientation
from vsr.sources.fields import Fields, examine, field_steps
from vsr.sources.filters import Step, parse_chain
from vsr.sources.hardware import download, layout_name
from vsr.sources.reader import Reader

__all__ = ["FieldWatch", "Note", "Steps", "choose_steps", "first_layout"]

_EXAMINED_FRAMES = 100
_EXAMINED_BYTES = 256 << 20
_FEWEST_EXAMINED = 32
"""Even if fewer frames are wanted, so that a trial says what the whole run would."""
_FLAGGED = 12
"""Frames with flags of fields, after those that were examined, that are no accident."""


class Note(Protocol):
    """Takes lines for the log and the record."""

    def __call__(self, *lines: str, level: int = logging.INFO) -> None:
        """Take ``lines``, each of which is told once."""


class Layout(NamedTuple):
    """What all frames of a reader are made to have."""

    width: int
    height: int
    name: str
    """FFmpeg's name of the pixel format as it is decoded."""


class Steps(NamedTuple):
    """What is done to the pictures, and what that was decided from."""

    chain: list[Step]
    fields: Fields | None
    """What was seen of interlacing in the first frames; None if nobody looked."""


def first_layout(reader: Reader) -> Layout:
    """How the first frame of ``reader`` lies in memory."""
    first = reader.peek(1, 1)[0].frame
    return Layout(first.width, first.height, layout_name(first))


def choose_steps(reader: Reader, config: SourceConfig, native: PixelFormat, note: Note) -> Steps:
    """Fields made whole, the container's cropping, and the filters that are asked for, in turn.

    Args:
        reader: where the frames come from; none has been taken yet.
        config: what is wanted.
        native: what the first frame is converted to.
        note: takes a line for each decision.

    Raises:
        ConfigError: the frames are interlaced and nothing was chosen to be done, or the filters
            cannot be parsed.
    """
    chain: list[Step] = []
    fields: Fields | None = None
    if config.fields is not None and not _is_plain_still(reader, config.fields):
        fields = _look_at_fields(reader, config)
        if fields is not None:
            chain += _field_steps(reader, config, config.fields, fields, note)
    if config.crop:
        combed = fields is not None and fields.is_combed
        chain += _cropping(reader, native, note, combed=combed and not chain)
    if config.filters:
        chain += _as_it_is_seen(reader, parse_chain(config.filters), note)
    return Steps(chain, fields)


def _is_plain_still(reader: Reader, config: FieldsConfig) -> bool:
    return reader.facts.is_still and config == FieldsConfig()


def _look_at_fields(reader: Reader, config: SourceConfig) -> Fields | None:
    """What the first frames show; None if nothing depends on it and it would have to be awaited.

    A pipe may be live. Frames that are taken as they are need nothing else, but for a crop, which
    would keep pairs of lines together.
    """
    stated = config.input.field_order == FieldOrder.PROGRESSIVE
    as_they_are = FieldsConfig(progressive=True), *([FieldsConfig()] if stated else [])
    is_cut = config.crop and any(reader.facts.cropping)
    if reader.facts.is_awaited and config.fields in as_they_are and not is_cut:
        return None
    wanted = _EXAMINED_FRAMES
    if config.frames is not None:
        wanted = min(wanted, max(config.frames, _FEWEST_EXAMINED))
    frames = [timed.frame for timed in reader.peek(wanted, _EXAMINED_BYTES)]
    layout = first_layout(reader)
    alike = takewhile(lambda f: (f.width, f.height, layout_name(f)) == layout, frames)
    facts = reader.facts
    return examine([download(frame) for frame in alike], facts.rate, flagged=facts.flags_fields)


def _field_steps(
    reader: Reader, config: SourceConfig, wanted: FieldsConfig, fields: Fields, note: Note
) -> list[Step]:
    stated = config.input.field_order
    if stated is None and reader.facts.states_fields:
        stated = _whole_by_word(reader, fields, note)
    steps, notes = field_steps(reader.name, fields, reader.facts.rate, stated, wanted)
    note(*notes)
    return steps


def _whole_by_word(reader: Reader, fields: Fields, note: Note) -> FieldOrder | None:
    """That frames are whole, if their maker says so; what was enlarged may look combed."""
    if reader.field_order(reader.peek(1, 1)[0].frame) != FieldOrder.PROGRESSIVE:
        return None
    if fields.is_combed:
        note(f"fields: the script says that its frames are whole ({fields.describe()})")
    return FieldOrder.PROGRESSIVE


def _cropping(reader: Reader, native: PixelFormat, note: Note, *, combed: bool) -> list[Step]:
    """The container's cropping, outwards to whole chroma samples (and pairs of fields)."""
    top, bottom, left, right = reader.facts.cropping
    width, height, _ = first_layout(reader)
    if not (top or bottom or left or right) or left + right >= width or top + bottom >= height:
        return []
    across = 1 << native.chroma_w
    down = (1 << native.chroma_h) * (2 if combed else 1)
    x, y = left - left % across, top - top % down
    columns = -(-(width - right) // across) * across - x
    rows = -(-(height - bottom) // down) * down - y
    note(
        f"the container's cropping is applied: {width}x{height} becomes {columns}x{rows}"
        " (--no-crop keeps all)"
    )
    return [("crop", f"w={columns}:h={rows}:x={x}:y={y}:exact=1")]


def _as_it_is_seen(reader: Reader, steps: list[Step], note: Note) -> list[Step]:
    """``steps`` on the picture upright, which then lies as it did."""
    matrix = reader.display_matrix(reader.peek(1, 1)[0].frame)
    turn = None if matrix is None else Orientation.parse(matrix)
    if turn is None or turn.upright:
        return steps
    note("filters get the picture upright, as it is seen")
    swap: list[Step] = [("transpose", "0")] if turn.transposed else []
    mirror: list[Step] = [("vflip", "")] if turn.reversed_rows else []
    mirror += [("hflip", "")] if turn.reversed_columns else []
    return [*swap, *mirror, *steps, *mirror, *swap]


class FieldWatch:
    """Says once that frames are no longer whole that were found to be, and where that began.

    Args:
        reader: where the frames come from.
        config: what is wanted of them.
        fields: what was seen in the first ones.
        note: takes the line.
    """

    def __init__(
        self, reader: Reader, config: SourceConfig, fields: Fields | None, note: Note
    ) -> None:
        self._note = note
        self._flagged_at: list[float] = []
        self._trusts_frames = (
            fields is not None
            and not fields.is_combed
            and config.fields == FieldsConfig()
            and config.input.field_order is None
            and reader.facts.flags_fields
        )

    def see_flagged(self, seconds: float) -> None:
        """Count a frame that is flagged as interlaced, at ``seconds`` from the start."""
        if len(self._flagged_at) == _FLAGGED or not self._trusts_frames:
            return
        self._flagged_at.append(seconds)
        if len(self._flagged_at) == _FLAGGED:
            self._note(
                f"frames are flagged interlaced from {self._flagged_at[0]:.2f} s on, and were not"
                " at the beginning: they are enlarged as they are; -ss and -to take a part,"
                " --deinterlace and --progressive choose for all",
                level=logging.WARNING,
            )
