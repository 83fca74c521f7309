"""Fractions as FFmpeg keeps them: as two whole numbers of 32 bits."""

from fractions import Fraction

__all__ = ["LARGEST", "bounded"]

LARGEST = (1 << 31) - 1
"""What a numerator or denominator can be."""


def bounded(value: Fraction) -> Fraction:
    """The nearest to ``value``, above 0, of which neither half is above :data:`LARGEST`."""
    if value <= 1:
        return max(value.limit_denominator(LARGEST), Fraction(1, LARGEST))
    return 1 / bounded(1 / value)
