"""Patches for a step, drawn from caches: the numbers on the host, the pixels wherever they lie.

Note [Eight ways at once]: a batch is one gather. Where its pixels are read is an index for every
pixel, and turning and mirroring a patch is turning and mirroring its indices. On a GPU that is two
kernels a batch, on any device the same patches for the same seed. What is drawn goes there through
pinned memory, so that the host waits for nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.cache import GRID, Cache

__all__ = ["Pool", "Sampler"]

_WAYS = 8
_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pool:
    """A cache, where its pixels are, and the share of all patches that it provides."""

    cache: Cache
    share: float
    low: Tensor
    high: Tensor
    detail: NDArray[np.float32]
    """(items, rows, columns): of the patch that begins at each place."""

    @classmethod
    def of(cls, cache: Cache, share: float, patch: int, device: torch.device) -> "Pool":
        """A pool of patches of ``patch`` low-resolution pixels."""
        cells = torch.from_numpy(cache.detail)
        detail = torch.nn.functional.avg_pool2d(cells[:, None], patch // GRID, 1)[:, 0]
        low, high = (torch.from_numpy(part).to(device) for part in (cache.low, cache.high))
        return cls(cache, share, low, high, detail.numpy())


class Sampler:
    """Random patches, each the most detailed of a few candidates, flipped and turned.

    Candidates compete within their pool only. Rendered pictures are so much harder than
    photographs that in one pool they would win almost every choice.

    Args:
        pools: where patches come from.
        scale: of the pairs.
        patch: side in low-resolution pixels.
        choices: candidates for each patch.
        gray_share: of the patches that lose their colours, on both sides.
    """

    def __init__(
        self, pools: list[Pool], scale: int, patch: int, choices: int, gray_share: float = 0.0
    ) -> None:
        self._pools, self._scale, self._choices = pools, scale, choices
        self._gray_share = gray_share
        self._shares = np.array([pool.share for pool in pools]) / sum(p.share for p in pools)
        device = pools[0].low.device
        self._low_grid = _grids(patch, device)
        self._high_grid = _grids(patch * scale, device)
        self._luma = torch.tensor([0.299, 0.587, 0.114], device=device)  # BT.601

    def batch(self, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Low and high patches, (size, 3, h, w) float32 in [0, 1], in channels-last memory."""
        chosen = rng.choice(len(self._pools), p=self._shares, size=size)
        chances = rng.random((5, size, self._choices))
        parts = []
        for index, pool in enumerate(self._pools):
            mine = chosen == index
            if mine.any():
                drawn = _draw(pool, chances[:, mine])
                parts.append((self._take(pool, drawn), mine))
        order = torch.from_numpy(np.argsort(np.concatenate([np.flatnonzero(m) for _, m in parts])))
        low, high = (torch.cat([pair[side] for pair, _ in parts]) for side in (0, 1))
        order = _moved(order, low.device)
        low, high = (side[order].float().div_(255) for side in (low, high))
        if not self._gray_share:
            return low, high
        gray = _moved(torch.from_numpy(rng.random(size) < self._gray_share), low.device)
        return self._without_colour(low, gray), self._without_colour(high, gray)

    def _take(self, pool: Pool, drawn: _Ints) -> tuple[Tensor, Tensor]:
        places = _moved(torch.from_numpy(drawn), pool.low.device)
        return (
            _gather(pool.low, places, self._low_grid, 1),
            _gather(pool.high, places, self._high_grid, self._scale),
        )

    def _without_colour(self, pictures: Tensor, chosen: Tensor) -> Tensor:
        """The luma of the ``chosen`` of (N, 3, h, w), in all three channels."""
        gray = torch.einsum("nchw,c->nhw", pictures, self._luma)[:, None]
        return torch.where(chosen[:, None, None, None], gray, pictures)


def _moved(values: Tensor, device: torch.device) -> Tensor:
    """``values``, which are on the host, on ``device``."""
    if device.type == "cpu":
        return values
    return values.pin_memory().to(device, non_blocking=True)


def _draw(pool: Pool, chances: NDArray[np.float64]) -> _Ints:
    """The best candidates; ``chances`` is (5, patches, candidates) in [0, 1).

    Returns:
        (5, patches): item, frame, row and column where a patch begins, and which way it is turned.
    """
    counts = (len(pool.low), pool.low.shape[1], *pool.detail.shape[1:], _WAYS)
    items, frames, rows, columns, ways = (
        (chance * count).astype(np.int64) for chance, count in zip(chances, counts, strict=True)
    )
    best = pool.detail[items, rows, columns].argmax(axis=1)[:, None]

    def pick(values: _Ints) -> _Ints:
        return np.take_along_axis(values, best, axis=1)[:, 0]

    return np.stack(
        [pick(items), pick(frames), pick(rows) * GRID, pick(columns) * GRID, pick(ways)]
    )


def _grids(side: int, device: torch.device) -> Tensor:
    """(8, 2, side, side): row and column of every pixel of a patch, turned in the eight ways."""
    plain = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    turned = [torch.rot90(plain, turns, (1, 2)) for turns in range(4)]
    return torch.stack([*turned, *(grid.flip(2) for grid in turned)]).to(device)


def _gather(pixels: Tensor, places: Tensor, grids: Tensor, scale: int) -> Tensor:
    """(patches, 3, side, side) uint8 out of (items, frames, 3, H, W), as drawn."""
    item, frame, top, left = places[:4, :, None, None]
    grid = grids[places[4]]
    rows = grid[:, 0] + scale * top
    columns = grid[:, 1] + scale * left
    # Indices on both sides of the colours put the colours last.
    return pixels[item, frame, :, rows, columns].permute(0, 3, 1, 2)
