"""From photographs and rendered pictures to what caches hold: clean tiles, and degraded sequences.

Note [Sharp truth]: photographs that were made smaller are sharper than as they are, and free of
JPEG's blocks; rendered pictures have edges that photographs lack. The recipe says how much of each.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pictures import load, look, reduce_bicubic, reduce_to, render
from torch import Tensor

from training.cache import Item, Items
from training.degrade import degrade
from training.motion import Path as Track
from training.motion import draw_path, moving_crop
from training.recipe import Recipe

__all__ = ["SUFFIXES", "picture_files", "plan_pools", "plan_validation"]

SUFFIXES = (".jpg", ".jpeg", ".png")
_RENDERED_SIZE = 512
_VERSION = 3
"""Of the code that makes items: another one makes other bytes."""
_UPRIGHT = " upright, 16 bits, on white"
"""Behind the digests of pictures that earlier versions read wrongly: their caches are others."""
_SPEED = 5.0
"""Pixels a frame of the sharp picture, at most."""


@dataclass(frozen=True, slots=True)
class _Stills:
    """Pictures of one kind, by number."""

    name: str
    share: float
    sizes: list[tuple[int, int]]
    """(height, width)."""
    load: Callable[[int], Tensor]
    about: list[str]
    """Digests of the files, or what else says which pictures these are."""


def _photographs(files: Sequence[Path], share: float, size: float = 1.0) -> _Stills:
    """Photographs at ``size`` times their own."""
    looks = [look(file) for file in files]
    sizes = [(int(height * size), int(width * size)) for (height, width), _ in looks]

    def read(index: int) -> Tensor:
        picture = load(files[index])
        return picture if size == 1 else reduce_to(picture, *sizes[index])

    about = [
        hashlib.sha256(file.read_bytes()).hexdigest() + (_UPRIGHT if special else "")
        for file, (_, special) in zip(files, looks, strict=True)
    ]
    name = {1.0: "photographs", 0.5: "reduced"}.get(size, f"reduced-{size:g}")
    return _Stills(name, share, sizes, read, about)


def _rendered(recipe: Recipe) -> _Stills:
    pictures: list[Tensor] = []

    def read(index: int) -> Tensor:
        if not pictures:
            pictures.extend(render(recipe.rendered, _RENDERED_SIZE, recipe.seed))
        return pictures[index]

    sizes = [(_RENDERED_SIZE, _RENDERED_SIZE)] * recipe.rendered
    return _Stills("rendered", recipe.rendered_share, sizes, read,
                   [f"{recipe.rendered} with seed {recipe.seed}"])  # fmt: skip


def _kinds(recipe: Recipe, data: Path) -> list[_Stills]:
    files = picture_files(data / recipe.photographs)
    plain = 1 - recipe.rendered_share - recipe.reduced_share
    each = recipe.reduced_share / len(recipe.reductions)
    found = [_photographs(files, plain)]
    found += [_photographs(files, each, size) for size in recipe.reductions if each]
    return [kind for kind in (*found, _rendered(recipe)) if kind.share > 0 and kind.sizes]


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder, in order of their names.

    Raises:
        SystemExit: there are none.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise SystemExit(f"no pictures in {folder}")
    return files


def plan_pools(recipe: Recipe, data: Path) -> dict[str, tuple[Items, float]]:
    """What to draw patches from: for each pool its items and its share of all patches.

    Raises:
        SystemExit: there are no photographs, or none that is large enough.
    """
    kinds = _kinds(recipe, data)
    if recipe.degradation == "video":
        return {"video": (_sequences(recipe, kinds, recipe.clips, recipe.frames), 1.0)}
    return {kind.name: (_tiles(recipe, kind), kind.share) for kind in kinds}


def plan_validation(recipe: Recipe, data: Path) -> Items | None:
    """Sequences of the validation pictures, a few frames of each; None for clean trainings."""
    if recipe.degradation != "video":
        return None
    kind = _photographs(picture_files(data / recipe.validation), 1.0)
    return _sequences(recipe, [kind], len(kind.sizes), 2, salt=1)


# Clean tiles.


def _tiles(recipe: Recipe, kind: _Stills) -> Items:
    """Pictures cut into tiles: of a whole picture's reduction, so that no tile has borders."""
    tile, scale = recipe.tile, recipe.scale
    places = [
        (index, top, left)
        for index, (height, width) in enumerate(kind.sizes)
        for top in _starts(height // scale, tile)
        for left in _starts(width // scale, tile)
    ]
    if not places:
        raise SystemExit(f"no picture of {kind.name} is as large as a tile ({tile * scale})")

    @lru_cache(maxsize=1)
    def pair(index: int) -> tuple[Tensor, Tensor]:
        picture = kind.load(index)
        return reduce_bicubic(picture, scale), picture

    def make(number: int) -> Item:
        index, top, left = places[number]
        low, high = pair(index)
        return (_cut(low, top, left, tile), _cut(high, top * scale, left * scale, tile * scale))

    return Items(len(places), 1, tile, scale, make, _about(recipe, [kind]))


def _starts(length: int, tile: int) -> list[int]:
    """Where tiles begin: as few as cover the length, the last one flush with its end."""
    if length < tile:
        return []
    count = -(-length // tile)
    return [round(index * (length - tile) / max(1, count - 1)) for index in range(count)]


def _cut(picture: Tensor, top: int, left: int, size: int) -> Tensor:
    return picture[None, :, top : top + size, left : left + size]


# Sequences.


def _sequences(
    recipe: Recipe, kinds: list[_Stills], count: int, frames: int, *, salt: int = 0
) -> Items:
    """Moving crops of random pictures, degraded; each from its own generator."""
    settings, scale, tile = recipe.degrading(), recipe.scale, recipe.tile
    shares = np.array([kind.share for kind in kinds]) / sum(kind.share for kind in kinds)

    def make(number: int) -> Item:
        rng = np.random.default_rng((recipe.seed, salt, number))
        kind = kinds[int(rng.choice(len(kinds), p=shares))]
        still = kind.load(int(rng.integers(len(kind.sizes))))
        longest = 2 * frames
        track = _liveliest(still, tile * scale, longest * settings.rate, recipe.choices, rng)
        low, high, _ = degrade(moving_crop(still, track), scale, settings, rng)
        kept = np.linspace(0, longest - 1, frames).round().astype(int)
        return low[kept].contiguous(), high[kept].contiguous()

    return Items(count, frames, tile, scale, make, _about(recipe, kinds))


def _liveliest(
    still: Tensor, size: int, frames: int, choices: int, rng: np.random.Generator
) -> Track:
    """Of a few random paths the one that crosses most detail."""
    height, width = still.shape[-2:]
    speed = _SPEED * float(rng.random()) ** 2 + 0.1
    tracks = [draw_path((height, width), size, frames, speed, rng) for _ in range(choices)]
    return max(tracks, key=lambda track: _roughness(still, track))


def _roughness(still: Tensor, track: Track) -> float:
    middle = len(track.zoom) // 2
    top, left = int(track.rows[middle]), int(track.columns[middle])
    seen = still[1, top : top + track.size : 2, left : left + track.size : 2].float()
    return float((seen[1:] - seen[:-1]).abs().mean() + (seen[:, 1:] - seen[:, :-1]).abs().mean())


def _about(recipe: Recipe, kinds: list[_Stills]) -> dict[str, Any]:
    """Everything that decides what items are."""
    digest = hashlib.sha256("\n".join(line for kind in kinds for line in kind.about).encode())
    about: dict[str, Any] = {
        "version": _VERSION, "scale": recipe.scale, "tile": recipe.tile, "seed": recipe.seed,
        "stills": [[kind.name, round(kind.share, 6), len(kind.sizes)] for kind in kinds],
        "sha256 of their digests": digest.hexdigest(),
    }  # fmt: skip
    if recipe.degradation == "video":
        about |= {"clips": recipe.clips, "frames": recipe.frames, "choices": recipe.choices,
                  "video": asdict(recipe.degrading())}  # fmt: skip
    return about
