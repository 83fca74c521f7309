"""Frames that show what the one before showed are found, and need not be computed again.

Held frames are common: animation drawn at 8 or 12 pictures a second, film spread over a higher
rate, titles, stills, recorded screens.

Note [Compared with what was computed]
    A frame is compared with the latest one that goes through the network. If samples must be equal,
    that is the frame before, or has the same samples. With a threshold it matters: were each frame
    compared with the one before, a slow fade would be all small steps, and end far from the picture
    that stands for it.

Note [The measure of a difference]
    The mean over a whole picture hides a small thing that moves. So a plane is cut into blocks of
    16 by 16 samples, and what counts is the largest of all blocks' mean absolute differences, alpha
    and chroma included, in steps of 8 bits: of a block that differs by one code everywhere it is 1,
    of a single white sample in a black block 1.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from vsr.frame import Frame

__all__ = ["difference", "mark_repeats", "same"]

_BLOCK = 16
_STRIP = 16 * _BLOCK
"""Rows that are compared at a time: moving pictures differ in the first strip."""
_BYTES = {2: torch.int16, 4: torch.int32}


def mark_repeats(frames: Iterable[Frame], threshold: float = 0.0) -> Iterator[Frame]:
    """``frames`` in order, with those marked that repeat the one before, and have its planes.

    Args:
        frames: closed at the end, if it has ``close``; nothing else may write to their planes.
        threshold: 0 marks frames whose samples are all equal; above that, also those whose
            :func:`difference` is no more.
    """
    items = iter(frames)
    computed: Frame | None = None
    try:
        for frame in items:
            if computed is not None and _repeats(computed, frame, threshold):
                # Its samples, which nobody needs, must not take memory while it waits.
                yield replace(frame, repeats=True, planes=computed.planes)
            else:
                computed = frame
                yield frame
    finally:
        if hasattr(items, "close"):
            items.close()


def _repeats(computed: Frame, frame: Frame, threshold: float) -> bool:
    if threshold == 0:
        return same(computed, frame)
    return _alike(computed, frame) and difference(computed, frame, stop=threshold) <= threshold


def same(one: Frame, other: Frame) -> bool:
    """Whether two frames are read in the same way, and all samples that are seen are equal.

    Equal as bytes: a NaN equals itself, and 0 is not -0.
    """
    return _alike(one, other) and all(
        _equal(_as_integers(a), _as_integers(b)) for a, b in _strips(one, other)
    )


def difference(one: Frame, other: Frame, *, stop: float = float("inf")) -> float:
    """How much two frames differ: see note [The measure of a difference].

    Args:
        one: a frame.
        other: another; of the same size and format.
        stop: look no further once it is above this.
    """
    largest, code = 0.0, _code(one)
    for a, b in _strips(one, other):
        if not _equal(a, b):
            apart = (a.to(code.dtype) - b.to(code.dtype)).abs_().mul_(code)
            blocks = avg_pool2d(apart[None, None], _BLOCK, ceil_mode=True)
            largest = max(largest, float(blocks.nan_to_num_(torch.inf).max()))
        if largest > stop:
            break
    return largest


def _alike(one: Frame, other: Frame) -> bool:
    return (one.format, one.colour, one.width, one.height, one.planes[0].device) == (
        other.format, other.colour, other.width, other.height, other.planes[0].device,
    )  # fmt: skip


def _strips(one: Frame, other: Frame) -> Iterator[tuple[Tensor, Tensor]]:
    """The same rows of both, a strip at a time; from the middle on, above it black may be."""
    for a, b in zip(one.components, other.components, strict=True):
        starts = range(0, len(a), _STRIP)
        middle = len(starts) // 2
        for start in (*starts[middle:], *starts[:middle]):
            yield a[start : start + _STRIP], b[start : start + _STRIP]


def _code(frame: Frame) -> Tensor:
    """What a sample's difference is multiplied by to count in steps of 8 bits."""
    form = frame.format
    if form.floating:
        return torch.tensor(255.0)
    return torch.tensor(1.0 / (1 << (form.depth - 8 + form.shift)))


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.device.type != "cpu":
        return torch.equal(one, other)
    return np.array_equal(one.numpy(), other.numpy())  # a tenth of torch.equal's time


def _as_integers(plane: Tensor) -> Tensor:
    return plane.view(_BYTES[plane.element_size()]) if plane.is_floating_point() else plane
