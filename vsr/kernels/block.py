"""SPAN's block, three convolutions, in one kernel: features are read once and written once.

Note [Strips]
    A program walks down a strip of the picture. With every row that it reads it finishes one row of
    each layer: of the first, one row higher; of the second, two; of the block, three. Two rows of
    each layer are all that it keeps, and the weights of all three layers stay in shared memory:
    122 KiB for 48 channels, 54 for 32. The first fit on an A100 or a Hopper, not on a GeForce.

Note [Shifts]
    Triton can not read shared memory from a pixel further to the left. So a row is multiplied as it
    lies, with the matrices of all three columns of the kernel, and the outer two sums are moved by
    a pixel. At the ends of a strip the neighbour is missing: each layer spoils one pixel more, so
    a strip of M pixels yields M - 6.

Note [Rounds]
    A program fills a processor: its shared memory, or its registers. Programs therefore run in
    rounds of as many as there are processors, and a last round of a few takes as long as a full
    one. So strips are cut into pieces not after a fixed number of rows, but where rounds times
    rows, the six that a piece repeats included, are fewest: 1080 rows of 16 strips into 8 pieces,
    one round of 128 programs on the 132 processors of an H100.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from vsr.kernels.convolution import finish, pieces

__all__ = [
    "Strip",
    "block_kernel",
    "fits_in_strips",
    "fused_block",
    "hoists",
    "pack_block",
    "rows_of_a_piece",
]


@dataclass(frozen=True, slots=True)
class Strip:
    """How a picture is cut up for the fused block: the configuration that is tuned."""

    columns: int = 128
    """Pixels of a strip, six of which overlap the next."""
    warps: int = 8


def fits_in_strips(width: int) -> bool:
    """Whether features of a stored ``width`` can be walked in strips: 16, 32 or 48."""
    return width in (16, 32, 48)


def hoists(major: int) -> bool:
    """Whether addresses are computed once and kept in registers from row to row.

    On Hopper that runs out of registers; elsewhere there are enough.

    Args:
        major: of the compute capability, ``major``.x.
    """
    return major != 9


@cache
def rows_of_a_piece(height: int, strips: int, processors: int) -> int:
    """After how many rows of ``strips`` of a ``height`` each the next program takes over.

    See Note [Rounds].
    """

    def walked(pieces: int) -> int:
        return -(-strips * pieces // processors) * (-(-height // pieces) + 6)

    return -(-height // min(range(1, height + 1), key=walked))


def pack_block(weights: Sequence[Tensor]) -> Tensor:
    """Three kernels (O, I, 3, 3), padded to a stored width C, as (3, 3, C, 3 C): layer, row, ….

    A row of the kernel is one matrix of C inputs and the outputs of its three columns. Their low
    pieces come first, then the high ones: a power of two, and one high piece (see Note [Pieces] in
    vsr.kernels.convolution).
    """
    low, high = pieces(weights[0].shape[0])
    layers = []
    for weight in weights:
        rows = weight.permute(2, 1, 3, 0)  # row, input, column, output
        parts = (rows[..., :low].flatten(2), rows[..., low : low + high].flatten(2))
        layers.append(torch.cat(parts, dim=2))
    return torch.stack(layers).contiguous()


@triton.jit
def _matrices(weights, LOW: tl.constexpr, HIGH: tl.constexpr, PARTS: tl.constexpr):
    """A layer's weights: for each row and piece of inputs, the wide tile and the rest.

    See :func:`pack_block` for the order of columns.
    """
    WIDE: tl.constexpr = 3 * LOW + 2 * HIGH if HIGH > 0 else LOW
    TOTAL: tl.constexpr = 3 * (LOW + HIGH)
    found = ()
    for row in tl.static_range(3):
        for k in tl.static_range(PARTS):
            inputs = k * LOW + tl.arange(0, HIGH if k > 0 else LOW)
            places = weights + (row * (LOW + HIGH) + inputs)[:, None] * TOTAL
            if HIGH > 0:
                found += (
                    tl.load(places + tl.arange(0, WIDE)[None, :]),
                    tl.load(places + (WIDE + tl.arange(0, HIGH))[None, :]),
                )
            else:
                for column in tl.static_range(3):
                    found += (tl.load(places + (column * LOW + tl.arange(0, LOW))[None, :]),)
    return found


@triton.jit
def _halves(value, M: tl.constexpr, N: tl.constexpr):
    """Left and right columns of a (M, 2 N) tile."""
    return tl.split(tl.permute(tl.reshape(value, (M, 2, N)), (0, 2, 1)))


@triton.jit
def _sum_columns(left, middle, right, M: tl.constexpr, N: tl.constexpr):
    """The sums over each column of the kernel, moved to where they belong (see Note [Shifts])."""
    m = tl.arange(0, M)
    before = tl.broadcast_to(tl.maximum(m - 1, 0)[:, None], (M, N))
    after = tl.broadcast_to(tl.minimum(m + 1, M - 1)[:, None], (M, N))
    return middle + tl.gather(left, before, 0) + tl.gather(right, after, 0)


@triton.jit
def _tile(above, here, below, matrices, FIRST: tl.constexpr, STEP: tl.constexpr):
    """Rows times their matrices, which begin at ``FIRST`` and lie ``STEP`` apart."""
    acc = tl.dot(above, matrices[FIRST])
    acc = tl.dot(here, matrices[FIRST + STEP], acc)
    return tl.dot(below, matrices[FIRST + 2 * STEP], acc)


@triton.jit
def _add_tile(acc, above, here, below, matrices, FIRST: tl.constexpr, STEP: tl.constexpr):
    acc = tl.dot(above, matrices[FIRST], acc)
    acc = tl.dot(here, matrices[FIRST + STEP], acc)
    return tl.dot(below, matrices[FIRST + 2 * STEP], acc)


@triton.jit
def _convolve(
    above, here, below, matrices, bias, M: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr
):
    """A convolution of three rows, with bias, by piece of outputs; spoilt at both ends."""
    if HIGH > 0:
        wide = _tile(above[0], here[0], below[0], matrices, 0, 4)
        wide = _add_tile(wide, above[1], here[1], below[1], matrices, 2, 4)
        rest = _tile(above[0], here[0], below[0], matrices, 1, 4)
        rest = _add_tile(rest, above[1], here[1], below[1], matrices, 3, 4)
        first, second = _halves(wide, M, 2 * LOW)
        left, middle = _halves(first, M, LOW)
        right, mixed = _halves(second, M, LOW)
        low = _sum_columns(left, middle, right, M, LOW)
        left, middle = _halves(mixed, M, HIGH)
        high = _sum_columns(left, middle, rest, M, HIGH)
        sums = (
            low + tl.load(bias + tl.arange(0, LOW))[None, :],
            high + tl.load(bias + LOW + tl.arange(0, HIGH))[None, :],
        )
    else:
        left = _tile(above[0], here[0], below[0], matrices, 0, 3)
        middle = _tile(above[0], here[0], below[0], matrices, 1, 3)
        right = _tile(above[0], here[0], below[0], matrices, 2, 3)
        low = _sum_columns(left, middle, right, M, LOW)
        sums = (low + tl.load(bias + tl.arange(0, LOW))[None, :],)
    return sums


@triton.jit
def _layer(
    above, here, below, matrices, bias, inside, M: tl.constexpr, LOW: tl.constexpr,
    HIGH: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """An inner layer's next row; zero where the picture ends."""
    sums = _convolve(above, here, below, matrices, bias, M, LOW, HIGH)
    row = (tl.where(inside[:, None], finish(sums[0], 0.0, 1), 0.0).to(DTYPE),)
    if HIGH > 0:
        row += (tl.where(inside[:, None], finish(sums[1], 0.0, 1), 0.0).to(DTYPE),)
    return row


@triton.jit
def _between(columns, y, first, end):
    """``columns`` where row ``y`` lies in [first, end), else nothing."""
    rows = tl.zeros(columns.shape, tl.int32) + y
    return columns & (rows >= first) & (rows < end)


@triton.jit
def _pixels(pointer, inside, stride, FIRST: tl.constexpr, SIZE: tl.constexpr):
    """One piece of a row of features."""
    places = tl.arange(0, inside.shape[0])[:, None] * stride + FIRST + tl.arange(0, SIZE)[None, :]
    return tl.load(pointer + places, mask=inside[:, None], other=0.0)


@triton.jit
def _row(pointer, inside, stride, LOW: tl.constexpr, HIGH: tl.constexpr, PARTS: tl.constexpr):
    row = (_pixels(pointer, inside, stride, 0, LOW),)
    if PARTS > 1:
        row += (_pixels(pointer, inside, stride, LOW, HIGH),)
    return row


@triton.jit
def _zeros(
    M: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, PARTS: tl.constexpr, DTYPE: tl.constexpr
):
    row = (tl.zeros((M, LOW), DTYPE),)
    if PARTS > 1:
        row += (tl.zeros((M, HIGH), DTYPE),)
    return row


@triton.jit
def _put(pointer, value, inside, stride, FIRST: tl.constexpr, SIZE: tl.constexpr):
    places = tl.arange(0, inside.shape[0])[:, None] * stride + FIRST + tl.arange(0, SIZE)[None, :]
    tl.store(pointer + places, value, mask=inside[:, None])


@triton.jit
def _deliver(
    value, source, result, keep, source_stride, result_stride,
    FIRST: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Finish a piece of the block's next row, and write it."""
    x = _pixels(source, keep, source_stride, FIRST, SIZE).to(tl.float32)
    value = finish(value, x, 2).to(result.dtype.element_ty)
    _put(result, value, keep, result_stride, FIRST, SIZE)


@triton.jit(do_not_specialize=["height", "width", "rows"])
def block_kernel(
    source, weights, bias, result, first_result, height, width, rows,
    source_stride, result_stride, first_stride,
    LOW: tl.constexpr, HIGH: tl.constexpr, KEEP_FIRST: tl.constexpr,
    M: tl.constexpr, HOIST: tl.constexpr,
):  # fmt: skip
    """One piece of one strip of one picture; the grid is (strips x pieces, pictures)."""
    PARTS: tl.constexpr = 2 if HIGH > 0 else 1
    DTYPE: tl.constexpr = source.dtype.element_ty
    LAYER: tl.constexpr = 9 * (LOW + HIGH) * (LOW + HIGH)
    strips = tl.cdiv(width, M - 6)
    left = tl.program_id(0) % strips * (M - 6) - 3
    top = tl.program_id(0) // strips * rows
    bottom = tl.minimum(top + rows, height)
    x = left + tl.arange(0, M)
    columns = (x >= 0) & (x < width)
    mine = columns & (tl.arange(0, M) >= 3) & (tl.arange(0, M) < M - 3)
    origin = tl.program_id(1).to(tl.int64) * height * width + left
    first = _matrices(weights, LOW, HIGH, PARTS)
    second = _matrices(weights + LAYER, LOW, HIGH, PARTS)
    third = _matrices(weights + 2 * LAYER, LOW, HIGH, PARTS)
    x0 = _zeros(M, LOW, HIGH, PARTS, DTYPE)
    x1 = _zeros(M, LOW, HIGH, PARTS, DTYPE)
    a0 = _zeros(M, LOW, HIGH, PARTS, DTYPE)
    a1 = _zeros(M, LOW, HIGH, PARTS, DTYPE)
    b0 = _zeros(M, LOW, HIGH, PARTS, DTYPE)
    b1 = _zeros(M, LOW, HIGH, PARTS, DTYPE)
    for y in tl.range(top - 3, bottom + 3, disable_licm=not HOIST):
        inside = _between(columns, y, 0, height)
        x2 = _row(
            source + (origin + y * width) * source_stride, inside, source_stride, LOW, HIGH, PARTS
        )
        inside = _between(columns, y - 1, 0, height)
        a2 = _layer(x0, x1, x2, first, bias, inside, M, LOW, HIGH, DTYPE)
        if KEEP_FIRST:
            keep = _between(mine, y - 1, top, bottom)
            place = first_result + (origin + (y - 1) * width) * first_stride
            _put(place, a2[0], keep, first_stride, 0, LOW)
            if PARTS > 1:
                _put(place, a2[1], keep, first_stride, LOW, HIGH)
        inside = _between(columns, y - 2, 0, height)
        b2 = _layer(a0, a1, a2, second, bias + LOW + HIGH, inside, M, LOW, HIGH, DTYPE)
        keep = _between(mine, y - 3, top, bottom)
        here = origin + (y - 3) * width
        sums = _convolve(b0, b1, b2, third, bias + 2 * (LOW + HIGH), M, LOW, HIGH)
        old, new = source + here * source_stride, result + here * result_stride
        _deliver(sums[0], old, new, keep, source_stride, result_stride, 0, LOW)
        if HIGH > 0:
            _deliver(sums[1], old, new, keep, source_stride, result_stride, LOW, HIGH)
        x0, x1, a0, a1, b0, b1 = x1, x2, a1, a2, b1, b2


def fused_block(
    source: Tensor, weights: Tensor, bias: Tensor, result: Tensor, *,
    first: Tensor | None = None, strip: Strip,
) -> Tensor:  # fmt: skip
    """SPAN's block: features to features.

    Args:
        source: (N, H, W, C) of half precision; a slice of a wider buffer will do.
        weights: as :func:`pack_block` makes them.
        bias: (3, C) float32.
        result: (N, H, W, C), or a slice; another one than ``source``.
        first: where to put the first activation, like ``result``.
        strip: the configuration.

    Returns:
        ``result``.
    """
    batch, height, width, channels = source.shape
    low, high = pieces(channels)
    processors, hoist = _facts(source.device)
    strips = -(-width // (strip.columns - 6))
    rows = rows_of_a_piece(height, strips * batch, processors)
    kept = result if first is None else first
    block_kernel[(strips * -(-height // rows), batch)](
        source, weights, bias, result, kept, height, width, rows,
        source.stride(2), result.stride(2), kept.stride(2),
        LOW=low, HIGH=high, KEEP_FIRST=first is not None, M=strip.columns,
        HOIST=hoist, num_warps=strip.warps, num_stages=1,
    )  # fmt: skip
    return result


@cache
def _facts(device: torch.device) -> tuple[int, bool]:
    """How many processors there are, and whether addresses are hoisted there."""
    if device.type != "cuda":
        return 1, False
    found = torch.cuda.get_device_properties(device)
    return found.multi_processor_count, hoists(found.major)
