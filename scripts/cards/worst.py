"""The places where a model is farthest from the truth."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from evaluate import Upscale
from pictures import reduce_bicubic, render, to_uint8
from torch import Tensor
from video import Result

__all__ = ["SEED", "Crops", "Pair", "rendered_pairs", "worst_of_clip", "worst_places"]

_CROP = 96
"""Side of a picture of a failure, in pixels of the output."""
_RENDERED, SEED = 12, 1
"""How many pictures are searched, of a seed that no recipe has."""

Crops = tuple[float, list[Tensor]]
"""How wrong a model is there, in codes, and what is seen there, each (3, h, w) uint8."""


Pair = tuple[Tensor, Tensor]
"""A picture reduced, and as it was: (3, h, w) and (3, H, W) uint8."""


def rendered_pairs(scale: int) -> Iterator[Pair]:
    """Pictures of ours that no training has seen."""
    for picture in render(_RENDERED, 2 * _CROP, SEED):
        yield reduce_bicubic(picture, scale), picture


def worst_places(upscale: Upscale, pictures: Iterable[Pair], scale: int) -> list[Crops]:
    """Where a model is farthest from the truth, one place of each picture: input, output, truth."""
    found = []
    for low, high in pictures:
        out = to_uint8(upscale(low[None].float() / 255)[0].float() * 255)
        error, square = worst_square(out, high, scale)
        found.append((error, [part[square] for part in (_enlarged(low, scale), out, high)]))
    return found


def worst_square(out: Tensor, high: Tensor, scale: int) -> tuple[float, tuple[slice, ...]]:
    """The square in which (3, H, W) uint8 pictures differ most; by how many codes, on average."""
    error = (out.float() - high.float()).abs().mean(0, keepdim=True)
    side = min(_CROP, *out.shape[-2:])
    means = torch.nn.functional.avg_pool2d(error[None], side, scale)[0, 0]
    place = int(means.argmax())
    top, left = (scale * v for v in divmod(place, means.shape[1]))
    return float(means.max()), (slice(None), slice(top, top + side), slice(left, left + side))


def _enlarged(low: Tensor, scale: int) -> Tensor:
    """By nearest neighbour."""
    return low.repeat_interleave(scale, 1).repeat_interleave(scale, 2)


def worst_of_clip(results: Sequence[Result], truth: Tensor, scale: int) -> Crops:
    """Where the first model is farthest from a coded clip's truth: input, each output, truth."""
    middle = len(truth) // 2
    error, square = worst_square(results[0].output[middle], truth[middle], scale)
    outputs = [result.output[middle] for result in results]
    seen = [_enlarged(results[0].low[middle], scale), *outputs, truth[middle]]
    return error, [part[square] for part in seen]
