"""Separable resampling by banded matrices: one mechanism for chroma, Lanczos and bicubic resizing.

A resampling along one axis is a linear map whose matrix is banded. :class:`Resampler` cuts that
matrix into blocks of rows; each block touches a short run of inputs, so a resize is two batched
matrix products, on any device, with the borders (and any siting, ratio or inverse) already in the
matrix. Coordinates put sample i of an axis at i, pixel centres at integers.

Note [All blocks at once]
    On a CPU a product for each block reads its inputs where they lie. On a GPU dozens of small
    products would each be waited for in turn, so the runs of inputs are gathered (they hardly
    overlap) and multiplied in one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr.constants import constant

__all__ = ["Kernel", "Resampler", "least_squares_inverse", "resize", "resize_matrix"]

Kernel = Literal["bicubic", "lanczos"]
_BLOCK = 32
"""Outputs computed by one matrix product: wide enough for GEMM, narrow enough to stay banded."""
_BLOCK_AT_ONCE = 64
"""The same on a GPU, where starting a product takes longer than the zeros in it."""
_WINDOW, _MARGIN = 128, 64
"""Samples that are solved for at a time, and beyond them on each side."""


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution with a = -1/2 (IEEE TASSP 29, 1981), as MATLAB's imresize."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Three-lobed Lanczos-windowed sinc."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


_KERNELS: dict[Kernel, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], float]] = {
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


def resize_matrix(
    positions: NDArray[np.float64], count: int, kernel: Kernel, *, stretch: float = 1.0
) -> NDArray[np.float64]:
    """Matrix that interpolates ``count`` samples at ``positions``; the edge samples repeat.

    Args:
        positions: (outputs,) where to sample, in input coordinates.
        count: number of input samples.
        kernel: interpolation kernel.
        stretch: widens the kernel; the reduction factor when shrinking, so that it antialiases.

    Returns:
        (outputs, count) matrix whose rows sum to 1.
    """
    function, support = _KERNELS[kernel]
    reach = math.ceil(support * stretch) + 1
    taps = np.floor(positions).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    weights = function((positions[:, None] - taps) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(positions), count))
    rows = np.broadcast_to(np.arange(len(positions))[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, count - 1)), weights)
    return matrix


def least_squares_inverse(
    matrix: NDArray[np.float64], *, cutoff: float = 1e-7
) -> NDArray[np.float64]:
    """Pseudo-inverse of a tall interpolation matrix, with negligible entries set to zero.

    Reducing with this matrix yields the samples whose interpolation comes closest to the given
    signal; a signal that was interpolated by ``matrix`` is recovered exactly. As far from a sample
    as a window reaches beyond it, nothing of it is left in double precision, so that windows can be
    solved on their own; and but for the ends of an axis they are all the same one.
    """
    count = matrix.shape[1]
    inverse = np.zeros(matrix.shape[::-1])
    solved: dict[tuple[bytes, int], NDArray[np.float64]] = {}
    touched = matrix != 0
    begins, ends = touched.argmax(axis=0), len(matrix) - touched[::-1].argmax(axis=0)
    for first in range(0, count, _WINDOW):
        last = min(first + _WINDOW, count)
        left, right = max(0, first - _MARGIN), min(count, last + _MARGIN)
        top, bottom = begins[left:right].min(), ends[left:right].max()
        part = matrix[top:bottom, left:right]
        key = part.tobytes(), part.shape[1]
        if key not in solved:
            found = np.linalg.solve(part.T @ part, part.T)
            found[np.abs(found) < cutoff] = 0.0
            solved[key] = found
        inverse[first:last, top:bottom] = solved[key][first - left : last - left]
    return inverse


@dataclass(frozen=True, slots=True)
class Resampler:
    """A banded matrix, cut into blocks, to be applied along rows or columns of pictures."""

    starts: tuple[int, ...]
    """First input of every block."""
    weights: Tensor
    """(blocks, outputs in a block, inputs in a block), float32; zero rows pad the last block."""
    outputs: int
    inputs: int
    places: Tensor | None = None
    """(blocks, inputs in a block): which inputs a block reads, where all are gathered at once."""

    @classmethod
    def from_matrix(
        cls, matrix: NDArray[np.float64], device: torch.device | str = "cpu", *,
        at_once: bool | None = None,
    ) -> "Resampler":  # fmt: skip
        """Cut ``matrix`` (outputs, inputs) into blocks and move it to ``device``.

        ``at_once`` is what is faster there, unless it is given; see note [All blocks at once].
        """
        outputs, inputs = matrix.shape
        if at_once is None:
            at_once = torch.device(device).type != "cpu"
        size = min(_BLOCK_AT_ONCE if at_once else _BLOCK, outputs)
        spans = []
        for first in range(0, outputs, size):
            used = np.flatnonzero(np.any(matrix[first : first + size] != 0, axis=0))
            spans.append((int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1))
        width = max(end - start for start, end in spans)
        starts = tuple(min(start, inputs - width) for start, _ in spans)
        weights = np.zeros((len(starts), size, width), dtype=np.float32)
        for block, start in enumerate(starts):
            rows = matrix[block * size : (block + 1) * size, start : start + width]
            weights[block, : len(rows)] = rows
        places = torch.tensor(starts)[:, None] + torch.arange(width) if at_once else None
        return cls(
            starts, torch.from_numpy(weights).to(device), outputs, inputs,
            None if places is None else places.to(device),
        )  # fmt: skip

    def rows(self, picture: Tensor) -> Tensor:
        """Resample along the last axis: (..., H, inputs) -> (..., H, outputs), float32."""
        if self.places is not None:  # see note [All blocks at once]
            runs = picture[..., self.places].transpose(-3, -2)  # (..., blocks, H, inputs in one)
            return (runs @ self.weights.mT).transpose(-3, -2).flatten(-2)[..., : self.outputs]
        blocks = [
            picture[..., start : start + self.weights.shape[2]] @ weights.T
            for start, weights in zip(self.starts, self.weights, strict=True)
        ]
        return torch.cat(blocks, dim=-1)[..., : self.outputs]

    def columns(self, picture: Tensor) -> Tensor:
        """Resample along the last axis but one: (..., inputs, W) -> (..., outputs, W), float32."""
        if self.places is not None:
            runs = picture[..., self.places, :]  # (..., blocks, inputs in one, W)
            return (self.weights @ runs).flatten(-3, -2)[..., : self.outputs, :]
        blocks = [
            weights @ picture[..., start : start + self.weights.shape[2], :]
            for start, weights in zip(self.starts, self.weights, strict=True)
        ]
        return torch.cat(blocks, dim=-2)[..., : self.outputs, :]


@constant(32)
def _axis(count: int, outputs: int, kernel: Kernel, device: torch.device) -> Resampler:
    step = count / outputs
    positions = (np.arange(outputs, dtype=np.float64) + 0.5) * step - 0.5
    matrix = resize_matrix(positions, count, kernel, stretch=max(step, 1.0))
    return Resampler.from_matrix(matrix, device)


def resize(picture: Tensor, height: int, width: int, kernel: Kernel = "lanczos") -> Tensor:
    """Resize (..., H, W) to (..., height, width) in float32, antialiased where it shrinks.

    With ``bicubic`` this is MATLAB's ``imresize`` of old (borders repeat) in double arithmetic.
    """
    picture = picture.float()
    if picture.shape[-2] != height:
        picture = _axis(picture.shape[-2], height, kernel, picture.device).columns(picture)
    if picture.shape[-1] != width:
        picture = _axis(picture.shape[-1], width, kernel, picture.device).rows(picture)
    return picture
