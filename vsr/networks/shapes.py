"""What the shapes of a checkpoint tell of its network, where several networks tell it alike."""

from collections.abc import Mapping
from math import isqrt

from torch import Tensor

__all__ = ["count_modules", "shuffle_factors", "shuffle_scale"]


def count_modules(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many modules are numbered from 0 on.

    Args:
        state: a state dict.
        pattern: a name that each of them has, ``{}`` in the place of the number.
    """
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count


def shuffle_scale(rows: int, channels: int) -> int:
    """The scale of a pixel shuffle from ``rows`` to ``channels`` channels.

    Raises:
        ValueError: no integer scale fits.
    """
    scale = isqrt(rows // channels)
    if not scale or scale * scale * channels != rows:
        raise ValueError(f"{rows} channels before the pixel shuffle fit no integer scale")
    return scale


def shuffle_factors(rows: int, in_channels: int) -> tuple[int, int]:
    """Output channels and scale of a pixel shuffle that is fed ``rows`` channels.

    Raises:
        ValueError: they fit no integer scale.
    """
    for out_channels in (in_channels, 3, 4, 1):
        scale = isqrt(rows // out_channels)
        if scale and out_channels * scale * scale == rows:
            return out_channels, scale
    raise ValueError(f"{rows} channels before the pixel shuffle fit no integer scale")
