"""The two ends of SPAN, through which the picture itself passes: float32 throughout.

Note [Float32]
    The first convolution has 27 inputs, which are multiplied as they are. The last one uses the
    matrix units, with each float32 as the sum of numbers that they take (``tf32x3``): as exact as
    float32 to a few units in the last place. Plain TF32 has the ten bits of mantissa of fp16.

Note [Codes]
    RGB to YUV is linear, so it is folded into the last convolution: that makes Y', Cb and Cr of
    each pixel of the enlarged picture, in code values. Clamping, rounding and pixel shuffle follow
    where the results lie in registers. Chroma that is subsampled needs samples from twenty pixels
    around (see vsr.colour), so it is written as float32, in full size, and resampled after.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from vsr.kernels.convolution import multiply_taps, pieces, tile_of_pixels, tiles

__all__ = [
    "EndTile",
    "Fusion",
    "Head",
    "fuse",
    "fuse_kernel",
    "head",
    "head_kernel",
    "tail",
    "tail_kernel",
]


@dataclass(frozen=True, slots=True)
class EndTile:
    """How the ends are cut up: the configuration that is tuned."""

    rows: int = 4
    columns: int = 32
    warps: int = 8
    stages: int = 2


@dataclass(frozen=True, slots=True)
class Head:
    """What the first convolution is made of, in float32."""

    mean: Tensor
    """(3,), subtracted from the picture."""
    weights: Tensor
    """(9, 3, outputs)."""
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Fusion:
    """What is summed before the last convolution; see Note [Concatenation] in vsr.kernels.span."""

    mean: Tensor
    """(3,) float32."""
    deep: Tensor
    """(9, K, outputs) of half precision, for the last block's output."""
    kept: Tensor
    """(2, K, outputs) of half precision, for what was kept on the way."""
    direct: Tensor
    """(9, 3, outputs) float32, for the picture."""
    bias: Tensor
    """(outputs,) float32."""


@triton.jit
def _add_picture(
    acc, picture, mean, weights, first_output, top, left, row, column, height, width,
    N: tl.constexpr, N_STORED: tl.constexpr,
):  # fmt: skip
    """Add a 3x3 convolution of the normalised picture, whose first value is ``picture``."""
    n = first_output + tl.arange(0, N)
    for colour in tl.static_range(3):
        level = tl.load(mean + colour)
        for tap in tl.static_range(9):
            y, x = top + row + (tap // 3 - 1), left + column + (tap % 3 - 1)
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            value = tl.load(
                picture + colour * height * width + y * width + x, mask=inside, other=0.0
            )
            value = tl.where(inside, value - level, 0.0)
            matrix = tl.load(
                weights + (tap * 3 + colour) * N_STORED + n, mask=n < N_STORED, other=0.0
            )
            acc += value[:, None] * matrix[None, :]
    return acc


@triton.jit
def _store(acc, bias, result, pixels, inside, first, N: tl.constexpr, N_STORED: tl.constexpr):
    n = first + tl.arange(0, N)
    value = acc + tl.load(bias + n, mask=n < N_STORED, other=0.0)[None, :]
    places = result + pixels[:, None] * N_STORED + n[None, :]
    mask = inside[:, None] & (n < N_STORED)[None, :]
    tl.store(places, value.to(result.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["height", "width"])
def head_kernel(
    picture, mean, weights, bias, result, height, width,
    N_LOW: tl.constexpr, N_HIGH: tl.constexpr, N_STORED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``conv_1``: from the picture (N, 3, H, W) float32 to features (N, H, W, stored)."""
    top, left, row, column = tile_of_pixels(height, width, ROWS, COLUMNS)
    batch = tl.program_id(1).to(tl.int64) * height * width
    inside = (top + row < height) & (left + column < width)
    pixels = row * width + column
    result += (batch + top * width + left) * N_STORED
    low = tl.zeros((ROWS * COLUMNS, N_LOW), tl.float32)
    low = _add_picture(
        low, picture + 3 * batch, mean, weights, 0, top, left, row, column, height, width,
        N_LOW, N_STORED,
    )  # fmt: skip
    _store(low, bias, result, pixels, inside, 0, N_LOW, N_STORED)
    if N_HIGH > 0:
        high = tl.zeros((ROWS * COLUMNS, N_HIGH), tl.float32)
        high = _add_picture(
            high, picture + 3 * batch, mean, weights, N_LOW, top, left, row, column, height, width,
            N_HIGH, N_STORED,
        )  # fmt: skip
        _store(high, bias, result, pixels, inside, N_LOW, N_HIGH, N_STORED)


@triton.jit(do_not_specialize=["height", "width"])
def fuse_kernel(
    hidden, kept, picture, mean, deep_weights, kept_weights, direct_weights, bias, result,
    height, width, hidden_stride,
    K_LOW: tl.constexpr, K_HIGH: tl.constexpr, N_LOW: tl.constexpr, N_HIGH: tl.constexpr,
    N_STORED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``conv_cat``, with ``conv_2`` and ``conv_1`` folded in: all that it concatenates, summed.

    ``kept`` holds the first block's output and the last one's first activation, side by side.
    """
    top, left, row, column = tile_of_pixels(height, width, ROWS, COLUMNS)
    batch = tl.program_id(1).to(tl.int64) * height * width
    first = batch + top * width + left
    K: tl.constexpr = K_LOW + K_HIGH
    low = tl.zeros((ROWS * COLUMNS, N_LOW), tl.float32)
    high = tl.zeros((ROWS * COLUMNS, max(N_HIGH, 16)), tl.float32)
    low, high = multiply_taps(
        hidden + first * hidden_stride, deep_weights, top, left, row, column, height, width,
        low, high, hidden_stride, 9, K_LOW, K_HIGH, N_LOW, N_HIGH, N_LOW + N_HIGH, "ieee",
    )  # fmt: skip
    for half in tl.static_range(2):
        low, high = multiply_taps(
            kept + first * (2 * K) + half * K, kept_weights + half * K * (N_LOW + N_HIGH),
            top, left, row, column, height, width,
            low, high, 2 * K, 1, K_LOW, K_HIGH, N_LOW, N_HIGH, N_LOW + N_HIGH, "ieee",
        )  # fmt: skip
    inside = (top + row < height) & (left + column < width)
    pixels = row * width + column
    result += first * N_STORED
    low = _add_picture(
        low, picture + 3 * batch, mean, direct_weights, 0, top, left, row, column, height, width,
        N_LOW, N_STORED,
    )  # fmt: skip
    _store(low, bias, result, pixels, inside, 0, N_LOW, N_STORED)
    if N_HIGH > 0:
        high = _add_picture(
            high, picture + 3 * batch, mean, direct_weights, N_LOW, top, left, row, column,
            height, width, N_HIGH, N_STORED,
        )  # fmt: skip
        _store(high, bias, result, pixels, inside, N_LOW, N_HIGH, N_STORED)


@triton.jit
def _shuffle(
    acc, bias, codes, floats, ceiling, top, left, row, column, height, width, first_output,
    N: tl.constexpr, COMPONENTS: tl.constexpr, CODED: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """Write a piece of outputs to the enlarged planes: codes first, floats after."""
    area: tl.constexpr = SCALE * SCALE
    n = first_output + tl.arange(0, N)
    component, y, x = n // area, n % area // SCALE, n % SCALE
    known = n < COMPONENTS * area
    value = acc + tl.load(bias + n, mask=known, other=0.0)[None, :]
    inside = (top + row < height) & (left + column < width)
    down = (top + row)[:, None] * SCALE + y[None, :]
    right = (left + column)[:, None] * SCALE + x[None, :]
    size = height.to(tl.int64) * width * area
    places = down.to(tl.int64) * (width * SCALE) + right
    mask = inside[:, None] & known[None, :]
    if CODED > 0:
        code = tl.minimum(tl.maximum(value, 0.0), ceiling).to(tl.int32)
        tl.store(
            codes + component[None, :] * size + places, code.to(codes.dtype.element_ty),
            mask=mask & (component < CODED)[None, :],
        )  # fmt: skip
    if CODED < COMPONENTS:
        tl.store(
            floats + (component - CODED)[None, :] * size + places, value,
            mask=mask & (component >= CODED)[None, :],
        )  # fmt: skip


@triton.jit(do_not_specialize=["height", "width"])
def tail_kernel(
    fused, weights, bias, codes, floats, ceiling, height, width,
    K_LOW: tl.constexpr, K_HIGH: tl.constexpr, N_LOW: tl.constexpr, N_HIGH: tl.constexpr,
    COMPONENTS: tl.constexpr, CODED: tl.constexpr, SCALE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The last convolution and all that follows, to the target's planes.

    The first ``CODED`` of ``COMPONENTS`` are codes, rounded down between 0 and ``ceiling``, in
    (pictures, CODED, H, W); the rest are float32 in (pictures, COMPONENTS - CODED, H, W).
    """
    top, left, row, column = tile_of_pixels(height, width, ROWS, COLUMNS)
    batch = tl.program_id(1).to(tl.int64) * height * width
    K: tl.constexpr = K_LOW + K_HIGH
    low = tl.zeros((ROWS * COLUMNS, N_LOW), tl.float32)
    high = tl.zeros((ROWS * COLUMNS, max(N_HIGH, 16)), tl.float32)
    low, high = multiply_taps(
        fused + (batch + top * width + left) * K, weights, top, left, row, column, height, width,
        low, high, K, 9, K_LOW, K_HIGH, N_LOW, N_HIGH, N_LOW + N_HIGH, "tf32x3",
    )  # fmt: skip
    codes += batch * (CODED * SCALE * SCALE)
    floats += batch * ((COMPONENTS - CODED) * SCALE * SCALE)
    _shuffle(
        low, bias, codes, floats, ceiling, top, left, row, column, height, width, 0,
        N_LOW, COMPONENTS, CODED, SCALE,
    )  # fmt: skip
    if N_HIGH > 0:
        _shuffle(
            high, bias, codes, floats, ceiling, top, left, row, column, height, width, N_LOW,
            N_HIGH, COMPONENTS, CODED, SCALE,
        )  # fmt: skip


def head(picture: Tensor, weights: Head, result: Tensor, *, tile: EndTile) -> Tensor:
    """The first convolution: (N, 3, H, W) float32 to ``result`` (N, H, W, C), which it returns."""
    batch, _, height, width = picture.shape
    channels = result.shape[3]
    low, high = pieces(channels)
    head_kernel[(tiles(height, width, tile.rows, tile.columns), batch)](
        picture, weights.mean, weights.weights, weights.bias, result, height, width,
        N_LOW=low, N_HIGH=high, N_STORED=channels, ROWS=tile.rows, COLUMNS=tile.columns,
        num_warps=tile.warps, num_stages=1,
    )  # fmt: skip
    return result


def fuse(
    hidden: Tensor, kept: Tensor, picture: Tensor, weights: Fusion, result: Tensor, *,
    tile: EndTile,
) -> Tensor:  # fmt: skip
    """What the last convolution sees.

    Args:
        hidden: the last block's output, (N, H, W, C) of half precision; a slice will do.
        kept: (N, H, W, 2 C), the first block's output and the last one's first activation.
        picture: (N, 3, H, W) float32, contiguous.
        weights: of each of them.
        result: (N, H, W, M) float32, contiguous; it is returned.
        tile: the configuration.
    """
    batch, height, width, channels = hidden.shape
    (k_low, k_high), (n_low, n_high) = pieces(channels), pieces(result.shape[3])
    fuse_kernel[(tiles(height, width, tile.rows, tile.columns), batch)](
        hidden, kept, picture, weights.mean, weights.deep, weights.kept, weights.direct,
        weights.bias, result, height, width, hidden.stride(2),
        K_LOW=k_low, K_HIGH=k_high, N_LOW=n_low, N_HIGH=n_high, N_STORED=result.shape[3],
        ROWS=tile.rows, COLUMNS=tile.columns, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return result


def tail(
    fused: Tensor, weights: Tensor, bias: Tensor, *, scale: int, components: int, coded: int,
    dtype: torch.dtype, ceiling: float, tile: EndTile,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The last convolution, pixel shuffle, and codes.

    Args:
        fused: (N, H, W, K) float32, contiguous.
        weights: (9, K, stored outputs) float32, outputs in the order of a pixel shuffle.
        bias: (stored outputs,) float32, one half for rounding included.
        scale: enlargement.
        components: planes that are made.
        coded: how many of them are codes.
        dtype: of codes, uint8 or uint16.
        ceiling: the largest code.
        tile: the configuration.

    Returns:
        Codes (N, coded, sH, sW), and the rest (N, components - coded, sH, sW) in float32.
    """
    batch, height, width, channels = fused.shape
    (k_low, k_high), (n_low, n_high) = pieces(channels), pieces(weights.shape[2])
    size = (height * scale, width * scale)
    codes = torch.empty((batch, coded, *size), dtype=dtype, device=fused.device)
    floats = fused.new_empty((batch, components - coded, *size))
    tail_kernel[(tiles(height, width, tile.rows, tile.columns), batch)](
        fused, weights, bias, codes, floats, ceiling, height, width,
        K_LOW=k_low, K_HIGH=k_high, N_LOW=n_low, N_HIGH=n_high, COMPONENTS=components, CODED=coded,
        SCALE=scale, ROWS=tile.rows, COLUMNS=tile.columns,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return codes, floats
