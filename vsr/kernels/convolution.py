"""A 3x3 convolution as a matrix product, and what follows it, in one kernel.

Features are NHWC: a pixel's channels lie side by side, rounded up to a :func:`stored` width whose
surplus is zero. A program makes a tile of pixels. For each of the nine taps it loads the pixels
that lie there and multiplies them with that tap's (inputs, outputs) matrix; sums are float32.

Note [Pieces]
    Triton's tiles are powers of two, SPAN has 48 channels. So both sides of a product are cut into
    a low and a high piece, 32 + 16, and nothing is computed twice. ``wgmma`` of Hopper reads its
    left operand from shared memory for each piece again, which can cost more than the quarter of a
    product that one piece of 64 outputs wastes: the outputs' width is a part of a configuration,
    and the clock decides.

Note [Slices]
    Results go to any slice of a wider buffer: ``stride`` is the distance of pixels in it. So the
    features that SPAN concatenates are written side by side where they arise.
"""

from dataclasses import dataclass
from enum import IntEnum

import triton
import triton.language as tl
from torch import Tensor

__all__ = [
    "ConvTile",
    "Epilogue",
    "conv3x3",
    "conv3x3_kernel",
    "finish",
    "multiply_taps",
    "pack",
    "pieces",
    "stored",
    "tile_of_pixels",
    "tiles",
]


class Epilogue(IntEnum):
    """What is done to ``value``, a convolution with its bias."""

    BIAS = 0
    """Nothing."""
    SILU = 1
    """value * sigmoid(value)."""
    ATTENTION = 2
    """(value + x) * (sigmoid(value) - 1/2): the end of SPAN's block, section 3.2 of its paper."""


@dataclass(frozen=True, slots=True)
class ConvTile:
    """How a convolution is cut up: the configuration that is tuned."""

    rows: int = 8
    columns: int = 16
    whole: bool = False
    """One piece of outputs, rounded up to a power of two (see Note [Pieces])."""
    warps: int = 4
    stages: int = 3


def stored(channels: int) -> int:
    """The width that ``channels`` take in memory: 16 n, as one power of two or the sum of two."""
    width = -(-channels // 16) * 16
    while (width - _power_below(width)).bit_count() > 1:
        width += 16
    return width


def pieces(width: int, *, whole: bool = False) -> tuple[int, int]:
    """A stored width as (low, high), powers of two; high is 0 where low is enough."""
    low = _power_below(width)
    if whole and low < width:
        return 2 * low, 0
    return low, width - low


def _power_below(width: int) -> int:
    return 1 << (width.bit_length() - 1)


def pack(weight: Tensor, inputs: int, outputs: int) -> Tensor:
    """A kernel (O, I, k, k) as (k * k, inputs, outputs), padded with zeros."""
    own_outputs, own_inputs, *_ = weight.shape
    packed = weight.new_zeros(weight[0, 0].numel(), inputs, outputs)
    packed[:, :own_inputs, :own_outputs] = weight.flatten(2).permute(2, 1, 0)
    return packed.contiguous()


@triton.jit
def tile_of_pixels(height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The first pixel of this program's tile, and (row, column) of each pixel from there."""
    across = tl.cdiv(width, COLUMNS)
    top = tl.program_id(0) // across * ROWS
    left = tl.program_id(0) % across * COLUMNS
    index = tl.arange(0, ROWS * COLUMNS)
    return top, left, index // COLUMNS, index % COLUMNS


@triton.jit
def multiply_taps(
    source, weights, top, left, row, column, height, width, low, high,
    stride, TAPS: tl.constexpr, K_LOW: tl.constexpr, K_HIGH: tl.constexpr,
    N_LOW: tl.constexpr, N_HIGH: tl.constexpr, N_STORED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add the products of all taps to ``low`` and ``high``; ``source`` is the tile's first pixel.

    ``TAPS`` is 9, or 1 for a 1x1 convolution. Beyond the picture, pixels are zero.
    """
    k_low, n_low = tl.arange(0, K_LOW), tl.arange(0, N_LOW)
    for tap in range(TAPS):
        down = tap // 3 - 1 if TAPS == 9 else 0
        right = tap % 3 - 1 if TAPS == 9 else 0
        y, x = top + row + down, left + column + right
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        pixels = source + ((row + down) * width + column + right)[:, None] * stride
        matrix = weights + tap * ((K_LOW + K_HIGH) * N_STORED)
        a = tl.load(pixels + k_low[None, :], mask=inside[:, None], other=0.0)
        b = tl.load(matrix + k_low[:, None] * N_STORED + n_low[None, :])
        low = tl.dot(a, b, low, input_precision=PRECISION)
        if N_HIGH > 0:
            n_high = N_LOW + tl.arange(0, N_HIGH)
            b = tl.load(matrix + k_low[:, None] * N_STORED + n_high[None, :])
            high = tl.dot(a, b, high, input_precision=PRECISION)
        if K_HIGH > 0:
            k_high = K_LOW + tl.arange(0, K_HIGH)
            a = tl.load(pixels + k_high[None, :], mask=inside[:, None], other=0.0)
            b = tl.load(matrix + k_high[:, None] * N_STORED + n_low[None, :])
            low = tl.dot(a, b, low, input_precision=PRECISION)
            if N_HIGH > 0:
                n_high = N_LOW + tl.arange(0, N_HIGH)
                b = tl.load(matrix + k_high[:, None] * N_STORED + n_high[None, :])
                high = tl.dot(a, b, high, input_precision=PRECISION)
    return low, high


@triton.jit
def finish(value, x, EPILOGUE: tl.constexpr):
    """What follows a convolution; ``x`` counts for ATTENTION only."""
    if EPILOGUE == 1:
        value = value * tl.sigmoid(value)
    if EPILOGUE == 2:
        value = (value + x) * (tl.sigmoid(value) - 0.5)
    return value


@triton.jit
def _store(
    acc, bias, residual, result, pixels, inside, first,
    residual_stride, result_stride,
    N: tl.constexpr, N_STORED: tl.constexpr, EPILOGUE: tl.constexpr,
):  # fmt: skip
    """Finish a piece of outputs and write it."""
    n = first + tl.arange(0, N)
    mask = inside[:, None] & (n < N_STORED)[None, :]
    value = acc + tl.load(bias + n, mask=n < N_STORED, other=0.0)[None, :]
    x = value
    if EPILOGUE == 2:
        x = tl.load(
            residual + pixels[:, None] * residual_stride + n[None, :], mask=mask, other=0.0
        ).to(tl.float32)
    value = finish(value, x, EPILOGUE)
    places = result + pixels[:, None] * result_stride + n[None, :]
    tl.store(places, value.to(result.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["height", "width"])
def conv3x3_kernel(
    source, weights, bias, residual, result, height, width,
    source_stride, residual_stride, result_stride,
    K_LOW: tl.constexpr, K_HIGH: tl.constexpr, N_LOW: tl.constexpr, N_HIGH: tl.constexpr,
    N_PACKED: tl.constexpr, N_STORED: tl.constexpr, EPILOGUE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One tile of one picture; the grid is (tiles, pictures)."""
    top, left, row, column = tile_of_pixels(height, width, ROWS, COLUMNS)
    first = (tl.program_id(1).to(tl.int64) * height + top) * width + left
    low = tl.zeros((ROWS * COLUMNS, N_LOW), tl.float32)
    high = tl.zeros((ROWS * COLUMNS, max(N_HIGH, 16)), tl.float32)
    low, high = multiply_taps(
        source + first * source_stride, weights, top, left, row, column, height, width, low, high,
        source_stride, 9, K_LOW, K_HIGH, N_LOW, N_HIGH, N_PACKED, "ieee",
    )  # fmt: skip
    inside = (top + row < height) & (left + column < width)
    pixels = row * width + column
    residual += first * residual_stride
    result += first * result_stride
    _store(
        low, bias, residual, result, pixels, inside, 0,
        residual_stride, result_stride, N_LOW, N_STORED, EPILOGUE,
    )  # fmt: skip
    if N_HIGH > 0:
        _store(
            high, bias, residual, result, pixels, inside, N_LOW,
            residual_stride, result_stride, N_HIGH, N_STORED, EPILOGUE,
        )  # fmt: skip


def conv3x3(
    source: Tensor, weights: Tensor, bias: Tensor, result: Tensor, *,
    residual: Tensor | None = None,
    epilogue: Epilogue = Epilogue.BIAS, tile: ConvTile | None = None,
) -> Tensor:  # fmt: skip
    """Convolve ``source`` with zeros around it, do what follows, and write it to ``result``.

    Args:
        source: features (N, H, W, K) of half precision; a slice of a wider buffer will do.
        weights: as :func:`pack` makes them for K inputs and the power of two that holds M outputs.
        bias: (M,) float32.
        result: (N, H, W, M), or a slice; another one than ``source``.
        residual: (N, H, W, M), what ``Epilogue.ATTENTION`` adds.
        epilogue: what follows.
        tile: the configuration.

    Returns:
        ``result``.
    """
    batch, height, width, inputs = source.shape
    outputs, tile = result.shape[3], tile or ConvTile()
    residual = source if residual is None else residual
    (k_low, k_high), (n_low, n_high) = pieces(inputs), pieces(outputs, whole=tile.whole)
    conv3x3_kernel[(tiles(height, width, tile.rows, tile.columns), batch)](
        source, weights, bias, residual, result, height, width,
        source.stride(2), residual.stride(2), result.stride(2),
        K_LOW=k_low, K_HIGH=k_high, N_LOW=n_low, N_HIGH=n_high, N_PACKED=weights.shape[2],
        N_STORED=outputs, EPILOGUE=int(epilogue), ROWS=tile.rows, COLUMNS=tile.columns,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return result


def tiles(height: int, width: int, rows: int, columns: int) -> int:
    """How many tiles cover a picture."""
    return -(-height // rows) * -(-width // columns)
