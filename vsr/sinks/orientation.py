"""Turning pictures upright, for files that have no place to say how they lie."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from vsr.frame import Frame

__all__ = ["Orientation"]

_ONE = 1 << 16


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
        (FFmpeg, ``libavutil/display.h``).
        """
        a, b, _, c, d, *_ = struct.unpack("<9i", matrix)
        if {abs(a), abs(d)} == {_ONE} and b == c == 0:
            return cls(False, d < 0, a < 0)
        if {abs(b), abs(c)} == {_ONE} and a == d == 0:
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
