"""Static HDR metadata: what the mastering display could show, and how bright the content is.

SMPTE ST 2086 (mastering display) and CTA-861.3 (content light level), read from FFmpeg's side data
and put into the words of the encoders that write them into the bitstream. Neither torch nor PyAV
is needed here.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

__all__ = [
    "BITSTREAM_OPTIONS",
    "CHROMATICITY_UNITS",
    "HDR_TRANSFERS",
    "LUMINANCE_UNITS",
    "SAMPLE_ENTRIES",
    "AmbientViewing",
    "ContentLight",
    "HdrMetadata",
    "MasteringDisplay",
    "content_light",
    "encoder_options",
    "held_by_container",
    "lost_metadata",
    "mastering_display",
    "parse_ambient_viewing",
    "parse_content_light",
    "parse_mastering_display",
]

Chromaticity = tuple[Fraction, Fraction]
"""CIE 1931 (x, y)."""

CHROMATICITY_UNITS = 50_000
"""Units of ST 2086 in 1, as HEVC, AVC and ISO base media files store chromaticities."""
LUMINANCE_UNITS = 10_000
"""Units of ST 2086 in 1 cd/m²."""
_ILLUMINANCE_UNITS = 10_000

BITSTREAM_OPTIONS = {
    "libx264": "x264-params", "libx264rgb": "x264-params", "libx265": "x265-params",
    "libsvtav1": "svtav1-params",
}  # fmt: skip
"""Encoders that write static HDR metadata themselves, and the option that takes it."""
SAMPLE_ENTRIES = {
    "h264": b"avc1", "hevc": b"hvc1", "av1": b"av01", "vp9": b"vp09", "ffv1": b"FFV1",
    "prores": b"apch", "dnxhd": b"AVdh", "v210": b"v210",
}  # fmt: skip
"""Codecs beside which containers hold static HDR metadata; QuickTime's names of them."""
_CONTAINERS = ("mp4", "mov", "matroska", "webm")
_HOLD_AMBIENT = ("mp4", "mov")
_MASTERING, _LIGHT, _AMBIENT = map(struct.Struct, ("<22i", "<2I", "<6i"))
_BRIGHTEST = 0xFFFF_FFFF // LUMINANCE_UNITS
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MasteringDisplay:
    """Colour volume of the display a picture was mastered on, SMPTE ST 2086."""

    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity
    white: Chromaticity
    max_luminance: Fraction
    """cd/m²."""
    min_luminance: Fraction
    """cd/m²."""

    def in_units(self) -> tuple[int, ...]:
        """Ten integers in ST 2086's units: G, B, R and white as (x, y), then maximum, minimum."""
        points = (*self.green, *self.blue, *self.red, *self.white)
        luminances = (self.max_luminance, self.min_luminance)
        return (
            *(round(value * CHROMATICITY_UNITS) for value in points),
            *(round(value * LUMINANCE_UNITS) for value in luminances),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentLight:
    """Content light level, CTA-861.3, in cd/m²; 0 means "unknown"."""

    max_cll: int
    """The brightest pixel."""
    max_fall: int
    """The brightest average of a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmbientViewing:
    """The surroundings a picture is to be seen in, H.274 (8.14)."""

    illuminance: Fraction
    """lux."""
    light: Chromaticity

    def in_units(self) -> tuple[int, int, int]:
        """Illuminance in 0.0001 lux, x and y of the light in ST 2086's units."""
        x, y = (round(value * CHROMATICITY_UNITS) for value in self.light)
        return round(self.illuminance * _ILLUMINANCE_UNITS), x, y


@dataclass(frozen=True, slots=True, kw_only=True)
class HdrMetadata:
    """What is known of an HDR picture beside its colour tags."""

    mastering: MasteringDisplay | None = None
    light: ContentLight | None = None
    ambient: AmbientViewing | None = None


# Values that can be meant: where they come from nobody knows.


def mastering_display(
    points: Sequence[Chromaticity], *, min_luminance: Fraction, max_luminance: Fraction
) -> MasteringDisplay:
    """A mastering display of numbers that anybody may have written.

    Args:
        points: red, green, blue and white.
        min_luminance: cd/m².
        max_luminance: cd/m².

    Raises:
        ValueError: the reason why it cannot be used.
    """
    if not _are_chromaticities(points):
        raise ValueError("its primaries are no chromaticities")
    if not 0 <= min_luminance < max_luminance <= _BRIGHTEST:
        luminances = f"{float(min_luminance):g} to {float(max_luminance):g}"
        raise ValueError(f"its luminance goes from {luminances} cd/m²")
    red, green, blue, white = points
    return MasteringDisplay(
        red=red, green=green, blue=blue, white=white, max_luminance=max_luminance,
        min_luminance=min_luminance,
    )  # fmt: skip


def content_light(max_cll: int, max_fall: int) -> ContentLight:
    """Content light level of numbers that anybody may have written, in cd/m².

    Raises:
        ValueError: the reason why it cannot be used.
    """
    if max_cll == max_fall == 0:
        raise ValueError("it is 0, which means unknown")
    if min(max_cll, max_fall) < 0 or max(max_cll, max_fall) > 0xFFFF:
        raise ValueError(f"{max_cll} and {max_fall} cd/m² are beyond its 16 bits")
    return ContentLight(max_cll=max_cll, max_fall=max_fall)


def _are_chromaticities(points: Sequence[Chromaticity]) -> bool:
    return all(x >= 0 and y > 0 and x + y <= 1 for x, y in points)


# FFmpeg's side data.


def parse_mastering_display(data: bytes) -> MasteringDisplay:
    """Read FFmpeg's ``AVMasteringDisplayMetadata``.

    Args:
        data: 88 bytes: ten rationals (x, y of red, green, blue and white; minimum and maximum
            luminance) and two flags that say whether primaries and luminances are set.

    Raises:
        ValueError: the reason why it cannot be used.
    """
    if len(data) < _MASTERING.size:
        raise ValueError(f"it is cut off after {len(data)} bytes")
    *numbers, has_primaries, has_luminance = _MASTERING.unpack_from(data)
    if not has_primaries or not has_luminance:
        missing = "luminance" if has_primaries else "primaries"
        raise ValueError(f"its {missing} is flagged as not set")
    *points, darkest, brightest = _rationals(numbers)
    pairs = list(zip(points[::2], points[1::2], strict=True))
    return mastering_display(pairs, min_luminance=darkest, max_luminance=brightest)


def parse_content_light(data: bytes) -> ContentLight:
    """Read FFmpeg's ``AVContentLightMetadata``.

    Args:
        data: 8 bytes: MaxCLL and MaxFALL in cd/m².

    Raises:
        ValueError: the reason why it cannot be used.
    """
    if len(data) < _LIGHT.size:
        raise ValueError(f"it is cut off after {len(data)} bytes")
    return content_light(*_LIGHT.unpack_from(data))


def parse_ambient_viewing(data: bytes) -> AmbientViewing:
    """Read FFmpeg's ``AVAmbientViewingEnvironment``.

    Args:
        data: 24 bytes: three rationals, illuminance in lux and x, y of the light.

    Raises:
        ValueError: the reason why it cannot be used.
    """
    if len(data) < _AMBIENT.size:
        raise ValueError(f"it is cut off after {len(data)} bytes")
    illuminance, *light = _rationals(_AMBIENT.unpack_from(data))
    if illuminance <= 0:
        raise ValueError("it is 0 lux, which means unknown")
    if not _are_chromaticities([(light[0], light[1])]):
        raise ValueError("its light is no chromaticity")
    return AmbientViewing(illuminance=illuminance, light=(light[0], light[1]))


def _rationals(numbers: Sequence[int]) -> list[Fraction]:
    if any(denominator <= 0 for denominator in numbers[1::2]):
        raise ValueError("it has denominators of 0")
    return [Fraction(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]


# Encoders.


def encoder_options(codec: str, hdr: HdrMetadata | None) -> dict[str, str]:
    """The options that make FFmpeg's encoder ``codec`` write ``hdr`` into the bitstream.

    Empty if there is nothing to write, or if the encoder cannot be told.
    """
    if hdr is None or codec not in BITSTREAM_OPTIONS:
        return {}
    option = BITSTREAM_OPTIONS[codec]
    display_word, written, level_word = _WORDS[option]
    words = []
    if hdr.mastering is not None:
        words.append(f"{display_word}={written(hdr.mastering)}")
    if hdr.light is not None:
        words.append(f"{level_word}={hdr.light.max_cll},{hdr.light.max_fall}")
    return {option: ":".join(words)} if words else {}


def _in_units(display: MasteringDisplay) -> str:
    return "G({},{})B({},{})R({},{})WP({},{})L({},{})".format(*display.in_units())


def _in_decimals(display: MasteringDisplay) -> str:
    points = {"G": display.green, "B": display.blue, "R": display.red, "WP": display.white}
    points["L"] = (display.max_luminance, display.min_luminance)
    return "".join(f"{key}({float(x):.9g},{float(y):.9g})" for key, (x, y) in points.items())


_WORDS: dict[str, tuple[str, Callable[[MasteringDisplay], str], str]] = {
    "x264-params": ("mastering-display", _in_units, "cll"),
    "x265-params": ("master-display", _in_units, "max-cll"),
    "svtav1-params": ("mastering-display", _in_decimals, "content-light"),
}
"""By option: the encoder's word for a mastering display, how it writes one, its word for levels."""


def held_by_container(muxer: str, codec: str) -> bool:
    """Whether FFmpeg's ``muxer`` stores static HDR metadata beside ``codec`` (canonical name)."""
    return muxer in _CONTAINERS and codec in SAMPLE_ENTRIES


def lost_metadata(hdr: HdrMetadata | None, encoder: str, codec: str, muxer: str) -> list[str]:
    """Names of what neither FFmpeg's ``encoder`` (of ``codec``) nor its ``muxer`` hold."""
    if hdr is None:
        return []
    boxed = held_by_container(muxer, codec)
    lost = []
    if (hdr.mastering or hdr.light) and not boxed and encoder not in BITSTREAM_OPTIONS:
        lost.append("HDR mastering metadata")
    if hdr.ambient and not (boxed and muxer in _HOLD_AMBIENT):
        lost.append("the ambient viewing environment")
    return lost
