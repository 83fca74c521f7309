"""Turning pictures upright, for files that have no place to say how they lie."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from vsr.frame import Frame

__all__ = ["Orientation", "enlarged_matrix", "is_turn"]

_ROUNDING = 1e-3
"""Of what a display matrix holds, in parts of its largest number."""


def enlarged_matrix(matrix: bytes, old: tuple[int, int], new: tuple[int, int]) -> bytes:
    """FFmpeg's display matrix for a picture of another size.

    MOV moves a turned picture back to where it is seen (ISO/IEC 14496-12, 6.2.2), by as many pixels
    as it has.

    Args:
        matrix: 36 bytes, for a picture of ``old`` width and height.
        old: width and height before.
        new: width and height after.
    """
    a, b, u, c, d, v, x, y, w = struct.unpack("<9i", matrix)
    wide, wider = (abs(a) * width + abs(c) * height for width, height in (old, new))
    tall, taller = (abs(b) * width + abs(d) * height for width, height in (old, new))
    x = round(x * wider / wide) if wide else x
    y = round(y * taller / tall) if tall else y
    return struct.pack("<9i", a, b, u, c, d, v, x, y, w)


def is_turn(matrix: bytes) -> bool:
    """Whether FFmpeg's display matrix turns and mirrors, by any angle, and does not shear."""
    a, b, _, c, d, *_ = struct.unpack("<9i", matrix)
    lengths, slant = (a * a + b * b, c * c + d * d), a * c + b * d
    return bool(max(abs(lengths[0] - lengths[1]), abs(slant)) <= _ROUNDING * max(lengths))


def _sign(value: int, unit: int) -> int:
    """-1, 0 or 1 in units of ``unit``; 2 if it is none of them."""
    if abs(value) <= _ROUNDING * unit:
        return 0
    return (1 if value > 0 else -1) if abs(abs(value) - unit) <= _ROUNDING * unit else 2


@dataclass(frozen=True, slots=True)
class Orientation:
    """A turn by quarters and a mirroring, in this order: swap axes, then reverse them."""

    transposed: bool = False
    """Rows become columns."""
    reversed_rows: bool = False
    reversed_columns: bool = False

    @classmethod
    def parse(cls, matrix: bytes) -> "Orientation | None":
        """What FFmpeg's display matrix (36 bytes) asks for; None if it is no turn by quarters.

        The pixel at (p, q), columns first, is shown at (a p + c q, b p + d q), in units of 2^-16
        (FFmpeg, ``libavutil/display.h``). Rounding does not count, nor does an enlargement.
        """
        a, b, _, c, d, *_ = struct.unpack("<9i", matrix)
        unit = max(map(abs, (a, b, c, d)))
        a, b, c, d = (_sign(value, unit) for value in (a, b, c, d))
        if abs(a) == abs(d) == 1 and b == c == 0:
            return cls(False, d < 0, a < 0)
        if abs(b) == abs(c) == 1 and a == d == 0:
            return cls(True, b < 0, c < 0)
        return None

    @property
    def upright(self) -> bool:
        """Whether nothing is to be done."""
        return self == Orientation()

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the turn."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, frame: Frame) -> Frame:
        """``frame``, of a planar format without subsampling, as it is to be seen."""
        if self.upright:
            return frame
        width, height = self.size(frame.width, frame.height)
        turn: Callable[[Tensor], Tensor] = self._turn
        planes = frame.format.planes(tuple(map(turn, frame.components)))
        return replace(frame, planes=planes, width=width, height=height)

    def _turn(self, plane: Tensor) -> Tensor:
        if self.transposed:
            plane = plane.T
        axes = [axis for axis, on in enumerate((self.reversed_rows, self.reversed_columns)) if on]
        return plane.flip(axes) if axes else plane
