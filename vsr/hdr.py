"""Static HDR metadata: what the mastering display could show, and how bright the content is.

SMPTE ST 2086 (mastering display) and CTA-861.3 (content light level), as bitstreams and containers
carry them.
"""

from dataclasses import dataclass
from fractions import Fraction

__all__ = ["ContentLight", "HdrMetadata", "MasteringDisplay"]

Chromaticity = tuple[Fraction, Fraction]
"""CIE 1931 (x, y)."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentLight:
    """Content light level, CTA-861.3, in cd/m²."""

    max_cll: int
    """The brightest pixel."""
    max_fall: int
    """The brightest average of a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HdrMetadata:
    """What is known of an HDR picture beside its colour tags."""

    mastering: MasteringDisplay | None = None
    light: ContentLight | None = None
