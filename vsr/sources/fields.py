"""Are the frames whole, or two fields of different times, or film that was spread over fields?

The first frames are looked at before anything else is done: their flags, and their pictures through
libavfilter's ``idet``, which compares neighbouring lines and frames. Enlarging combed frames makes
detail of the combing, and nothing can take it out afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from av.video.frame import VideoFrame

from vsr.config import FieldsConfig
from vsr.errors import ConfigError
from vsr.frame import FieldOrder
from vsr.sources.filters import FilterChain, Geometry, Step

__all__ = ["Fields", "examine", "field_steps"]

Kind = Literal["progressive", "interlaced", "telecined"]

_ENOUGH = 5
"""Combed pictures below which flags alone count."""
_MOSTLY = 0.8
"""Share of the combed pictures that must agree on which field comes first."""
_REPEATED = 0.25
"""Share of the pictures with a field seen before: 2:3 pulldown makes two of five so."""
_FLAGGED = 0.1
"""Share of flagged frames from which a stream is taken for interlaced."""
_INTERLACED_LINES = (range(400, 621), range(1000, 1101))
_HIGHEST_RATE = 31
"""Interlaced video has 480, 486, 512, 576 or 1080 lines (perhaps cropped) and at most 30 frames a
second; elsewhere, what looks combed is a pattern."""

_FILM, _NTSC = Fraction(24000, 1001), Fraction(30000, 1001)
_UNEVEN = 0.01
"""Frames per second by which a rate that was measured may be off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What was seen in the first frames."""

    frames: int
    plausible: bool
    """Whether frames of this size and rate could be interlaced at all."""
    flagged: int
    """Frames that are marked as interlaced."""
    top: int
    """Pictures combed with the top field first, by their content."""
    bottom: int
    whole: int
    """Pictures that are not combed, by their content; the rest is undecided."""
    repeated: int
    """Pictures in which a field is that of the picture before."""
    flagged_top: int = 0
    """Of those that are marked as interlaced, the frames with the top field first."""

    @property
    def combed(self) -> int:
        """Pictures combed either way."""
        return self.top + self.bottom

    @property
    def kind(self) -> Kind:
        """The verdict: flags count as they are, content only where it is clear."""
        flagged = self.flagged > _FLAGGED * self.frames
        agreed = max(self.top, self.bottom) >= _MOSTLY * self.combed
        seen = self.combed >= _ENOUGH and agreed and (flagged or self.plausible)
        if (seen or flagged) and self.repeated >= _REPEATED * self.frames:
            return "telecined"
        return "interlaced" if flagged or (seen and self.combed > self.whole) else "progressive"

    @property
    def is_combed(self) -> bool:
        """Whether frames look like fields, of tape or of film."""
        return self.kind != "progressive"

    @property
    def order(self) -> FieldOrder:
        """Which field comes first by the pictures' content."""
        if self.combed < _ENOUGH:
            return FieldOrder.UNKNOWN
        if self.top >= _MOSTLY * self.combed:
            return FieldOrder.TT
        return FieldOrder.BB if self.bottom >= _MOSTLY * self.combed else FieldOrder.UNKNOWN

    @property
    def flags_are_right(self) -> bool:
        """Whether all frames are marked with the field order that the pictures show."""
        return self.flagged == self.frames and self.order_is_right

    @property
    def order_is_right(self) -> bool:
        """Whether those that are marked have the field order that the pictures show."""
        return self.flagged_top == {FieldOrder.TT: self.flagged, FieldOrder.BB: 0}.get(self.order)

    def describe(self) -> str:
        """What was seen, in words."""
        seen = [f"{self.flagged} of {self.frames} frames flagged interlaced"]
        if self.combed and (self.flagged or self.plausible):
            first = "top" if self.top >= self.bottom else "bottom"
            seen.append(f"{self.combed} look combed, {first} field first")
        if self.whole:
            seen.append(f"{self.whole} look progressive")
        if self.repeated:
            seen.append(f"{self.repeated} repeat a field")
        return ", ".join(seen)


def examine(frames: Sequence[VideoFrame], rate: Fraction, *, flagged: bool = True) -> Fields:
    """Look at the first frames of a stream.

    Args:
        frames: all of one size and format.
        rate: of them, a second.
        flagged: whether their flags speak of fields.
    """
    first = frames[0]
    given = Geometry(
        width=first.width, height=first.height, sar=None, time_base=Fraction(1, 1000), rate=None
    )
    # Luma alone: idet takes whole frames of 4:4:4 for combed. It is luma whatever matrix and curve
    # are, and swscale knows few of those.
    tags = "colorspace=unknown:color_primaries=unknown:color_trc=unknown"
    untold: list[Step] = [] if first.format.is_rgb else [("setparams", tags)]
    chain = FilterChain([*untold, ("format", "gray"), ("idet", "")], first, given)
    seen = [f for frame in (*frames, None) for f in chain.push(frame)]
    last = seen[-1].metadata if seen else {}

    def count(name: str) -> int:
        return round(float(last.get(f"lavfi.idet.{name}", "0")))

    count_flagged = sum(frame.interlaced_frame for frame in frames) if flagged else 0
    return Fields(
        frames=len(frames),
        plausible=rate <= _HIGHEST_RATE and any(first.height in r for r in _INTERLACED_LINES),
        flagged=count_flagged,
        flagged_top=_count_top_first(frames, given) if count_flagged else 0,
        top=count("multiple.tff"), bottom=count("multiple.bff"),
        whole=count("multiple.progressive"),
        repeated=count("repeated.top") + count("repeated.bottom"),
    )  # fmt: skip


def _count_top_first(frames: Sequence[VideoFrame], given: Geometry) -> int:
    """Frames that are marked as interlaced with the top field first; PyAV does not tell."""
    chain = FilterChain([("select", "eq(interlace_type,TOPFIRST)")], frames[0], given)
    return sum(1 for frame in (*frames, None) for _ in chain.push(frame))


def field_steps(
    name: str, fields: Fields, rate: Fraction, tagged: FieldOrder | None, config: FieldsConfig
) -> tuple[list[Step], list[str]]:
    """The filters that make whole frames, and a line for each decision.

    Args:
        name: the input in a message.
        fields: what was seen.
        rate: nominal frames per second.
        tagged: the field order that the user states, None if they do not.
        config: what the user chose to do.

    Raises:
        ConfigError: the frames are not whole, and nothing was chosen.
    """
    kind = _stated_kind(fields, tagged)
    if config.progressive:
        note = f"fields: frames are taken as they are ({fields.describe()})"
        return [], [note] if kind != "progressive" else []
    if config.deinterlace is None and not config.ivtc:
        if kind != "progressive":
            raise ConfigError(_refusal(name, kind, fields))
        return [], []
    return _filters(fields, rate, tagged, config, kind)


def _filters(
    fields: Fields, rate: Fraction, tagged: FieldOrder | None, config: FieldsConfig, kind: Kind
) -> tuple[list[Step], list[str]]:
    """The filters that were chosen, and a line for each decision."""
    order, how = _order(fields, tagged)
    notes = [f"fields: {fields.describe()}; {how}"]
    if config.flagged_only:
        notes.append("fields: frames that are not flagged interlaced stay as they are, as asked")
        right = tagged is None and fields.order_is_right
        return [_deinterlacer(config, FieldOrder.UNKNOWN if right else order)], notes
    # Flags that are right may change with the recording, as it goes on.
    trusted = tagged is None and fields.flags_are_right
    steps: list[Step] = []
    if order and not trusted:
        steps.append(("setfield", "tff" if order.top_first else "bff"))
    if config.ivtc:
        if fields.kind != "telecined":
            notes.append("fields: nothing looks telecined, and one frame of five goes as asked")
        return [*steps, *_inverse_telecine(order, rate)], notes
    if kind == "progressive":
        notes.append("fields: nothing looks interlaced, and the frames are deinterlaced as asked")
    return [*steps, _deinterlacer(config, FieldOrder.UNKNOWN)], notes


def _stated_kind(fields: Fields, tagged: FieldOrder | None) -> Kind:
    if tagged == FieldOrder.PROGRESSIVE:
        return "progressive"
    return "interlaced" if tagged and fields.kind == "progressive" else fields.kind


def _order(fields: Fields, tagged: FieldOrder | None) -> tuple[FieldOrder, str]:
    """The field order to set on every frame (UNKNOWN: leave what its flags say), and why."""
    if tagged is not None and tagged.interlaced:
        return tagged, f"{_words(tagged)}, as stated"
    if fields.order:
        return fields.order, f"{_words(fields.order)}, as the motion shows"
    return FieldOrder.UNKNOWN, "field order as flagged"


def _words(order: FieldOrder) -> str:
    return "top field first" if order.top_first else "bottom field first"


def _parity(order: FieldOrder) -> str:
    return "auto" if not order else "tff" if order.top_first else "bff"


def _deinterlacer(config: FieldsConfig, order: FieldOrder) -> Step:
    """The filter for fields of ``order``; UNKNOWN leaves that to the flags."""
    assert config.deinterlace is not None
    mode = "send_field" if config.field_rate else "send_frame"
    which = "interlaced" if config.flagged_only else "all"
    return config.deinterlace, f"mode={mode}:parity={_parity(order)}:deint={which}"


def _inverse_telecine(order: FieldOrder, rate: Fraction) -> list[Step]:
    """Match fields into film frames, mend what stays combed, drop one frame of five.

    The last counts frames and looks at no clock. So all frames come at one rate: where a disc goes
    over to soft telecine, or a recording has a hole, frames are repeated up to it. Those that begin
    with a field of their own lie half a frame off the others, and a quarter off what is rounded up
    or down.
    """
    parity, telecined = _parity(order), _telecined_rate(rate)
    return [
        ("setpts", f"PTS+{1 / telecined / 4}/TB"),
        ("fps", str(telecined)),
        ("fieldmatch", f"order={parity}:combmatch=full"),
        ("bwdif", "mode=send_frame:deint=interlaced"),
        ("decimate", ""),
    ]


def _telecined_rate(rate: Fraction) -> Fraction:
    """Frames per second of ``rate``, or that of video, where soft telecine makes it less."""
    if _FILM * 0.99 < rate < _NTSC and abs(rate - 25) > _UNEVEN:
        return Fraction(30) if rate == 24 else _NTSC
    return rate


def _refusal(name: str, kind: Kind, fields: Fields) -> str:
    options = "--deinterlace bwdif (with --field-rate: a frame for every field)"
    if kind == "telecined":
        options = f"--ivtc for the film's own frames, {options}"
    return (
        f"{name}: is {kind} ({fields.describe()}): choose {options},"
        " or --progressive to go on with the frames as they are"
    )
