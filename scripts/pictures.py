"""Pictures for training and evaluation: photographs, rendered ones, and their reductions."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vsr.resample import resize

Rgb = tuple[int, int, int]
_SUPERSAMPLING = 3
_TEXT = (
    "Lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut "
    "labore et dolore magna aliqua 0123456789 & (VIDEO) [restored] {1895-1999} #42 @ 24.00 fps?!"
)


def load(path: Path) -> Tensor:
    """An image file as (3, H, W) uint8 RGB."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def to_uint8(picture: Tensor) -> Tensor:
    """[0, 255] floats to uint8, halves rounded up as MATLAB does."""
    return picture.add(0.5).floor_().clamp_(0, 255).to(torch.uint8)


def reduce_bicubic(picture: Tensor, scale: int) -> Tensor:
    """(C, H, W) uint8 reduced as MATLAB's ``imresize(…, 1/scale, 'bicubic')`` does on uint8.

    MATLAB rounds to 8 bits between the two axes; so does this.
    """
    height, width = (side // scale for side in picture.shape[-2:])
    cropped = picture[:, : height * scale, : width * scale]
    halfway = to_uint8(resize(cropped, height, width * scale, "bicubic"))
    return to_uint8(resize(halfway, height, width, "bicubic"))


# Rendered pictures: sharp edges, text and regular patterns, which photographs hold little of.


def _colour(rng: np.random.Generator) -> Rgb:
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    return red, green, blue


def _palette(rng: np.random.Generator) -> tuple[Rgb, Rgb]:
    """Two colours that differ enough to be told apart."""
    while True:
        paper, ink = _colour(rng), _colour(rng)
        if sum(abs(a - b) for a, b in zip(paper, ink, strict=True)) > 120:
            return paper, ink


def _text(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator, ink: Rgb) -> None:
    y = 0.0
    while y < size:
        height = int(rng.integers(9, 40)) * _SUPERSAMPLING
        words = " ".join(str(rng.choice(_TEXT.split())) for _ in range(24))
        font = ImageFont.load_default(size=height)
        draw.text((-float(rng.integers(0, 200)), y), words, fill=ink, font=font)
        y += height * 1.25


def _lines(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator, ink: Rgb) -> None:
    for index in range(60):
        points = [(float(x), float(y)) for x, y in rng.uniform(-0.1, 1.1, (3, 2)) * size]
        width = int(rng.integers(1, 6)) * _SUPERSAMPLING
        colour = ink if index % 2 else _colour(rng)
        if index % 5 == 0:
            box = sorted(v[0] for v in points[:2]) + sorted(v[1] for v in points[:2])
            draw.ellipse((box[0], box[2], box[1], box[3]), outline=colour, width=width)
        elif index % 7 == 0:
            draw.polygon(points, fill=colour, outline=ink, width=width)
        else:
            draw.line(points, fill=colour, width=width, joint="curve")


def _pattern(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator, ink: Rgb) -> None:
    """Stripes or dots of a random period in each cell of a grid."""
    cell = size // 4
    for left in range(0, size, cell):
        for top in range(0, size, cell):
            step = int(rng.integers(3, 16)) * _SUPERSAMPLING
            angle = float(rng.uniform(0, math.pi))
            along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
            for offset in range(-cell, cell, step):
                x = left + cell / 2 + offset * across[0]
                y = top + cell / 2 + offset * across[1]
                ends = [(x + s * cell * along[0] / 2, y + s * cell * along[1] / 2) for s in (-1, 1)]
                draw.line(ends, fill=ink, width=max(1, step // 2))


_DRAWERS: tuple[Callable[[ImageDraw.ImageDraw, int, np.random.Generator, Rgb], None], ...] = (
    _text,
    _lines,
    _pattern,
)


def render(count: int, size: int, seed: int) -> Iterator[Tensor]:
    """Yield ``count`` pictures, (3, size, size) uint8: text, line art and patterns in turn."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        paper, ink = _palette(rng)
        large = size * _SUPERSAMPLING
        image = Image.new("RGB", (large, large), paper)
        _DRAWERS[index % len(_DRAWERS)](ImageDraw.Draw(image), large, rng, ink)
        small = image.resize((size, size), Image.Resampling.LANCZOS)
        yield torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()


# Pairs of patches.


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture, its reduction, and how much the reduction lost around each place."""

    high: Tensor
    """(3, scale * H, scale * W) uint8."""
    low: Tensor
    """(3, H, W) uint8."""
    detail: NDArray[np.float32]
    """Mean loss in the patch whose corner is at each multiple of ``_GRID``."""


_GRID = 8


def make_pair(picture: Tensor, scale: int, patch: int) -> Pair:
    """Reduce ``picture`` and measure where bicubic enlargement cannot bring it back."""
    low = reduce_bicubic(picture, scale)
    height, width = low.shape[-2:]
    high = picture[:, : height * scale, : width * scale].contiguous()
    enlarged = resize(low, high.shape[-2], high.shape[-1], "bicubic")
    lost = (enlarged - high).abs_().mean(0, keepdim=True)
    window, step = patch * scale, _GRID * scale
    detail = torch.nn.functional.avg_pool2d(lost[None], window, step)[0, 0]
    return Pair(high, low, detail.numpy())


class Pool:
    """Pairs that are drawn from by area, and the share of all patches that they provide."""

    def __init__(self, pairs: list[Pair], share: float) -> None:
        self.pairs, self.share = pairs, share
        areas = np.array([pair.low[0].numel() for pair in pairs], dtype=np.float64)
        self._chances = areas / areas.sum()

    def candidate(self, rng: np.random.Generator) -> tuple[float, int, int, int]:
        """A random patch: how detailed it is, its pair's index, its row and column."""
        index = int(rng.choice(len(self.pairs), p=self._chances))
        detail = self.pairs[index].detail
        row, column = (int(rng.integers(side)) for side in detail.shape)
        return float(detail[row, column]), index, row * _GRID, column * _GRID


class PatchSampler:
    """Random patches, each the most detailed of a few candidates, flipped and turned.

    Candidates compete within their pool only. Rendered pictures are so much harder than
    photographs that in one pool they would win almost every choice.
    """

    def __init__(self, pools: list[Pool], scale: int, patch: int, choices: int) -> None:
        self._pools, self._scale, self._patch, self._choices = pools, scale, patch, choices
        self._shares = [pool.share for pool in pools]

    def batch(self, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Low and high patches, (size, 3, h, w) float32 in [0, 1]."""
        drawn = [self._draw(rng) for _ in range(size)]
        low, high = (torch.stack(side) for side in zip(*drawn, strict=True))
        return low.float().div_(255), high.float().div_(255)

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        pool = self._pools[int(rng.choice(len(self._pools), p=self._shares))]
        _, index, row, column = max(pool.candidate(rng) for _ in range(self._choices))
        pair, patch, scale = pool.pairs[index], self._patch, self._scale
        low = pair.low[:, row : row + patch, column : column + patch]
        row, column, patch = row * scale, column * scale, patch * scale
        high = pair.high[:, row : row + patch, column : column + patch]
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        return _turn(low, turns, flip=flip), _turn(high, turns, flip=flip)


def _turn(patch: Tensor, turns: int, *, flip: bool) -> Tensor:
    turned = torch.rot90(patch, turns, (1, 2))
    return turned.flip(2) if flip else turned
