"""Split a picture into tiles with a halo, and stitch the results so that no seam exists.

A halo of a convolutional network's receptive radius makes tiled and whole output equal. It holds
real pixels inside the picture and stops at its edges, where the network pads by itself as it would
for the whole picture.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

__all__ = ["Stretch", "Tile", "run_tiled", "split"]


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


def _spans(length: int, tile: int, halo: int) -> list[Stretch]:
    count = -(-length // tile)
    edges = [length * index // count for index in range(count + 1)]  # sides of nearly equal length
    return [
        Stretch(slice(max(0, start - halo), min(length, end + halo)), slice(start, end))
        for start, end in pairwise(edges)
    ]


def split(height: int, width: int, tile: int, halo: int) -> Iterator[Tile]:
    """Yield tiles of at most ``tile`` pixels a side, halo excluded, that cover the picture."""
    columns = _spans(width, tile, halo)
    for rows in _spans(height, tile, halo):
        for across in columns:
            yield Tile(rows, across)


def run_tiled(
    run: Callable[[Tensor], Tensor], picture: Tensor, *, tile: int, halo: int, scale: int
) -> Tensor:
    """Apply ``run`` tile by tile.

    Args:
        run: maps (N, C, h, w) to (N, C', scale * h, scale * w), any h and w.
        picture: (N, C, H, W).
        tile: longest side of a tile in input pixels, halo excluded.
        halo: margin in input pixels.
        scale: enlargement of ``run``.

    Returns:
        (N, C', scale * H, scale * W).
    """
    height, width = picture.shape[-2:]
    if tile >= max(height, width):
        return run(picture)
    result: Tensor | None = None
    for part in split(height, width, tile, halo):
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
