"""Split a picture into tiles and join the results so that no seam exists.

A halo of a convolutional network's receptive radius makes tiled and whole output equal. It holds
real pixels inside the picture and stops at its edges, where the network pads by itself as it would
for the whole picture.

A network that attends in windows sees too far for that. Its tiles begin where windows begin,
overlap, and are blended across the overlap: close to the whole frame, not equal to it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock

import torch
from torch import Tensor

__all__ = ["Stretch", "Tile", "Tiling", "run_tiled", "split"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of one axis: what is read, and which part of it is kept."""

    read: slice
    keep: slice
    """Relative to the start of the picture, not of ``read``."""

    def scaled(self, origin: int, scale: int) -> slice:
        """What is kept, counted in output pixels from input pixel ``origin``."""
        return slice(scale * (self.keep.start - origin), scale * (self.keep.stop - origin))


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a picture."""

    rows: Stretch
    columns: Stretch


class Tiling:
    """Into how large tiles pictures are split: decided once for all who share it, in any thread.

    Args:
        longest: their longest side in input pixels, halo excluded; None: not decided, so not at
            all.
    """

    def __init__(self, longest: int | None) -> None:
        self._longest = longest
        self._deciding = Lock()

    @property
    def longest(self) -> int | None:
        """Longest side of a tile, if pictures are tiled."""
        return self._longest

    def settle(self, choose: Callable[[], int | None]) -> None:
        """Take what ``choose`` returns, unless there is a size."""
        if self._longest is None:
            with self._deciding:
                self._longest = choose() if self._longest is None else self._longest

    def shrink(self, tried: int, longest: int) -> bool:
        """Go down to ``longest`` from what has been ``tried``, unless another thread has done so.

        Returns:
            Whether that is news.
        """
        with self._deciding:
            if self._longest is not None and self._longest < tried:
                return False
            self._longest = longest
            return True


def _spans(length: int, tile: int, halo: int, multiple: int) -> list[Stretch]:
    cells = -(-length // multiple)
    count = -(-cells // max(1, tile // multiple))
    starts = [multiple * (cells * index // count) for index in range(count)]
    edges = [*starts, length]  # sides of nearly equal length
    return [
        Stretch(slice(max(0, start - halo), min(length, end + halo)), slice(start, end))
        for start, end in pairwise(edges)
    ]


def split(
    height: int, width: int, tile: int, halo: int, multiple: int = 1
) -> Iterator[Tile]:  # fmt: skip
    """Yield tiles of at most ``tile`` pixels a side, halo excluded, that cover the picture.

    They begin at multiples of ``multiple``, of which ``halo`` is one.
    """
    columns = _spans(width, tile, halo, multiple)
    for rows in _spans(height, tile, halo, multiple):
        for across in columns:
            yield Tile(rows, across)


def run_tiled(  # noqa: PLR0913 - all but the first two by keyword
    run: Callable[[Tensor], Tensor], picture: Tensor, *, tile: int, halo: int, scale: int,
    grid: int = 1, multiple: int = 1,
) -> Tensor:  # fmt: skip
    """Apply ``run`` tile by tile.

    Args:
        run: maps (N, C, h, w) to (N, C', scale * h, scale * w), any h and w.
        picture: (N, C, H, W).
        tile: longest side of a tile in input pixels, halo excluded.
        halo: margin in input pixels; with a ``grid``, overlap.
        scale: enlargement of ``run``.
        grid: above 1, tiles begin at multiples of this and are blended.
        multiple: side of the cells that ``run`` works on: without a ``grid``, tiles begin where
            cells do.

    Returns:
        (N, C', scale * H, scale * W).
    """
    height, width = picture.shape[-2:]
    if tile >= max(height, width):
        return run(picture)
    if grid > 1:
        return _run_blended(run, picture, step=max(grid, tile // grid * grid), overlap=halo,
                            scale=scale)  # fmt: skip
    result: Tensor | None = None
    for part in split(height, width, tile, halo, multiple):
        out = run(picture[..., part.rows.read, part.columns.read])
        if result is None:
            result = out.new_empty((*out.shape[:2], scale * height, scale * width))
        rows, columns = part.rows, part.columns
        inner = out[
            ..., rows.scaled(rows.read.start, scale), columns.scaled(columns.read.start, scale)
        ]
        result[..., rows.scaled(0, scale), columns.scaled(0, scale)] = inner
    assert result is not None
    return result


def _run_blended(
    run: Callable[[Tensor], Tensor], picture: Tensor, *, step: int, overlap: int, scale: int
) -> Tensor:
    """Tiles every ``step`` pixels, each ``overlap`` longer than that, with linear cross-fades."""
    height, width = picture.shape[-2:]
    result: Tensor | None = None
    for top in _starts(height, step, overlap):
        rows = slice(top, min(height, top + step + overlap))
        for left in _starts(width, step, overlap):
            columns = slice(left, min(width, left + step + overlap))
            out = run(picture[..., rows, columns])
            if result is None:
                result = out.new_zeros((*out.shape[:2], scale * height, scale * width))
            across = _fade(columns, width, overlap, scale, out)
            down = _fade(rows, height, overlap, scale, out)
            result[
                ...,
                scale * rows.start : scale * rows.stop,
                scale * columns.start : scale * columns.stop,
            ] += out * (down[:, None] * across)
    assert result is not None
    return result


def _starts(length: int, step: int, overlap: int) -> range:
    """Where tiles begin; one that its neighbour covers wholly is left out."""
    return range(0, max(1, length - overlap), step)


def _fade(part: slice, length: int, overlap: int, scale: int, like: Tensor) -> Tensor:
    """The weight of a tile along one axis; with its neighbours' it adds up to one."""
    # made where it is used: a copy to a GPU would wait for what runs there
    weight = torch.ones(scale * (part.stop - part.start), device=like.device)
    ramp = (torch.arange(scale * overlap, device=like.device) + 0.5) / (scale * overlap)
    if part.start > 0:
        weight[: len(ramp)] *= ramp
    if part.stop < length:
        weight[-len(ramp) :] *= 1 - ramp
    return weight.to(like.dtype)
