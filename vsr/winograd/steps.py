"""What a network does, as steps over feature maps; see ``winograd.c`` for how they are done."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "PICTURE",
    "Epilogue",
    "Kind",
    "Step",
    "convolution",
    "of_picture",
    "pointwise",
    "upsampling",
]

PICTURE = "picture"
"""Name of the map that is the input, and of the one that is the result."""


class Kind(IntEnum):
    """How a step reads its source; as in the C code."""

    CONVOLUTION = 0
    POINTWISE = 1
    PICTURE = 2


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
    """One convolution and what follows it. Maps are named; ``target`` may be ``skip``."""

    kind: Kind
    weight: Tensor
    """(outputs, inputs, 3, 3), or (outputs, inputs, 1, 1) if pointwise."""
    bias: Tensor
    """(outputs)."""
    source: str
    target: str
    epilogue: Epilogue = Epilogue.LINEAR
    skip: str = ""
    scale: int = 1
    """Of the pixel shuffle."""

    @property
    def inputs(self) -> int:
        """Channels of the source."""
        return self.weight.shape[1]

    @property
    def outputs(self) -> int:
        """Channels of the target, before a pixel shuffle."""
        return self.weight.shape[0]

    def kernel(self, lanes: int) -> Tensor:
        """The weight as the C code reads it, (points or 1, inputs, outputs) float32.

        Channels of maps are padded with zeros to a multiple of ``lanes``.
        """
        outputs = -self.outputs % lanes
        if self.kind == Kind.PICTURE:  # inputs, rows and columns in a row
            flat = self.weight.double().flatten(1).T
            return F.pad(flat, (0, outputs)).float()[None].contiguous()
        weight = F.pad(self.weight.double(), (0, 0, 0, 0, 0, -self.inputs % lanes, 0, outputs))
        if self.kind == Kind.CONVOLUTION:
            return _transform(weight).float().contiguous()
        return weight[:, :, 0, 0].T.float()[None].contiguous()


def convolution(
    weight: Tensor, bias: Tensor, source: str, target: str, epilogue: Epilogue = Epilogue.LINEAR,
    *, skip: str = "",
) -> Step:  # fmt: skip
    """A 3x3 convolution of a map."""
    return Step(
        kind=Kind.CONVOLUTION, weight=weight, bias=bias, source=source, target=target,
        epilogue=epilogue, skip=skip,
    )  # fmt: skip


def upsampling(weight: Tensor, bias: Tensor, source: str, scale: int) -> Step:
    """The last step: a 3x3 convolution, and a pixel shuffle to the picture."""
    return Step(
        kind=Kind.CONVOLUTION, weight=weight, bias=bias, source=source, target=PICTURE,
        epilogue=Epilogue.SHUFFLE, scale=scale,
    )  # fmt: skip


def pointwise(weight: Tensor, bias: Tensor, source: str, target: str) -> Step:
    """A 1x1 convolution of a map, added to what is in ``target``."""
    return Step(
        kind=Kind.POINTWISE, weight=weight, bias=bias, source=source, target=target,
        epilogue=Epilogue.ADD, skip=target,
    )  # fmt: skip


def of_picture(
    weight: Tensor, bias: Tensor, target: str, epilogue: Epilogue = Epilogue.LINEAR
) -> Step:
    """A 3x3 convolution of the picture, of few channels."""
    return Step(
        kind=Kind.PICTURE, weight=weight, bias=bias, source=PICTURE, target=target,
        epilogue=epilogue,
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
