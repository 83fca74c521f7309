"""Whether a picture that a network made can be what it was made from, enlarged.

Note [Averages instead of a Lanczos picture]
    A frame that is right looks like its source enlarged by Lanczos. Nobody has to make that picture
    to compare with it, for Lanczos keeps averages. The average of a block of the enlargement is a
    weighted average of the source, with weights that differ from the block's own only within three
    pixels of its border. For blocks of 16 pixels and pictures in [0, 1] the two averages differ by
    0.021 at most, in a picture drawn for the purpose (a test computes it), and by some thousandths
    in photographs. So averages over blocks of the result are compared with averages over the blocks
    of the source that they were made from: the result is read once, and nothing of its size is
    written. What is not finite anywhere makes its block's average not finite, so the same numbers
    show that as well.

Note [What a network may mean]
    Networks draw what was not there, but in its place: textures change within blocks, averages
    hardly do. There are two exceptions. One is detail as fine as the pixels, a checkerboard above
    all, of which some networks make anything, in float32 too; so a block in which neighbouring
    pixels differ much may differ as much. The other is the colour of a network's own taste: weights
    that were trained on drawings may move a flat magenta by 0.4. So what keeps the strict limits is
    right; what does not is held against what the same network makes in float32 of a chart, a
    picture of flat colours. The outcome depends on the frame and the network alone, not on what
    came before: a run that is continued makes the same frames as one that never stopped. Weights
    that make of the chart what nobody would call an enlargement, as untrained ones do, are only
    held to finite numbers.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "MEASURES",
    "Fault",
    "Limits",
    "Measures",
    "choose_limits",
    "draw_chart",
    "judge",
    "measure",
]

Fault = Literal["not finite", "black", "different"]

_BLOCK = 16
"""Side of a block in pixels of the source, about."""
_LARGEST_STEP = 4 * _BLOCK
"""Up to this many pixels in which a block must be counted, blocks of both pictures are aligned."""
_SEEN_ROWS = 5
"""One in so many rows is looked at for fine detail; odd, as few patterns are."""
_PLAIN = 0.25
"""Mean difference of neighbouring pixels up to which detail is not fine; photographs stay below."""
_DARKEST = 3.5 / 255
"""Sources up to here may become black."""
_ROOM = 1.5
"""How much larger the largest difference may be than in the chart."""
_ROOM_ON_AVERAGE = 4.0
"""The same of the mean: a frame may be of one colour, the chart is of all."""
_NO_ENLARGEMENT = 0.2
"""Mean difference in the chart from which on there is nothing to hold frames against; a black one
differs by 0.29."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured of a frame: averages of blocks, in which black is 0 and white is 1."""

    worst: float
    """Largest difference of a block, beyond its fine detail."""
    mean: float
    """Mean difference, beyond fine detail."""
    structure: float
    """How far the source's blocks are from their mean, on average."""
    brightest: float
    """The brightest block of the result, of any channel."""
    source: float
    """Mean of the source."""


_NAMES = Measures.__slots__
MEASURES = len(_NAMES)
"""Numbers that are measured of a picture; in a tensor, in the order of the fields."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a result may be from its source."""

    worst: float = 0.15
    mean: float = 0.04


# Measuring.


def measure(source: Tensor, result: Tensor) -> Tensor:
    """Measure pictures on their device; the host does not wait.

    See notes [Averages instead of a Lanczos picture] and [What a network may mean].

    Args:
        source: (N, C, H, W) R'G'B' as float32, nominally in [0, 1].
        result: (N, C, H', W') of any float type, what was made of it.

    Returns:
        (N, MEASURES) float32: the fields of :class:`Measures`, in their order.
    """
    before, after = _averages(source, result)
    # Pictures of floating-point numbers go beyond white, and may differ by as much more there.
    white = _spread(before.abs()).clamp_(min=1.0)
    seen = torch.minimum(torch.maximum(after, before.clamp(max=0.0)), white)
    difference = (seen - before).abs() / white - _allowance(source, before)
    difference = difference.clamp_(min=0.0) + (after - after)  # of infinity, too, no number
    structure = (before - before.mean((-1, -2), keepdim=True)).abs() / white
    found = {
        "worst": difference.flatten(1).amax(1),
        "mean": difference.flatten(1).mean(1),
        "structure": structure.flatten(1).mean(1),
        "brightest": after.flatten(1).amax(1),
        "source": before.flatten(1).mean(1),
    }
    return torch.stack([found[name] for name in _NAMES], 1)


def _averages(source: Tensor, result: Tensor) -> tuple[Tensor, Tensor]:
    """Averages over the same blocks of both, each (N, C, rows, columns) float32."""
    rows, columns = (_step(source.shape[axis], result.shape[axis]) for axis in (-2, -1))
    if rows is None or columns is None:  # without a common measure: blocks that are off by a pixel
        height, width = (max(1, side // _BLOCK) for side in source.shape[-2:])
        pool = partial(functional.adaptive_avg_pool2d, output_size=(height, width))
        return pool(source.float()), pool(result.float())
    return (
        _average(_average(source, rows[0], -2), columns[0], -1),
        _average(_average(result, rows[1], -2), columns[1], -1),
    )


def _step(before: int, after: int) -> tuple[int, int] | None:
    """Side of a block in pixels of both pictures, if it can be whole numbers of both."""
    ratio = Fraction(after, before)
    if ratio.denominator > _LARGEST_STEP:
        return None
    times = max(1, round(_BLOCK / ratio.denominator))
    return ratio.denominator * times, ratio.numerator * times


def _average(picture: Tensor, size: int, axis: int) -> Tensor:
    """Averages of ``size`` pixels along ``axis``; the last one takes in what is left over."""
    last = (max(1, picture.shape[axis] // size) - 1) * size
    rest = picture.narrow(axis, last, picture.shape[axis] - last)
    averages = [rest.mean(axis, keepdim=True, dtype=torch.float32)]
    if last:
        whole = torch.unflatten(picture.narrow(axis, 0, last), axis, (last // size, size))
        averages.insert(0, whole.mean(axis, dtype=torch.float32))
    return torch.cat(averages, axis)


def _allowance(source: Tensor, like: Tensor) -> Tensor:
    """What fine detail excuses, of blocks as those of ``like``: all of a checkerboard of pixels."""
    return _spread(_detail(source, like)).sub_(_PLAIN).clamp_(min=0.0).mul_(2.0)


def _detail(source: Tensor, like: Tensor) -> Tensor:
    """By how much neighbouring pixels differ in any channel, on average over blocks as ``like``."""
    upper, lower = source[..., ::_SEEN_ROWS, :], source[..., 1::_SEEN_ROWS, :]
    across = (upper[..., 1:] - upper[..., :-1]).abs_()
    down = (lower - upper[..., : lower.shape[-2], :]).abs_()
    pool = partial(functional.adaptive_avg_pool2d, output_size=(like.shape[-2], like.shape[-1]))
    found = [pool(d) for d in (across, down) if d.numel()]
    return torch.cat(found or [torch.zeros_like(like)], 1).amax(1, keepdim=True)


def _spread(blocks: Tensor) -> Tensor:
    """The largest of each block and its neighbours."""
    return functional.max_pool2d(blocks, 3, stride=1, padding=1)


# Judging.


def judge(measures: Measures, limits: Limits | None) -> Fault | None:
    """What is wrong with a picture, if anything.

    Args:
        measures: of the picture.
        limits: how far it may be from its source; None is as far as it likes, black included.
    """
    if not all(map(math.isfinite, (measures.worst, measures.mean, measures.brightest))):
        return "not finite"
    if limits is None:
        return None
    if measures.source > _DARKEST and measures.brightest < measures.source / 4:
        return "black"
    near = measures.worst <= limits.worst and measures.mean <= limits.mean
    return None if near else "different"


def draw_chart(device: torch.device) -> Tensor:
    """Flat colours, dark to bright and gray to saturated, of 2x2 blocks: (1, 3, H, W) float32."""
    levels = torch.tensor([0.02, 0.25, 0.5, 0.75, 1.0], device=device)
    grays = levels.expand(3, -1)
    bars = torch.tensor([[n >> bit & 1 for n in range(1, 7)] for bit in range(3)], device=device)
    colours = torch.cat([grays, *(level * bars for level in levels)], 1)  # 3, 35
    blocks = colours.view(3, 5, 7)[None]
    return blocks.repeat_interleave(2 * _BLOCK, -1).repeat_interleave(2 * _BLOCK, -2)


def choose_limits(chart: Measures) -> Limits | None:
    """How far a network's results may be from their sources, by what it makes of the chart.

    See note [What a network may mean].
    """
    if not math.isfinite(chart.mean) or chart.mean > _NO_ENLARGEMENT:
        return None
    strict = Limits()
    return Limits(
        worst=max(strict.worst, _ROOM * chart.worst),
        mean=max(strict.mean, _ROOM_ON_AVERAGE * chart.mean),
    )
