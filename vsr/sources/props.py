"""What VapourSynth's frame properties say, in our own terms.

Names and meanings are those of VapourSynth's documentation ("Reserved Frame Properties"); colour
is numbered as in H.273. A script may set a property to anything: what is no number, or none that
can be meant, counts as not set.

Note [The property that ends the process]
    VapourSynth R74 and later keep ``_ColorRange`` as ``_Range``, and compute the old name from the
    new one when it is read. If the new one then is no 0 or 1 (a script wrote ``_Range=0.5``), R81
    calls ``terminate``, which no ``except`` catches. So the old name is read only where the new one
    is missing.
"""

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from vsr.frame import Colour, FieldOrder, Matrix, Range, Siting
from vsr.hdr import (
    CHROMATICITY_UNITS,
    LUMINANCE_UNITS,
    HdrMetadata,
    parse_content_light,
    parse_mastering_display,
)
from vsr.rationals import LARGEST

__all__ = [
    "colour_of",
    "duration_of",
    "field_order_of",
    "hdr_of",
    "rate_of",
    "read_props",
    "sample_aspect_of",
]

Props = Mapping[str, Any]

_SITINGS = (
    Siting.LEFT, Siting.CENTRE, Siting.TOP_LEFT, Siting.TOP, Siting.BOTTOM_LEFT, Siting.BOTTOM,
)  # fmt: skip
_FIELDS = (FieldOrder.PROGRESSIVE, FieldOrder.BB, FieldOrder.TT)
_SHORTEST, _LONGEST = Fraction(1, 1_000_000), Fraction(86_400)
"""Seconds that a frame may last; beyond, its time would not fit FFmpeg's time bases."""
_DROPPED = {"HDR10Plus": "HDR10+ dynamic metadata", "DolbyVisionRPU": "Dolby Vision metadata"}


def read_props(props: Props) -> dict[str, Any]:
    """A copy of the properties of a frame; see Note [The property that ends the process]."""
    return {name: value for name in props if (value := _readable(props, name)) is not None}


def _readable(props: Props, name: str) -> Any:  # noqa: ANN401
    return None if name == "_ColorRange" and "_Range" in props else props.get(name)


def colour_of(props: Props, *, subsampled: bool) -> Colour:
    """Colour tags of a frame; ``subsampled`` says whether its chroma has a position at all."""
    siting = _whole(props, "_ChromaLocation", -1) if subsampled else -1
    matrix = "_Matrix" if "_Matrix" in props else "_ColorSpace"  # what mpv still calls it
    return Colour(
        matrix=_code_point(props, matrix, Matrix.UNSPECIFIED), range=_range(props),
        primaries=_code_point(props, "_Primaries", 2), transfer=_code_point(props, "_Transfer", 2),
        siting=_SITINGS[siting] if 0 <= siting < len(_SITINGS) else Siting.UNSPECIFIED,
    )  # fmt: skip


def _whole(props: Props, name: str, missing: int) -> int:
    value = props.get(name)
    return value if isinstance(value, int) else missing


def _code_point(props: Props, name: str, unspecified: int) -> int:
    """A number of H.273, which are bytes."""
    value = _whole(props, name, unspecified)
    return value if 0 <= value <= 0xFF else unspecified


def _range(props: Props) -> Range:
    """``_Range`` (1: full) since R74; before, ``_ColorRange`` with the numbers swapped."""
    for name, full in (("_Range", 1), ("_ColorRange", 0)):
        if (value := _readable(props, name)) in (0, 1):
            return Range.FULL if value == full else Range.LIMITED
    return Range.UNSPECIFIED


def field_order_of(props: Props) -> FieldOrder:
    """``_FieldBased``; unknown if it is not there."""
    value = _whole(props, "_FieldBased", -1)
    return _FIELDS[value] if 0 <= value < len(_FIELDS) else FieldOrder.UNKNOWN


def sample_aspect_of(props: Props) -> Fraction | None:
    """Sample aspect ratio, None if unknown."""
    ratio = _ratio(props, "_SARNum", "_SARDen")
    too_large = ratio is not None and max(ratio.numerator, ratio.denominator) > LARGEST
    return None if too_large else ratio


def duration_of(props: Props) -> Fraction | None:
    """Seconds that a frame is shown, None if it does not say."""
    return _plausible(_ratio(props, "_DurationNum", "_DurationDen"))


def rate_of(fps: Fraction | None) -> Fraction | None:
    """A clip's own frames a second, None if it has none that can be."""
    return 1 / step if fps and (step := _plausible(1 / Fraction(fps))) else None


def _plausible(seconds: Fraction | None) -> Fraction | None:
    return seconds if seconds is not None and _SHORTEST <= seconds <= _LONGEST else None


def _ratio(props: Props, numerator: str, denominator: str) -> Fraction | None:
    above, below = _whole(props, numerator, 0), _whole(props, denominator, 0)
    return Fraction(above, below) if above > 0 and below > 0 else None


def hdr_of(props: Props) -> tuple[HdrMetadata | None, list[str]]:
    """Static HDR metadata as BestSource and FFMS2 name them, and a line for what is dropped."""
    notes = [f"{label} is dropped" for name, label in _DROPPED.items() if name in props]
    mastering = light = None
    try:
        if (data := _mastering(props)) is not None:
            mastering = parse_mastering_display(data)
    except (ValueError, TypeError, OverflowError, struct.error) as error:
        notes.append(f"mastering display metadata of the frames is ignored: {error}")
    try:
        if "ContentLightLevelMax" in props:
            levels = (props["ContentLightLevelMax"], props.get("ContentLightLevelAverage", 0))
            light = parse_content_light(struct.pack("<2I", *levels))
    except (ValueError, struct.error) as error:
        notes.append(f"content light level of the frames is ignored: {error}")
    known = HdrMetadata(mastering=mastering, light=light)
    return None if known == HdrMetadata() else known, notes


def _mastering(props: Props) -> bytes | None:
    """FFmpeg's ``AVMasteringDisplayMetadata`` of the properties; None if there are none."""
    across, down = _list(props, "PrimariesX"), _list(props, "PrimariesY")
    white = _list(props, "WhitePointX") + _list(props, "WhitePointY")
    brightness = _list(props, "MinLuminance") + _list(props, "MaxLuminance")
    if not (across or white or brightness):
        return None
    has_primaries = len(across) == len(down) == 3 and len(white) == 2
    has_luminance = len(brightness) == 2
    points = [v for pair in zip(across, down, strict=True) for v in pair] if has_primaries else []
    values = [
        *_rationals([*points, *white] if has_primaries else [0.0] * 8, CHROMATICITY_UNITS),
        *_rationals(brightness if has_luminance else [0.0] * 2, LUMINANCE_UNITS),
    ]
    return struct.pack("<22i", *values, has_primaries, has_luminance)


def _list(props: Props, name: str) -> list[float]:
    found = props.get(f"MasteringDisplay{name}", [])
    return [float(v) for v in found] if isinstance(found, Sequence) else [float(found)]


def _rationals(values: Sequence[float], unit: int) -> list[int]:
    return [part for value in values for part in (round(value * unit), unit)]
