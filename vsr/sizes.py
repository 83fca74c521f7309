"""The size of an output, and what it does to the shape of its pixels. Sizes are (width, height)."""

from fractions import Fraction

__all__ = ["enlarged_size", "resized_sar", "scale_to_reach", "squared_size"]

_ANY_SCALE = 2
"""Of a network that renders at any scale, when none is asked for."""


def enlarged_size(
    width: int, height: int, scale: int, wanted: Fraction | int | None
) -> tuple[int, int]:
    """The size that a network leads to; of a fraction, even numbers, which 4:2:0 needs.

    Args:
        width: of its input, in pixels.
        height: of its input, in pixels.
        scale: the network's enlargement; 0 is any.
        wanted: the enlargement that was asked for, if one was.
    """
    factor = scale or wanted or _ANY_SCALE
    if isinstance(factor, int):
        return factor * width, factor * height
    return 2 * round(width * factor / 2), 2 * round(height * factor / 2)


def scale_to_reach(size: tuple[int, int], width: int, height: int) -> float:
    """The enlargement by which both sides of a picture reach ``size``, or go beyond."""
    return max(size[0] / width, size[1] / height)


def squared_size(width: int, height: int, sar: Fraction | None) -> tuple[int, int]:
    """The size that shows a picture in its shape with square pixels; neither side shrinks.

    The side that grows becomes even, as 4:2:0 needs it.

    Args:
        width: in pixels.
        height: in pixels.
        sar: sample aspect ratio, None if unknown.
    """
    if sar is None or sar == 1:
        return width, height
    if sar > 1:
        return 2 * round(width * sar / 2), height
    return width, 2 * round(height / sar / 2)


def resized_sar(
    sar: Fraction | None, before: tuple[int, int], after: tuple[int, int]
) -> Fraction | None:
    """The sample aspect ratio that keeps a picture's shape from one size to another.

    Args:
        sar: before; None is unknown, and stays so if nothing but rounding changes the shape.
        before: the size that ``sar`` is of.
        after: the other size.
    """
    (old_width, old_height), (width, height) = before, after
    if abs(width - height * old_width / old_height) < 1:  # nothing but rounding to whole pixels
        return sar
    return (sar or Fraction(1)) * Fraction(height * old_width, width * old_height)
