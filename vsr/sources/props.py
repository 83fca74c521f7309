"""What VapourSynth's frame properties say, in our own terms.

Names and meanings are those of VapourSynth's documentation ("Reserved Frame Properties"); colour
is numbered as in H.273. A script may set a property to anything: what is no number, or none that
can be meant, counts as not set, and :func:`ignored` says so. An unknown matrix alone is handed on,
to be refused: without it, there is no telling what the samples mean.

Note [The property that ends the process]
    VapourSynth R74 and later keep ``_ColorRange`` as ``_Range``, and compute the old name from the
    new one when it is read. If the new one then is no 0 or 1 (a script wrote ``_Range=0.5``), R81
    calls ``terminate``, which no ``except`` catches. So the old name is read only where the new one
    is missing.
"""

import reprlib
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from vsr.frame import Colour, FieldOrder, Matrix, Range, Siting
from vsr.hdr import (
    CHROMATICITY_UNITS,
    LUMINANCE_UNITS,
    ContentLight,
    HdrMetadata,
    MasteringDisplay,
    content_light,
    mastering_display,
)
from vsr.rationals import LARGEST
from vsr.tags import PRIMARIES, TRANSFERS

__all__ = [
    "colour_of",
    "duration_of",
    "field_order_of",
    "hdr_of",
    "ignored",
    "is_matrix",
    "rate_of",
    "read_props",
    "sample_aspect_of",
]

Props = Mapping[str, Any]

_SITINGS = (
    Siting.LEFT, Siting.CENTRE, Siting.TOP_LEFT, Siting.TOP, Siting.BOTTOM_LEFT, Siting.BOTTOM,
)  # fmt: skip
_FIELDS = (FieldOrder.PROGRESSIVE, FieldOrder.BB, FieldOrder.TT)
_UNSPECIFIED = 2
"""In every table of H.273."""
_MATRICES = frozenset(range(18)) - {3}
"""That H.273 names, in table 4; those of :class:`Matrix` can be read."""
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
        matrix=_matrix(props, matrix), range=_range(props),
        primaries=_named(props, "_Primaries", PRIMARIES),
        transfer=_named(props, "_Transfer", TRANSFERS),
        siting=_SITINGS[siting] if 0 <= siting < len(_SITINGS) else Siting.UNSPECIFIED,
    )  # fmt: skip


def _whole(props: Props, name: str, missing: int) -> int:
    value = props.get(name)
    return value if isinstance(value, int) else missing


def _matrix(props: Props, name: str) -> int:
    """A number of H.273, which are bytes, known or not."""
    value = _whole(props, name, _UNSPECIFIED)
    return value if _is_byte(value) else _UNSPECIFIED


def _is_byte(number: int) -> bool:
    return 0 <= number <= 0xFF


def _named(props: Props, name: str, names: Mapping[str, int]) -> int:
    value = _whole(props, name, _UNSPECIFIED)
    return value if value in names.values() else _UNSPECIFIED


def is_matrix(number: int) -> bool:
    """Whether H.273 gives ``number`` to a matrix, whatever we can do with it."""
    return number in _MATRICES


def ignored(props: Props, *, subsampled: bool) -> dict[str, str]:
    """Properties about colour and fields that count as not set although they are.

    Args:
        props: of a frame.
        subsampled: whether it has fewer samples of chroma than of luma.

    Returns:
        By the property's name, one line that says why.
    """
    found = {}
    for name, (is_meant, meant) in _MEANT.items():
        value = _readable(props, name)
        if value is None or (name == "_ChromaLocation" and not subsampled):
            continue
        if name == "_ColorSpace" and "_Matrix" in props:  # the old name, which is not asked
            continue
        if not isinstance(value, int):
            found[name] = f"{name} {_shown(value)} is no whole number: ignored"
        elif not is_meant(value):
            found[name] = f"{name} {value} is {meant}: ignored"
        elif name in ("_Matrix", "_ColorSpace") and value == Matrix.RGB and subsampled:
            found[name] = f"{name} 0 means RGB, which has no subsampled chroma: ignored"
    return found


def _shown(value: object) -> str:
    return " ".join(reprlib.repr(value).split())


_Meant = tuple[Callable[[int], bool], str]
_MEANT: dict[str, _Meant] = {
    "_Matrix": (_is_byte, "without meaning in H.273"),
    "_ColorSpace": (_is_byte, "without meaning in H.273"),
    "_Primaries": (lambda value: value in PRIMARIES.values(), "without meaning in H.273"),
    "_Transfer": (lambda value: value in TRANSFERS.values(), "without meaning in H.273"),
    "_Range": (lambda value: value in (0, 1), "neither 0 (limited) nor 1 (full)"),
    "_ColorRange": (lambda value: value in (0, 1), "neither 0 (full) nor 1 (limited)"),
    "_ChromaLocation": (lambda value: 0 <= value < len(_SITINGS), "not among 0 to 5"),
    "_FieldBased": (lambda value: 0 <= value < len(_FIELDS), "not among 0 to 2"),
}  # fmt: skip


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
        mastering = _mastering(props)
    except (ValueError, TypeError, OverflowError) as error:
        notes.append(f"mastering display metadata of the frames is ignored: {error}")
    try:
        light = _light(props)
    except ValueError as error:
        notes.append(f"content light level of the frames is ignored: {error}")
    known = HdrMetadata(mastering=mastering, light=light)
    return None if known == HdrMetadata() else known, notes


def _mastering(props: Props) -> MasteringDisplay | None:
    """None if there is none.

    Raises:
        ValueError: the reason why it cannot be used; TypeError, OverflowError: it is no number.
    """
    across, down = _list(props, "PrimariesX"), _list(props, "PrimariesY")
    white_x, white_y = _list(props, "WhitePointX"), _list(props, "WhitePointY")
    darkest, brightest = _list(props, "MinLuminance"), _list(props, "MaxLuminance")
    if not any((across, white_x, white_y, darkest, brightest)):
        return None
    if not (len(across) == len(down) == 3 and len(white_x) == len(white_y) == 1):
        raise ValueError("its primaries are not set")
    if not len(darkest) == len(brightest) == 1:
        raise ValueError("its luminance is not set")
    points = zip([*across, *white_x], [*down, *white_y], strict=True)
    return mastering_display(
        [(_in(CHROMATICITY_UNITS, x), _in(CHROMATICITY_UNITS, y)) for x, y in points],
        min_luminance=_in(LUMINANCE_UNITS, darkest[0]),
        max_luminance=_in(LUMINANCE_UNITS, brightest[0]),
    )


def _light(props: Props) -> ContentLight | None:
    """None if there is none.

    Raises:
        ValueError: the reason why it cannot be used.
    """
    if "ContentLightLevelMax" not in props:
        return None
    levels = props["ContentLightLevelMax"], props.get("ContentLightLevelAverage", 0)
    if not all(isinstance(level, int) for level in levels):
        raise ValueError("it is no whole number")
    return content_light(*levels)


def _list(props: Props, name: str) -> list[float]:
    found = props.get(f"MasteringDisplay{name}", [])
    return [float(v) for v in found] if isinstance(found, Sequence) else [float(found)]


def _in(units: int, value: float) -> Fraction:
    """``value`` as a whole number of ``units`` to 1."""
    return Fraction(round(value * units), units)
