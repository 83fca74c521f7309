"""Pairs of pictures on disk, as arrays that are mapped into memory: made once, drawn from at will.

A cache is a folder: ``low.npy`` and ``high.npy`` (items, frames, 3, H, W) uint8, ``detail.npy``
(items, H / 8, W / 8) float32, and ``about.json``. An item is a short sequence, or one tile of a
picture. Every item is made from the seed and its number alone, so that making them may stop and
go on, and ends with the same bytes. One process makes them; others that want the same cache wait.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from pictures import reduce_bicubic
from torch import Tensor

from vsr.resample import resize

__all__ = ["GRID", "Cache", "Items", "detail_of", "make_cache"]

GRID = 8
"""Low-resolution pixels between places where a patch may begin."""
_SAVE_EVERY = 20

Item = tuple[Tensor, Tensor]
"""Low (frames, 3, H, W) and high (frames, 3, scale * H, scale * W), uint8."""


@dataclass(frozen=True, slots=True)
class Items:
    """What a cache is to hold."""

    count: int
    frames: int
    tile: int
    """Side of a low picture."""
    scale: int
    make: Callable[[int], Item]
    """Makes an item from its number; the same each time."""
    about: dict[str, Any]
    """Everything that decides what ``make`` makes; a cache of something else is not used."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A finished cache."""

    low: NDArray[np.uint8]
    high: NDArray[np.uint8]
    detail: NDArray[np.float32]
    """How much a bicubic enlargement of the clean reduction lacks, in cells of 8 x 8."""

    @classmethod
    def open(cls, folder: Path) -> "Cache":
        """Map the arrays of ``folder``; what is written to them stays in memory."""
        low, high, detail = (
            np.load(folder / f"{name}.npy", mmap_mode="c") for name in ("low", "high", "detail")
        )
        return cls(low, high, detail)


def make_cache(folder: Path, items: Items, on_item: Callable[[int], None]) -> Cache:
    """The cache in ``folder``, made or completed if need be.

    Args:
        folder: where it is or shall be.
        items: what it holds.
        on_item: called after each item that had to be made, with its number.

    Raises:
        SystemExit: the folder holds a cache of something else.
    """
    if _done(folder, items) < items.count:
        with _alone_in(folder):
            _complete(folder, items, on_item)
    return Cache.open(folder)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process completes the cache in ``folder``, and keep others waiting."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _complete(folder: Path, items: Items, on_item: Callable[[int], None]) -> None:
    done = _done(folder, items)
    if done == items.count:  # by the process that was waited for
        return
    arrays = _open_arrays(folder, items, new=done == 0)
    for index in range(done, items.count):
        low, high = items.make(index)
        arrays[0][index], arrays[1][index] = low.numpy(), high.numpy()
        arrays[2][index] = detail_of(high, items.scale)
        if (index + 1) % _SAVE_EVERY == 0 or index + 1 == items.count:
            for array in arrays:
                array.flush()
            _write_about(folder, items, index + 1)
        on_item(index)


def _done(folder: Path, items: Items) -> int:
    """How many items are finished."""
    path = folder / "about.json"
    if not path.exists():
        return 0
    about = json.loads(path.read_text())
    if about["about"] != _plain(items.about):
        raise SystemExit(f"{folder}: holds what another recipe made; remove it, or name another")
    return int(about["done"])


def _write_about(folder: Path, items: Items, done: int) -> None:
    text = json.dumps({"done": done, "about": items.about}, indent=1)
    part = folder / "about.tmp"
    part.write_text(text)
    os.replace(part, folder / "about.json")


def _plain(about: dict[str, Any]) -> object:
    """``about`` as JSON gives it back."""
    return json.loads(json.dumps(about))


def _open_arrays(
    folder: Path, items: Items, *, new: bool
) -> tuple["np.memmap[Any, Any]", "np.memmap[Any, Any]", "np.memmap[Any, Any]"]:
    side, cells = items.tile, items.tile // GRID
    mode: Any = "w+" if new else "r+"

    def array(name: str, dtype: type, shape: tuple[int, ...]) -> "np.memmap[Any, Any]":
        return open_memmap(folder / f"{name}.npy", mode, dtype, (items.count, *shape))

    large = side * items.scale
    return (
        array("low", np.uint8, (items.frames, 3, side, side)),
        array("high", np.uint8, (items.frames, 3, large, large)),
        array("detail", np.float32, (cells, cells)),
    )


def detail_of(high: Tensor, scale: int) -> NDArray[np.float32]:
    """What bicubic enlargement of its clean reduction cannot bring back of the first picture.

    Args:
        high: (frames, 3, scale * H, scale * W) uint8.
        scale: of the reduction.

    Returns:
        (H / 8, W / 8) mean absolute difference in each cell of 8 x 8 low-resolution pixels.
    """
    first = high[0]
    enlarged = resize(reduce_bicubic(first, scale), first.shape[-2], first.shape[-1], "bicubic")
    lost = (enlarged - first).abs_().mean(0, keepdim=True)
    cells = torch.nn.functional.avg_pool2d(lost[None], GRID * scale)[0, 0]
    found: NDArray[np.float32] = cells.numpy()
    return found
