"""What a network does, as steps over feature maps; see ``winograd.c`` for how they are done."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["PICTURE", "Epilogue", "Kind", "Step", "convolution", "mix", "upsampling"]

PICTURE = "picture"
"""Name of the input as a source, and of the result as a target."""


class Kind(IntEnum):
    """How a step reads its sources; as in the C code."""

    CONVOLUTION = 0
    MIX = 1


class Epilogue(IntEnum):
    """What is done to a step's result x before it is stored; as in the C code."""

    LINEAR = 0
    SILU = 1
    ATTENTION = 2
    """(x + skip) * (sigmoid(x) - 1/2), SPAN's parameter-free attention."""
    ADD = 3
    SHUFFLE = 4
    """x is the picture before its pixel shuffle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What makes one map, or the result. Maps are named; ``target`` may be ``skip``."""

    kind: Kind
    shares: Sequence[tuple[str, Tensor]]
    """Each source and its weight: (outputs, inputs, 3, 3); of a map in a mix (outputs, inputs)."""
    bias: Tensor
    """(outputs)."""
    target: str
    epilogue: Epilogue = Epilogue.LINEAR
    skip: str = ""
    scale: int = 1
    """Of the pixel shuffle."""

    @property
    def colours(self) -> int:
        """Planes of the picture that are read."""
        return sum(weight.shape[1] for source, weight in self.shares if source == PICTURE)

    @property
    def sources(self) -> list[tuple[str, int]]:
        """The maps that are read, and their channels."""
        return [(name, weight.shape[1]) for name, weight in self.shares if name != PICTURE]

    @property
    def outputs(self) -> int:
        """Channels of the target, before a pixel shuffle."""
        return len(self.bias)

    def kernel(self, lanes: int) -> Tensor:
        """The weights as the C code reads them, (points or 1, inputs, outputs) float32.

        Channels of maps are padded with zeros to a multiple of ``lanes``.
        """
        if self.kind == Kind.CONVOLUTION:
            ((_, weight),) = self.shares
            padding = (0, 0, 0, 0, 0, -weight.shape[1] % lanes, 0, -self.outputs % lanes)
            return _transform(F.pad(weight.double(), padding)).float().contiguous()
        columns = [
            weight.flatten(1) if source == PICTURE else F.pad(weight, (0, -weight.shape[1] % lanes))
            for source, weight in self.shares
        ]
        rows = F.pad(torch.cat(columns, dim=1).T, (0, -self.outputs % lanes))
        return rows.float()[None].contiguous()


def convolution(
    weight: Tensor, bias: Tensor, source: str, target: str, epilogue: Epilogue = Epilogue.LINEAR,
    *, skip: str = "",
) -> Step:  # fmt: skip
    """A 3x3 convolution of a map."""
    return Step(
        kind=Kind.CONVOLUTION, shares=[(source, weight)], bias=bias, target=target,
        epilogue=epilogue, skip=skip,
    )  # fmt: skip


def mix(
    shares: Sequence[tuple[str, Tensor]], bias: Tensor, target: str,
    epilogue: Epilogue = Epilogue.LINEAR,
) -> Step:  # fmt: skip
    """A 3x3 convolution of the picture, 1x1 convolutions of up to two maps, or their sum.

    Args:
        shares: sources and weights, the picture's first.
        bias: (outputs).
        target: the map that is made.
        epilogue: LINEAR or SILU.
    """
    return Step(kind=Kind.MIX, shares=shares, bias=bias, target=target, epilogue=epilogue)


def upsampling(weight: Tensor, bias: Tensor, source: str, scale: int) -> Step:
    """The last step: a 3x3 convolution, and a pixel shuffle to the picture."""
    return Step(
        kind=Kind.CONVOLUTION, shares=[(source, weight)], bias=bias, target=PICTURE,
        epilogue=Epilogue.SHUFFLE, scale=scale,
    )  # fmt: skip


_KERNEL_ROWS: Sequence[Sequence[float]] = (
    (1, 0, 0),
    (-2 / 9, -2 / 9, -2 / 9),
    (-2 / 9, 2 / 9, -2 / 9),
    (1 / 90, 1 / 45, 2 / 45),
    (1 / 90, -1 / 45, 2 / 45),
    (32 / 45, 16 / 45, 8 / 45),
    (32 / 45, -16 / 45, 8 / 45),
    (0, 0, 1),
)
"""G of F(6, 3) (Lavin and Gray, arXiv 1509.09308, section 4), for the points 0, 1, -1, 2, -2, 1/2,
-1/2 and infinity; its transposed counterparts B and A are in the C code."""


def _transform(weight: Tensor) -> Tensor:
    """G w G' of every pair of channels: (outputs, inputs, 3, 3) to (64, inputs, outputs)."""
    rows = torch.tensor(_KERNEL_ROWS, dtype=weight.dtype)
    points = torch.einsum("ak,oikl,bl->abio", rows, weight, rows)
    return points.reshape(math.prod(points.shape[:2]), *points.shape[2:])
