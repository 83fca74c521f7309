"""Pictures for training and evaluation: photographs, rendered ones, and their reductions."""

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from vsr.resample import resize

Rgb = tuple[int, int, int]
_SUPERSAMPLING = 3
_TEXT = (
    "Lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut "
    "labore et dolore magna aliqua 0123456789 & (VIDEO) [restored] {1895-1999} #42 @ 24.00 fps?!"
)


_ORIENTATION = 0x112
"""The tag of EXIF: 1 is upright, from 5 on the sides are exchanged."""
_UNREADABLE = (
    OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


def load(path: Path) -> Tensor:
    """An image file as (3, H, W) uint8 RGB: upright, 16 bits rounded to 8, on white.

    Raises:
        SystemExit: it cannot be read, or has more than 16 bits.
    """
    with _reading(path) as image:
        if image.mode in ("I", "F"):
            raise SystemExit(f"{path}: pixels of 32 bits are not read")
        pixels = np.array(_plain(ImageOps.exif_transpose(image)))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def load_pair(low: Path, high: Path, scale: int) -> tuple[Tensor, Tensor]:
    """A reduced picture and the one it was made of, (3, H, W) uint8, the latter cropped to fit.

    Raises:
        SystemExit: one cannot be read, or they are no pair.
    """
    small, large = load(low), load(high)
    height, width = (side * scale for side in small.shape[-2:])
    if height > large.shape[-2] or width > large.shape[-1]:
        sizes = f"{width}x{height}, the picture {large.shape[-1]}x{large.shape[-2]}"
        raise SystemExit(f"{low}: {scale} times as large it is {sizes}")
    return small, large[:, :height, :width]


def look(path: Path) -> tuple[tuple[int, int], bool]:
    """What an image file is, without reading its pixels.

    Returns:
        (height, width) as :func:`load` gives them, and whether it is turned, transparent or of
        other than 8 bits.

    Raises:
        SystemExit: it cannot be read.
    """
    with _reading(path) as image:
        turned = image.getexif().get(_ORIENTATION, 1)
        special = image.has_transparency_data or image.mode.startswith(("I", "F"))
        size = (image.width, image.height) if turned in range(5, 9) else (image.height, image.width)
        return size, special or turned in range(2, 9)


@contextmanager
def _reading(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except _UNREADABLE as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else "damaged"
        raise SystemExit(f"{path}: no readable picture ({words})") from error


def _plain(image: Image.Image) -> Image.Image:
    """``image`` in RGB; Pillow's own conversion clips 16 bits at 255, and shows what is hidden."""
    if image.mode.startswith("I;16"):
        codes = np.array(image).astype(np.uint32)
        image = Image.fromarray(((codes * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def to_uint8(picture: Tensor) -> Tensor:
    """[0, 255] floats to uint8, halves rounded up as MATLAB does."""
    return picture.add(0.5).floor_().clamp_(0, 255).to(torch.uint8)


def reduce_bicubic(picture: Tensor, scale: int) -> Tensor:
    """(C, H, W) uint8 reduced as MATLAB's ``imresize(…, 1/scale, 'bicubic')`` does on uint8.

    MATLAB rounds to 8 bits between the two axes; so does this.
    """
    height, width = (side // scale for side in picture.shape[-2:])
    return reduce_to(picture[:, : height * scale, : width * scale], height, width)


def reduce_to(picture: Tensor, height: int, width: int) -> Tensor:
    """(C, H, W) uint8 at another size, reduced as :func:`reduce_bicubic` does it."""
    halfway = to_uint8(resize(picture, height, picture.shape[-1], "bicubic"))
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
